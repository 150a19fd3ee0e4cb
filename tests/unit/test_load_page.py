"""The page of a load test is one file that a browser shows whole, without asking anybody else."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from load_results import a_run, a_saturation
from traffic.page import page as laid_out

pytest.importorskip("matplotlib", reason="the page needs matplotlib: pip install 'streamrec[load]'")
CHROMIUM = shutil.which("chromium")
OFFLINE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
SECTIONS = ["verdict", "counts", "latency", "throughput", "lag", "stages", "batches", "workers", "processes"]


@cache
def page(number: int) -> str:
    """The page of a run that left events unanswered (1), or of a search for the highest rate (2)."""
    return laid_out(a_run(unanswered=3) if number == 1 else a_saturation())


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]


@pytest.mark.parametrize("number", [1, 2], ids=["run", "saturation"])
def test_the_page_needs_nothing_but_itself_and_what_is_foreign_stays_text(number: int) -> None:
    made = page(number)
    links = Links()
    links.feed(made)
    assert links.found == []
    assert "script" not in links.tags
    assert "b" not in links.tags
    assert "a note &lt;with&gt; signs" in made
    assert [one for one in SECTIONS if f'id="{one}"' not in made] == []


def test_the_verdict_names_each_limit_and_what_was_found() -> None:
    row = next(row for row in page(1).split("<tr>") if "no list answered" in row)
    assert 'class="broken"' in row
    assert "0.002" in row
    row = next(row for row in page(1).split("<tr>") if "from intended send to list read" in row)
    assert 'class="held"' in row


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: scripts/chromium installs it")
def test_a_browser_shows_the_page_with_its_plots(tmp_path: Path) -> None:
    file, picture = tmp_path / "load.html", tmp_path / "load.png"
    file.write_text(page(1), "utf-8")

    def browser(*more: str) -> str:
        command = [str(CHROMIUM), *OFFLINE, f"--user-data-dir={tmp_path / 'profile'}", *more, file.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    shown = browser("--dump-dom")
    assert "Load: steady, 50 events a second" in shown
    assert shown.count("<svg") == 7
    browser(f"--screenshot={picture}", "--window-size=1000,6000")
    assert picture.stat().st_size > 50_000, "more than an empty page"
