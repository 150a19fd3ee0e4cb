"""`streamrec evaluate diversity`: what diversity and exploration cost in hits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import measuring, shop_log
from stream.cli.options import say

if TYPE_CHECKING:
    from rich.console import RenderableType


def diversity(
    events: shop_log.Events,
    start: measuring.From,
    end: measuring.To = None,
    every: measuring.Every = 1,
    at: measuring.At = 20,
    policy: measuring.PolicyFile = None,
    warm_up: measuring.WarmUp = 35_000,
    seed: measuring.Seed = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write the curve as PNG.", dir_okay=False)
    ] = None,
    json: measuring.JsonFile = None,
) -> None:
    """Measure the hit rate against the diversity of lists, for MMR and DPP, and what exploration costs.

    One replay as of `streamrec evaluate next-item`; each list is composed with every strength from the same
    candidates and scores, so all differences are paired.

    \b
    Example:
      streamrec evaluate diversity --events ../shared/data/online_retail/events.csv.gz \\
        --from 2011-06-01 --to 2011-09-01 --every 8 --plot curve.png --json curve.json
    """
    shop_log.one_thread()
    from stream.evaluation import diversity_curve
    from stream.evaluation.next_item import seed_of
    from stream.evaluation.policies import Policies

    window = measuring.window_of(start, end, every, at)
    chosen = measuring.policy_of(policy)
    ranking = measuring.ranking_of(True, seed)
    tried = Policies(diversity_curve.policies(chosen), at, seed_of)
    with shop_log.reading(events, format, columns, cache, chosen) as log:
        measured = measuring.measure(log, window, ranking, chosen, warm_up, watch=tried.watch)
    found = {
        **diversity_curve.figures(tried.figures(seed), diversity_curve.STRENGTHS),
        "lists": len(measured.asked.sessions),
        "ranking": measured.ranking,
        **measuring.about(log, window),
    }
    if plot is not None:
        diversity_curve.plot(found, at, plot)
        say(f"wrote {plot}")
    measuring.give(found, json, _tables)


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
