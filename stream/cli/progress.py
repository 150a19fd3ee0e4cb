"""A progress bar on stderr, and what was skipped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream.cli.options import say

REASONS_SHOWN = 20


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Show a bar while the block runs; the function it gives takes the amount done and a note."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=False,
        redirect_stdout=False,
    ) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda done, note: progress.update(task, completed=done, note=note)
        if total is not None:
            progress.update(task, completed=total)


def say_skipped(skipped: Counter[str]) -> None:
    """Say how many lines were skipped, by reason."""
    if not skipped:
        return
    say(f"skipped {skipped.total()} lines:")
    shown = skipped.most_common(REASONS_SHOWN)
    for reason, count in shown:
        say(f"  {count:>8}  {reason}")
    if len(skipped) > REASONS_SHOWN:
        say(f"  {skipped.total() - sum(count for _, count in shown):>8}  for other reasons")
