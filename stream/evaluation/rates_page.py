"""One HTML page of what came of lists: tables with intervals and plots, with nothing to be loaded."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from stream.evaluation.page_parts import STYLE, pyplot, svg, table
from stream.evaluation.rates import DIMENSIONS, Group, Rate, Sight, Summary

TITLES = {
    "position": "Position in the list",
    "source": "Source of the candidate",
    "reranker": "Version of the reranker",
    "encoder": "Version of the encoder",
    "policy": "Policy",
    "placement": "Placement",
    "explored": "Explored or not",
    "day": "Day the list was made (UTC)",
}
NOTES = {
    "position": "This curve mixes two things: better items stand higher, and higher places are seen more.",
    "explored": "Places that chance had a say in, against all others.",
}
BARS = 20
"""Groups in a plot; the table below it has all."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What came of the lists</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style></head><body>
<h1>What came of the lists</h1>
{body}
<p class="note">A place of a list counts once, however often it was shown or clicked. Ranges are 95 %
intervals (Wilson; of differences Newcombe) that take places for independent.</p>
</body></html>
"""


def page(found: Summary) -> str:
    """Lay out a summary as a page.

    Raises:
        WrongFile: matplotlib is missing.
    """
    parts = [_head(found)]
    if found.total.shown:
        for dimension in DIMENSIONS:
            parts.append(_section(found, dimension))
    else:
        parts.append(
            "<p>No impression was told of, so there are no rates: publish <code>view_item_list</code> events "
            "with the <code>recommendation_id</code> of the list and the items that came into view.</p>"
        )
    return _PAGE.format(style=STYLE, body="\n".join(parts))


def span(found: Summary) -> str:
    """From when to when the lists were made, for people."""
    if found.first_ms is None or found.last_ms is None:
        return "no lists"
    first, last = (datetime.fromtimestamp(at / 1000, UTC) for at in (found.first_ms, found.last_ms))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def percent(rate: Rate) -> str:
    """A rate with its interval."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "-"
    return f"{rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%})"


def _head(found: Summary) -> str:
    total = found.total
    rows = [
        ("Lists", f"{found.lists}, made {span(found)}"),
        ("Shoppers", str(found.shoppers)),
        ("Places shown", str(total.shown)),
        ("Clicked", f"{total.click.hits}: {percent(total.click)}"),
        ("Put in the cart", f"{total.cart.hits}: {percent(total.cart)}"),
        ("Bought", f"{total.purchase.hits}: {percent(total.purchase)}"),
        (
            "Value of purchases",
            ", ".join(f"{value:.2f} {name}" for name, value in found.value.items()) or "-",
        ),
        (
            "Not told to be shown",
            ", ".join(f"{count} {outcome}" for outcome, count in found.not_shown.items())
            + " (not in the rates)",
        ),
        ("Records", f"{found.records}, {found.repeated} came again and count once"),
        ("Left out as automated", str(found.automated)),
    ]
    return table([], [(html.escape(name), html.escape(value)) for name, value in rows])


def _section(found: Summary, dimension: str) -> str:
    groups = found.groups[dimension]
    rows = [
        (
            html.escape(group.name),
            str(group.shown),
            *(html.escape(percent(rate)) for rate in (group.click, group.cart, group.purchase)),
        )
        for group in groups
    ]
    parts = [
        f'<section id="{dimension}"><h2>{html.escape(TITLES[dimension])}</h2>',
        f'<p class="note">{html.escape(NOTES[dimension])}</p>' if dimension in NOTES else "",
        _plot(dimension, groups),
        table(["", "shown", "clicked", "cart", "bought"], rows),
    ]
    if dimension == "position":
        parts.append(_sight(found.sight))
    parts += [
        f"<p>{html.escape(one.of)} less {html.escape(one.less)}: clicked {one.value:+.2%} "
        f"({one.low:+.2%} to {one.high:+.2%}) of places{_verdict(one.low, one.high)}</p>"
        for one in found.differences.get(dimension, ())
    ]
    return "\n".join(part for part in (*parts, "</section>") if part)


def _sight(found: Sequence[Sight]) -> str:
    """How much a place does by itself: a plot and a table, or a sentence where nothing can be told."""
    told = [one for one in found if one.relative is not None]
    if len(told) < 2:
        return (
            '<p class="note">How much the place does by itself cannot be told yet: no item was clicked both '
            "at the first place and at the second.</p>"
        )
    figure, axes = pyplot().subplots(figsize=(8, 3), layout="constrained")
    axes.plot([one.rank for one in told], [one.relative for one in told], marker="o")
    axes.set(xlabel="place", ylabel="clicked, first place = 1", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    rows = [(str(one.rank), f"{one.relative:.2f}", str(one.items) if one.rank > 1 else "") for one in told]
    return "\n".join(
        (
            "<h3>What the place does by itself</h3>",
            '<p class="note">The same items at neighbouring places of different lists, step by step from the '
            "first place; each step adds its error to those below it.</p>",
            svg(figure, "How often a place is clicked relative to the first, with the same items"),
            table(["place", "relative", "items compared"], rows),
        )
    )


def _verdict(low: float, high: float) -> str:
    return ", no clear difference" if low <= 0 <= high else ""


def _plot(dimension: str, groups: Sequence[Group]) -> str:
    """The rates of clicks with their intervals, as an inline SVG image."""
    shown = groups[-BARS:] if dimension == "day" else groups[:BARS]
    rates = [group.click.value or 0.0 for group in shown]
    below = [rate - (group.click.low or 0.0) for rate, group in zip(rates, shown, strict=True)]
    above = [(group.click.high or 0.0) - rate for rate, group in zip(rates, shown, strict=True)]
    line = dimension in ("position", "day")
    figure, axes = pyplot().subplots(
        figsize=(8, 3.6 if line else 0.8 + 0.35 * len(shown)), layout="constrained"
    )
    draw: Callable[..., Any] = axes.errorbar
    names = [group.name for group in shown]
    if line:
        draw(range(len(shown)), rates, yerr=[below, above], marker="o", capsize=3)
        axes.set_xticks(range(len(shown)), names, rotation=45 if dimension == "day" else 0)
        axes.set(ylabel="clicked", ylim=(0, None))
        axes.yaxis.set_major_formatter(_as_percent)
    else:
        draw(rates, range(len(shown)), xerr=[below, above], fmt="o", capsize=3)
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlabel="clicked", xlim=(0, None), ylim=(len(shown) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(_as_percent)
    axes.grid(alpha=0.3)
    return svg(figure, f"{TITLES[dimension]}: share of shown places that were clicked")


def _as_percent(value: float, _: int) -> str:
    return f"{value:.1%}"
