"""The figures of `streamrec evaluate` as tables for people and as plots."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from stream.errors import WrongFile

NAMES: Mapping[str, str] = {
    "list": "these lists",
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "item_knn_recency": "item-kNN, recency",
}
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Next item</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100% }} pre {{ overflow-x: auto; line-height: 1.2 }}</style>
<h1>Next item</h1><pre>{tables}</pre>{images}</html>
"""


def tables(found: Mapping[str, Any]) -> RenderableType:
    """Lay out the figures of one run."""
    at = found["at"]
    rankers = {"list": found, **found["baselines"]}
    titles = [NAMES.get(name, name) for name in rankers]
    main = Table("", *titles, title=f"{found['lists']} lists of {found['sessions']} sessions")
    for name, heading in zip(_metrics(at), _headings(at), strict=True):
        main.add_row(heading, *(_cell(figures, name) for figures in rankers.values()))
    parts: list[RenderableType] = [main]
    for title, part in (("by the shopper's history", "history"), ("after so many items", "after_events")):
        table = Table(title, "lists", f"HR@{at}", f"MRR@{at}")
        for name, row in found[part].items():
            cells = (_with_interval(row[f"hr_at_{at}"], row["interval"]), _number(row[f"mrr_at_{at}"]))
            table.add_row(name.replace("_", " "), str(row["lists"]), *cells)
        parts.append(table)
    sources = Table("source of candidates", "a list", "recall", "only by it", "share of hits")
    lost = Table("lost without a source", f"HR@{at}", f"MRR@{at}")
    for name, row in found["sources"].items():
        sources.add_row(
            name,
            f"{row['candidates']:.0f}",
            *(_number(row[column]) for column in ("recall", "recall_only_by_it", "share_of_hits")),
        )
        if row["candidates"]:
            without = (row["lost_without"][one] for one in (f"hr_at_{at}", f"mrr_at_{at}"))
            lost.add_row(name, *(_with_interval(one["value"], one) for one in without))
    union = found["candidates"]
    sources.add_row("together", f"{union['mean']:.0f}", _number(union["recall"]), "", "")
    sources.add_row("the best 200 of them", "", _number(union["recall_at_200"]), "", "")
    young = Table("items younger than a week", "")
    for name, value in found["new_items"].items():
        if name not in ("days", "intervals"):
            bounds = found["new_items"]["intervals"].get(name)
            said = _with_interval(value, bounds) if bounds else "" if value is None else f"{value:g}"
            young.add_row(name.replace("_", " "), said)
    return Group(*parts, sources, lost, young, *_notes(found))


def compared(found: Mapping[str, Any]) -> RenderableType:
    """Lay out two policies side by side with their paired differences."""
    at = found["at"]
    first, second = found["policies"]
    table = Table("", first["policy"], second["policy"], "second - first", title=f"{found['lists']} lists")
    for name, heading in zip(_metrics(at), _headings(at), strict=True):
        gain = found["difference"].get(name)
        table.add_row(
            heading,
            *(_cell(one, name) for one in (first, second)),
            "" if gain is None else _with_interval(gain["value"], gain),
        )
    return Group(table, f"lists that differ: {found['lists_that_differ']:.1%}")


def prepare_plots(folder: Path) -> Any:
    """Make the folder and load what draws, before the long work that the plots are of.

    Raises:
        WrongFile: matplotlib is missing, or the folder cannot be made.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise WrongFile("plots need matplotlib: pip install 'streamrec[evaluate]'") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongFile(f"{folder}: cannot be made ({error.strerror}); give another --plots") from None
    return pyplot


def write_plots(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write PNG files and an `index.html` with them and the tables into a folder, which is made.

    Raises:
        WrongFile: matplotlib is missing, or the folder cannot be written.
    """
    pyplot = prepare_plots(folder)
    plots: Mapping[str, Callable[[Any, Mapping[str, Any]], None]] = {
        "position": _plot_positions,
        "history": _plot_history,
        "sources": _plot_sources,
        "left_out": _plot_left_out,
        "new_items": _plot_new_items,
    }
    written = []
    try:
        for name, draw in plots.items():
            figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
            draw(axes, found)
            written.append(folder / f"{name}.png")
            figure.savefig(written[-1], dpi=120, metadata={"Software": ""})
            pyplot.close(figure)
        written.append(folder / "index.html")
        images = "".join(f'<p><img src="{name}.png" alt="{name}"></p>' for name in plots)
        page = PAGE.format(tables=html.escape(_as_text(tables(found))), images=images)
        written[-1].write_text(page, "utf-8")
    except OSError as error:
        raise WrongFile(f"{folder}: cannot be written ({error.strerror}); give another --plots") from None
    return written


