"""`streamrec evaluate off-policy`: what another policy would be worth, from logged lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import measuring, shop_log
from stream.cli.options import say

if TYPE_CHECKING:
    from rich.table import Table


def off_policy(
    log: Annotated[
        Path,
        typer.Option(
            "--log", metavar="FILE", help="Logged lists, one JSON object a line.", exists=True, dir_okay=False
        ),
    ],
    policy: Annotated[
        Path,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="TOML with a section [policy]: the policy to be evaluated.",
            exists=True,
            dir_okay=False,
        ),
    ],
    json: measuring.JsonFile = None,
) -> None:
    """Estimate what another policy of exploration would be worth, from lists that were shown and clicked.

    The log holds a line for each list: list_id, user_id, and its candidates best first, each with item_id,
    score, propensity (the probability with which the logged policy shows it, 0 where it never does), and
    where they apply shown, outcome (1 for a click), clicks, showings (before this list) and new. What the
    other policy would show follows from its list_length and its section [policy.exploration].

    Three estimates with intervals: inverse propensity scores, self-normalised, doubly robust; and how far to
    trust them. An item's outcome is taken not to depend on its place or its neighbours.

    \b
    Example:
      streamrec evaluate off-policy --log lists.jsonl --policy bolder.toml --json -
    """
    from stream.evaluation.off_policy import evaluated, figures
    from stream.evaluation.off_policy import read as read_lists

    other = measuring.policy_of(policy)
    with shop_log.progress_bars() as step:
        read = read_lists(log, other, step("reading", log.stat().st_size))
    found = {
        **figures(evaluated(read)),
        "lists": len(read.groups),
        "shoppers": int(read.groups.max()) + 1,
        "log": log.name,
        "policy": str(policy),
    }
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    measuring.give(found, json, _table)


def _table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("", "value of a list", title=f"{found['lists']} lists of {found['shoppers']} shoppers")
    names = {
        "logged": "as logged",
        "ips": "inverse propensities",
        "snips": "self-normalised",
        "dr": "doubly robust",
    }
    for name, title in names.items():
        one = found[name]
        table.add_row(title, f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})")
    table.add_row("effective items", f"{found['effective_items']:.0f}")
    table.add_row("largest weight", f"{found['largest_weight']:.2f}")
    table.add_row("never shown by the logged policy", f"{found['unsupported']:.1%}")
    return table
