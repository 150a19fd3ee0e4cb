"""`streamrec evaluate diversity`: what diversity and exploration cost in hits."""

from __future__ import annotations

import sys
import time
from pathlib import Path
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
from stream.cli.options import say

if TYPE_CHECKING:
    from rich.console import RenderableType


PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="TOML with a section [policy].", exists=True, dir_okay=False
    ),
]


def diversity(
    events: Events,
    start: From,
    end: To = None,
    every: Every = 1,
    at: At = 20,
    policy: PolicyFile = None,
    warm_up: WarmUp = 35_000,
    seed: Seed = 0,
    format: FormatOption = None,
    columns: Columns = "",
    cache: Cache = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write the curve as PNG.", dir_okay=False)
    ] = None,
    json: JsonFile = None,
) -> None:
    """Measure the hit rate against the diversity of lists, for MMR and DPP, and what exploration costs.

    One replay as of `streamrec evaluate next-item`; each list is composed with every strength from the same
    candidates and scores, so all differences are paired.

    \b
    Example:
      streamrec evaluate diversity --events ../shared/data/online_retail/events.csv.gz \\
        --from 2011-06-01 --to 2011-09-01 --every 8 --plot curve.png --json curve.json
    """
    evaluate.one_thread()
    started_s = time.monotonic()
    from stream.evaluation import diversity_curve
    from stream.evaluation.next_item import Learnt, seed_of
    from stream.evaluation.policies import Policies

    window = evaluate.window_of(start, end, every, at)
    chosen = evaluate.policy_of(policy)
    tried = Policies(diversity_curve.policies(chosen), at, seed_of)
    with evaluate.progress_bars(sys.stderr.isatty()) as step:
        sessions, bad = evaluate.read_sessions(events, format, columns, chosen, step)
        vectors = evaluate.vectors_of(sessions, cache, step)
        ranking = Learnt(seed)
        measured = evaluate.measure(
            sessions, vectors, window, ranking, chosen, warm_up, step, plain=False, watch=tried.watch
        )
    found = {
        **diversity_curve.figures(tried.figures(seed), diversity_curve.STRENGTHS),
        "lists": len(measured.asked.sessions),
        "ranking": measured.ranking,
        **evaluate.about(events, window, vectors, bad),
        "seconds": round(time.monotonic() - started_s, 1),
    }
    if plot is not None:
        diversity_curve.plot(found, at, plot)
        say(f"wrote {plot}")
    evaluate.write(found, json, _tables)


def _tables(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    at = found["at"]
    table = Table(
        "", f"HR@{at}", f"MRR@{at}", "HR lost", "diversity", "coverage", title=f"{found['lists']} lists"
    )
    rows = [
        (f"{method}, strength {point['strength']:g}", point)
        for method, points in found["curves"].items()
        for point in points
    ]
    rows += [(f"explored: {name}", row) for name, row in found["exploration"].items()]
    for name, row in rows:
        lost = row["hr_lost"]
        table.add_row(
            name,
            f"{row[f'hr_at_{at}']['value']:.4f}",
            f"{row[f'mrr_at_{at}']:.4f}",
            f"{lost['value']:.2%} ({lost['low']:.2%} to {lost['high']:.2%})",
            f"{row['intra_list_diversity'] or 0:.3f}",
            f"{row['coverage']:.3f}",
        )
    within = ", ".join(f"{method} {one:g}" for method, one in found["strongest_within_1_percent"].items())
    return Group(table, f"strongest that costs at most 1 % of the hits: {within}")
