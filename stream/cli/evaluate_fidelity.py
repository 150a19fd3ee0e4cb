"""`streamrec evaluate fidelity`: whether reasons are what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import measuring, shop_log

if TYPE_CHECKING:
    from rich.console import RenderableType


def fidelity(
    events: shop_log.Events,
    start: measuring.From,
    end: measuring.To = None,
    every: measuring.Every = 1,
    at: measuring.At = 20,
    reasons: Annotated[int, typer.Option("--reasons", min=1, help="Reasons drawn from each list.")] = 3,
    policy: measuring.PolicyFile = None,
    learning: measuring.Learning = True,
    warm_up: measuring.WarmUp = 35_000,
    seed: measuring.Seed = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    json: measuring.JsonFile = None,
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
    shop_log.one_thread()
    from stream.evaluation.fidelity import Fidelity, figures

    window = measuring.window_of(start, end, every, at)
    chosen = measuring.policy_of(policy)
    ranking = measuring.ranking_of(learning, seed)
    tested = Fidelity(ranking, chosen, at, reasons, seed)
    with shop_log.reading(events, format, columns, cache, chosen) as log:
        measuring.measure(log, window, ranking, chosen, warm_up, watch=tested.watch)
    try:
        found = figures(tested)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; choose another --from, --to or --every") from None
    measuring.give({**found, **measuring.about(log, window)}, json, _table)


def _table(found: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table("reasons", "sampled", "hold", "left the list", title=f"{found['lists']} lists")
    rows = {"all": found["fidelity"], **found["by_source"], "another item thought away": found["control"]}
    for name, row in rows.items():
        if row:
            held = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            table.add_row(name, str(row["sampled"]), held, f"{row['left_the_list']:.3f}")
    return table
