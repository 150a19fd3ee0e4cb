"""`streamrec evaluate fidelity`: whether reasons are what they say."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import evaluate
from stream.cli.evaluate import (
    At,
    Cache,
    Columns,
    Events,
    Every,
    FormatOption,
    From,
    JsonFile,
    Seed,
    To,
    WarmUp,
)
from stream.cli.evaluate_diversity import PolicyFile

if TYPE_CHECKING:
    from rich.console import RenderableType


def fidelity(
    events: Events,
    start: From,
    end: To = None,
    every: Every = 1,
    at: At = 20,
    reasons: Annotated[int, typer.Option("--reasons", min=1, help="Reasons drawn from each list.")] = 3,
    policy: PolicyFile = None,
    learning: Annotated[
        bool, typer.Option("--learning/--no-learning", help="Learn online; else the linear blend ranks.")
    ] = True,
    warm_up: WarmUp = 35_000,
    seed: Seed = 0,
    format: FormatOption = None,
    columns: Columns = "",
    cache: Cache = None,
    json: JsonFile = None,
) -> None:
    """Measure how often an item loses by it when the event that its reason names is thought away.

    One replay as of `streamrec evaluate next-item`. Of the lists of the window some reasons are drawn that
    name something the shopper did; each list is made again without it. A reason holds where its item then has
    a lower score, or is no longer in the list. Beside it: the same with another item thought away.

    \b
    Example:
      streamrec evaluate fidelity --events ../shared/data/online_retail/events.csv.gz \\
        --from 2011-06-01 --to 2011-09-01 --every 64 --json -
    """
    evaluate.one_thread()
    started_s = time.monotonic()
    from stream.evaluation import fidelity as measuring

    window = evaluate.window_of(start, end, every, at)
    chosen = evaluate.policy_of(policy)
    ranking = evaluate.ranking_of(None, learning, seed)
    tested = measuring.Fidelity(ranking, chosen, at, reasons, seed)
    with evaluate.progress_bars(sys.stderr.isatty()) as step:
        sessions, bad = evaluate.read_sessions(events, format, columns, chosen, step)
        vectors = evaluate.vectors_of(sessions, cache, step)
        evaluate.measure(
            sessions, vectors, window, ranking, chosen, warm_up, step, plain=False, watch=tested.watch
        )
    try:
        figures = measuring.figures(tested)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; choose another --from, --to or --every") from None
    found = {
        **figures,
        **evaluate.about(events, window, vectors, bad),
        "seconds": round(time.monotonic() - started_s, 1),
    }
    evaluate.write(found, json, _table)


def _table(found: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table("reasons", "sampled", "hold", "left the list", title=f"{found['lists']} lists")
    rows = {"all": found["fidelity"], **found["by_source"], "another item thought away": found["control"]}
    for name, row in rows.items():
        if row:
            held = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            table.add_row(name, str(row["sampled"]), held, f"{row['left_the_list']:.3f}")
    return table