def _plot_positions(axes: Any, found: Mapping[str, Any]) -> None:
    for name, rates in found["hit_rate_by_position"].items():
        axes.plot(range(1, len(rates) + 1), [float("nan") if rate is None else rate for rate in rates],
                  label=NAMES.get(name, name), marker=".")  # fmt: skip
    axes.set(xlabel="items of the session so far", ylabel=f"HR@{found['at']}", ylim=(0, None))
    axes.legend()


def _plot_history(axes: Any, found: Mapping[str, Any]) -> None:
    rows = {name: row for name, row in found["history"].items() if row["lists"]}
    rates = [row[f"hr_at_{found['at']}"] for row in rows.values()]
    below = [rate - row["interval"]["low"] for rate, row in zip(rates, rows.values(), strict=True)]
    above = [row["interval"]["high"] - rate for rate, row in zip(rates, rows.values(), strict=True)]
    labels = [f"{name.replace('_', ' ')}\n{row['lists']} lists" for name, row in rows.items()]
    axes.bar(range(len(rows)), rates, yerr=[below, above], capsize=4, tick_label=labels)
    axes.tick_params(axis="x", labelsize=8)
    axes.set(ylabel=f"HR@{found['at']}")


def _plot_sources(axes: Any, found: Mapping[str, Any]) -> None:
    names = list(found["sources"])
    for column, label in (("recall", "holds the next item"), ("recall_only_by_it", "alone does")):
        axes.barh(names, [found["sources"][name][column] or 0.0 for name in names], label=label)
    axes.invert_yaxis()
    axes.set(xlabel="share of lists")
    axes.legend()


def _plot_left_out(axes: Any, found: Mapping[str, Any]) -> None:
    at = found["at"]
    named = {name: row for name, row in found["sources"].items() if row["candidates"]}
    lost = {name: row["lost_without"][f"hr_at_{at}"] for name, row in named.items()}
    values = [one["value"] for one in lost.values()]
    bounds = [[abs(one["value"] - one[bound]) for one in lost.values()] for bound in ("low", "high")]
    axes.barh(list(lost), values, xerr=bounds, capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel=f"HR@{at} lost without the source, by score alone")


def _plot_new_items(axes: Any, found: Mapping[str, Any]) -> None:
    at, young = found["at"], found["new_items"]
    bars = {
        "of places": young["share_of_places"],
        "of places,\nwithout exploration": young["share_of_places_without_exploration"],
        "of next items": young["share_of_targets"],
        f"HR@{at}\nwhere next": young[f"hr_at_{at}"],
        f"HR@{at}\nwithout exploration": young[f"hr_at_{at}_without_exploration"],
    }
    drawn = axes.bar(list(bars), [value or 0.0 for value in bars.values()])
    axes.bar_label(drawn, [_number(value) for value in bars.values()])
    axes.tick_params(axis="x", labelsize=8)
    axes.set(ylabel="share", title="items younger than a week")


def _metrics(at: int) -> list[str]:
    measured = [f"{name}_at_{at}" for name in ("hr", "mrr", "ndcg")]
    return [*measured, "coverage", "novelty", "intra_list_diversity", "gini"]


def _headings(at: int) -> list[str]:
    return [f"HR@{at}", f"MRR@{at}", f"NDCG@{at}", "coverage", "novelty", "diversity", "Gini"]


def _cell(figures: Mapping[str, Any], name: str) -> str:
    return _with_interval(figures[name], figures["intervals"].get(name))


def _with_interval(value: float | None, interval: Mapping[str, float] | None) -> str:
    if value is None or not interval:
        return _number(value)
    return f"{_number(value)}\n{_number(interval['low'])} to {_number(interval['high'])}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = [f"ranked by: {found['ranking']}", f"digest of all lists: {found['lists_sha256']}"]
    if found["text_missing"]:
        notes.insert(0, f"without texts: {found['text_missing']}")
    notes.extend(f"{count} lists: {warning}" for warning, count in found["warnings"].items())
    return notes


def _as_text(renderable: RenderableType) -> str:
    text = io.StringIO()
    Console(width=150, file=text, force_terminal=False).print(renderable)
    return text.getvalue()
