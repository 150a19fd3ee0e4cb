"""Parts of pages that need nothing but themselves: tables, and plots as SVG within the page."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

from stream.errors import WrongFile

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .15rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto } small, .note { color: #555 }
"""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out cells, which are HTML already; without `heads` there is no first row of them."""
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in heads)}</tr>" if heads else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def svg(figure: Any, label: str) -> str:
    """A figure as an element of the page, the same bytes for the same figure; closes it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    pyplot().close(figure)
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1
    )


def pyplot() -> Any:
    """What draws. Raises `WrongFile` where matplotlib is missing."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        mpl.rcParams["svg.hashsalt"] = "streamrec"  # the same figures give the same bytes
        from matplotlib import pyplot
    except ImportError:
        raise WrongFile("the page needs matplotlib: pip install 'streamrec[evaluate]'") from None
    return pyplot
