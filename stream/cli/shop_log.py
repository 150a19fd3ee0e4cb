"""A shop's log on the command line: the options that name it, and how it is read with its texts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import say

if TYPE_CHECKING:
    from stream.core.policy import Policy
    from stream.evaluation.log import BadRows
    from stream.evaluation.sessions import Session
    from stream.evaluation.text_vectors import TextVectors

Events = Annotated[
    list[Path],
    typer.Option(
        "--events",
        metavar="FILE",
        help="The log, CSV (perhaps gzipped) or Parquet; several are joined.",
        exists=True,
        dir_okay=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="online-retail, csv or parquet; else detected.",
        show_default=False,
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="NAME=COLUMN,...",
        help="Which column is the user, item, time, type, text, session, price; else by common names.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Where vectors of texts are remembered; else ~/.cache/streamrec/evaluation.",
        show_default=False,
        file_okay=False,
    ),
]

Step = Callable[[str, int | None], Callable[[int], None]]
"""Begins a part of the work, with its amount; the function it gives takes the amount done."""


@dataclass(frozen=True)
class ShopLog:
    """A log that was read, and the vectors of its texts; `step` begins the next part of the work on it."""

    files: list[Path]
    sessions: list[Session]
    bad: BadRows
    vectors: TextVectors
    step: Step
    began_s: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """How long the work has taken."""
        return round(time.monotonic() - self.began_s, 1)


@contextmanager
def reading(
    files: list[Path], format: str | None, columns: str, cache: Path | None, policy: Policy
) -> Iterator[ShopLog]:
    """Read a log and the vectors of its texts, with progress bars while it is worked on.

    In the end it is said how many rows could not be used, and why.
    """
    began_s = time.monotonic()
    with progress_bars() as step:
        sessions, bad = _sessions(files, format, columns, policy, step)
        yield ShopLog(files, sessions, bad, _vectors(sessions, cache, step), step, began_s)
    if bad.count:
        say(f"left out {bad.count.total()} rows:")
        for line in bad.lines():
            say(line)


def one_thread() -> None:
    """Small products are fastest on one thread, and on one their sums always have the same order.

    It must be called before NumPy is imported.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def time_of(text: str, option: str) -> int:
    """A time that a user wrote, in epoch ms."""
    from stream.evaluation.log import parse_time

    at_ms = parse_time(text)
    if at_ms is None:
        raise typer.BadParameter(
            f"{text!r} is not a time, such as 2011-06-01 or 2011-06-01T08:30", param_hint=option
        )
    return at_ms


@contextmanager
def progress_bars() -> Iterator[Step]:
    """One bar for each part of the work, on stderr; none where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:

        def step(title: str, total: int | None) -> Callable[[int], None]:
            task = progress.add_task(title, total=total)
            return lambda done: progress.update(task, completed=done)

        yield step


def _sessions(
    files: list[Path], format: str | None, columns: str, policy: Policy, step: Step
) -> tuple[list[Session], BadRows]:
    from stream.evaluation.log import BadRows, Format, parse_columns, read_log

    try:
        mapping = parse_columns(columns)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--columns") from None
    if format is not None and format not in list(Format):
        raise typer.BadParameter(f"{format!r} is none of {', '.join(Format)}", param_hint="--format")
    bad = BadRows()
    size = sum(path.stat().st_size for path in files)
    progress = step("reading", size)
    sessions = read_log(
        files,
        bad,
        format=None if format is None else Format(format),
        columns=mapping,
        policy=policy,
        progress=progress,
    )
    progress(size)
    return sessions, bad


def _vectors(sessions: list[Session], cache: Path | None, step: Step) -> TextVectors:
    from stream.evaluation.sessions import texts
    from stream.evaluation.text_vectors import text_vectors
    from stream.local.cache import cache_folder

    found = texts(sessions)
    made = text_vectors(found, cache or cache_folder() / "evaluation", progress=step("encoding", len(found)))
    if made.missing:
        say(f"going on without texts: {made.missing}")
    return made
