"""`streamrec evaluate compare`: two policies on the same replay, paired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli import measuring, shop_log

Policy = Annotated[
    Path,
    typer.Argument(metavar="POLICY.toml", help="TOML with a section [policy].", exists=True, dir_okay=False),
]


def compare(
    first: Policy,
    second: Policy,
    events: shop_log.Events,
    start: measuring.From,
    end: measuring.To = None,
    every: measuring.Every = 1,
    at: measuring.At = 20,
    warm_up: measuring.WarmUp = 35_000,
    seed: measuring.Seed = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    json: measuring.JsonFile = None,
) -> None:
    """Measure two policies on the same log, and by how much the second is better, with intervals.

    Each policy makes its own lists and learns from its own candidates, as two shops would, see `streamrec
    evaluate next-item`. Differences are taken list by list, so that they are much surer than the figures.

    \b
    Example:
      printf '[policy]\\nmax_per_category = 4\\n' > varied.toml
      printf '[policy]\\n' > default.toml
      streamrec evaluate compare default.toml varied.toml --from 2011-06-01 --every 8 \\
        --events ../shared/data/online_retail/events.csv.gz
    """
    shop_log.one_thread()
    from stream.evaluation import report
    from stream.evaluation.compare import compared

    window = measuring.window_of(start, end, every, at)
    policies = {str(path): measuring.policy_of(path) for path in (first, second)}
    if len(policies) < 2:
        raise typer.BadParameter(f"{first} is both policies; give two files")
    gaps = {policy.session_gap_minutes for policy in policies.values()}
    if len(gaps) > 1:
        raise typer.BadParameter(
            "the policies differ in session_gap_minutes, by which the log is cut into sessions; "
            "give both the same"
        )
    with shop_log.reading(events, format, columns, cache, policies[str(first)]) as log:
        runs = {
            name: measuring.measure(log, window, measuring.ranking_of(True, seed), policy, warm_up)
            for name, policy in policies.items()
        }
    measuring.give({**compared(runs, seed), **measuring.about(log, window)}, json, report.compared)
