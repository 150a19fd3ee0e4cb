"""`streamrec evaluate compare`: two policies on the same replay, paired."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.cli import evaluate
from stream.cli.options import say

PolicyFile = Annotated[
    Path,
    typer.Argument(metavar="POLICY.toml", help="TOML with a section [policy].", exists=True, dir_okay=False),
]


def compare(
    first: PolicyFile,
    second: PolicyFile,
    events: evaluate.Events,
    start: evaluate.From,
    end: evaluate.To = None,
    every: evaluate.Every = 1,
    at: evaluate.At = 20,
    warm_up: evaluate.WarmUp = 35_000,
    seed: evaluate.Seed = 0,
    format: evaluate.FormatOption = None,
    columns: evaluate.Columns = "",
    cache: evaluate.Cache = None,
    json: evaluate.JsonFile = None,
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
    evaluate.one_thread()
    started_s = time.monotonic()
    from stream.evaluation.compare import compared
    from stream.evaluation.report import compared as table

    window = evaluate.window_of(start, end, every, at)
    policies = {str(path): evaluate.policy_of(path) for path in (first, second)}
    if len(policies) < 2:
        raise typer.BadParameter(f"{first} is both policies; give two files")
    gaps = {policy.session_gap_minutes for policy in policies.values()}
    if len(gaps) > 1:
        raise typer.BadParameter(
            "the policies differ in session_gap_minutes, by which the log is cut into sessions; "
            "give both the same"
        )
    with evaluate.progress_bars(sys.stderr.isatty()) as step:
        sessions, bad = evaluate.read_sessions(events, format, columns, policies[str(first)], step)
        vectors = evaluate.vectors_of(sessions, cache, step)
        runs = {
            name: evaluate.measure(
                sessions,
                vectors,
                window,
                evaluate.ranking_of(None, True, seed),
                policy,
                warm_up,
                step,
                plain=False,
            )
            for name, policy in policies.items()
        }
    found: dict[str, Any] = {
        **compared(runs, seed),
        **evaluate.about(events, window, vectors, bad),
        "seconds": round(time.monotonic() - started_s, 1),
    }
    for line in bad.lines():
        say(line)
    evaluate.write(found, json, table)
