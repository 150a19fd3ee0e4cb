"""Figures for machines (JSON), for people (tables, Markdown) and for documents (PNG)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rich.table
import typer
from rich.console import Console


class Table(NamedTuple):
    """A table with a title; the first column names what a row is about."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def check(json_: str | None, plot: Path | None) -> None:
    """Refuse, before hours of work, what could not be written after it.

    Raises:
        typer.BadParameter: a folder is missing, or matplotlib is.
    """
    for path in [plot, Path(json_) if json_ and json_ != "-" else None]:
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no folder {path.parent}.")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("matplotlib is missing, which draws: pip install 'streamrec[train]'")


def publish(figures: Mapping[str, Any], tables: Sequence[Table], json_: str | None, markdown: bool) -> None:
    """Write the figures as JSON to a file or, for -, alone to standard output; else the tables."""
    said = json.dumps(figures, indent=2, ensure_ascii=False)
    if json_ == "-":
        typer.echo(said)
        return
    if json_:
        Path(json_).write_text(said + "\n", encoding="utf-8")
    for table in tables:
        if markdown:
            typer.echo(as_markdown(table))
        else:
            drawn = rich.table.Table(*table.header, title=table.title)
            for row in table.rows:
                drawn.add_row(*row)
            Console().print(drawn)


def written(figure: Mapping[str, float], sign: bool = False) -> str:
    """Write a figure with the bounds of its interval."""
    form = "{:+.3f}" if sign else "{:.3f}"
    value, low, high = (form.format(figure[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def draw(path: Path, panels: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> None:
    """Draw figures with their intervals into a PNG, a panel beside the other, a bar a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.5 * len(panels), 3.6), squeeze=False)
    for axis, (title, bars) in zip(axes[0], panels.items(), strict=True):
        values = [bar["value"] for bar in bars.values()]
        below = [bar["value"] - bar["low"] for bar in bars.values()]
        above = [bar["high"] - bar["value"] for bar in bars.values()]
        axis.barh(list(bars), values, xerr=(below, above), color="#4c78a8", capsize=3)
        axis.invert_yaxis()
        axis.set(title=title, xlabel=label, xlim=(0, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def as_markdown(table: Table) -> str:
    """Write a table as Markdown, under its title."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join([f"{table.title}\n", *(f"| {' | '.join(line)} |" for line in lines), ""])
