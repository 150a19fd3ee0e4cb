"""The page of the report: one file that says what the figures say."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from attributions import record, tally
from typer.testing import CliRunner

from stream.cli.root import app
from stream.core.events import Attribution
from stream.evaluation.rates import DIMENSIONS

pytest.importorskip("matplotlib", reason="the plots need the extra `evaluate`")
from stream.evaluation.rates_page import TITLES, page

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """The parts of a page: its text, tables and drawings; asserts that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href") and value
        ]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def some_records() -> list[Attribution]:
    chance = random.Random(5)
    records = []
    for number in range(60):
        fields = {
            "made": f"r{number}",
            "user": f"u{number % 20}",
            "reranker": str(1 + number % 2),
            "explored": (20,),
            "at_ms": 1_790_000_000_000 + number * 3_600_000,
        }
        names = [f"item-{place + number % 3}" for place in range(21)]  # neighbours take turns
        records.append(record("impression", list(range(1, 21)), names=names, **fields))
        clicked = [rank for rank in range(1, 21) if chance.random() < 0.4 / rank]
        if clicked:
            followed = [names[rank - 1] for rank in clicked]
            records.append(record("click", clicked, names=followed, **fields))
            records.append(record("purchase", clicked[:1], names=followed, value=2.5, **fields))
    return records


def test_the_page_is_whole_and_loads_nothing() -> None:
    found = Page(page(tally(*some_records()).summary()))
    assert found.tags.count("svg") == len(DIMENSIONS) + 1  # positions have two
    assert [link for link in found.loads if not link.startswith("#")] == []
    assert "script" not in found.tags


def test_the_page_says_what_the_figures_say() -> None:
    summary = tally(*some_records()).summary()
    found = Page(page(summary))
    cells = {row[0]: row[1:] for row in found.rows if row}
    assert cells["Places shown"] == ["1200"]
    assert cells["Clicked"][0].startswith(f"{summary.total.click.hits}: ")
    text = " ".join(found.words)
    for title in TITLES.values():
        assert title in text
    for group in summary.groups["source"]:
        assert cells[group.name][0] == str(group.shown)
        assert cells[group.name][1].startswith(f"{group.click.value:.2%} (")
    assert re.search(r"2 less 1: clicked [+-]\d", text)


def test_the_same_figures_give_the_same_page() -> None:
    summary = tally(*some_records()).summary()
    assert page(summary) == page(summary)


def test_names_that_look_like_html_stay_text() -> None:
    name = "<script>alert(1)</script>"
    found = Page(page(tally(record("impression", [1], placement=name)).summary()))
    assert "script" not in found.tags
    assert name in " ".join(found.words)


def test_without_impressions_the_page_says_what_is_missing() -> None:
    text = page(tally(record("click", [1])).summary())
    assert "view_item_list" in text
    assert "<svg" not in text


def test_the_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "attributions.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(one) for one in some_records()))
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert str(out) in "".join(done.stderr.split("\n"))
    assert "What came of the lists" in Page(out.read_text("utf-8")).words
