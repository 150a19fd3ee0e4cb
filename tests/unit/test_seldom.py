"""A library whose server is away does not fill the log, and nobody else is silenced."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from stream.privacy.pseudonyms import LONGEST, LogFormatter
from stream.process.seldom import KINDS, LINES, PERIOD_S, Seldom


class Heard:
    """Loggers that write to memory through the filter, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._written = io.StringIO()
        self.handler = logging.StreamHandler(self._written)
        self.seldom = Seldom(("library",), lambda: self.now_s)
        self.handler.addFilter(self.seldom)

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()


@pytest.fixture
def heard() -> Iterator[Heard]:
    it = Heard()
    root = logging.getLogger()
    root.addHandler(it.handler)
    yield it
    root.removeHandler(it.handler)


def test_a_library_says_one_thing_a_few_times_and_then_how_often_it_would_have(heard: Heard) -> None:
    library = logging.getLogger("library.client")
    for number in range(1_000):
        if number == 999:
            heard.now_s = PERIOD_S
        library.error("Unable connect to node with id %s", number)
    told = [f"Unable connect to node with id {number}" for number in range(LINES)]
    again = f"Unable connect to node with id 999 ({999 - LINES} more like this were left out)"
    assert heard.lines == [*told, again]


def test_other_things_and_other_people_are_heard_all_the_same(heard: Heard) -> None:
    for number in range(10):
        logging.getLogger("library.client").error("one thing")
        logging.getLogger("stream.agents").error("our own %d", number)
    logging.getLogger("library.client").error("another thing")
    assert heard.lines.count("one thing") == LINES
    assert sum("our own" in line for line in heard.lines) == 10
    assert "another thing" in heard.lines


def test_what_is_remembered_of_lines_is_bounded(heard: Heard) -> None:
    for line in range(3 * KINDS):
        heard.seldom.filter(logging.LogRecord("library", logging.ERROR, "", line, "said", (), None))
    assert len(heard.seldom._said) <= KINDS


def test_what_a_library_says_at_great_length_is_cut(heard: Heard) -> None:
    heard.handler.setFormatter(LogFormatter("%(name)s: %(message)s"))
    logging.getLogger("faust.consumer").error("waiting for %s", "x" * 30_000)
    logging.getLogger("stream.agents").error("waiting for %s", "x" * 30_000)
    theirs, ours = heard.lines
    assert len(theirs) < LONGEST + 100
    assert theirs.endswith("characters more")
    assert len(ours) > 30_000
