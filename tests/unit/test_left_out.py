"""What a source adds: its lone candidates and its columns are taken away, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_log import GAP_MS, START_MS, hashed, read_sessions, write_log

from stream.core.candidates import OFFERS, Candidates
from stream.core.items import FloatArray
from stream.core.ranking import FEATURES
from stream.evaluation import next_item
from stream.evaluation.left_out import LeftOut
from stream.evaluation.next_item import Blended, Window
from stream.evaluation.replay import replay
from stream.evaluation.sessions import Session, texts

NOTHING = {"value": 0.0, "low": 0.0, "high": 0.0}
Lost = dict[str, dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    return read_sessions(write_log(tmp_path_factory.mktemp("log") / "log.csv", 900))


@pytest.fixture(scope="module")
def lost(sessions: list[Session]) -> Lost:
    """What is lost by source on the small log."""
    window = Window(START_MS + 500 * GAP_MS, every=2)
    measured = next_item.run(sessions, hashed(texts(sessions)), window, Blended(), plain=False)
    rows = next_item.figures(measured)["sources"]
    return {name: row["lost_without"] for name, row in rows.items()}


def test_a_source_that_named_nothing_is_not_missed(lost: Lost) -> None:
    assert all(one == NOTHING for name in ("search", "pinned") for one in lost[name].values())


def test_what_hits_are_made_of_is_missed(lost: Lost) -> None:
    assert max(one["mrr_at_20"]["value"] for one in lost.values()) > 0.01
    assert all(one["low"] <= one["value"] <= one["high"] for row in lost.values() for one in row.values())


def of_one_list(
    sessions: list[Session],
    offers: Callable[[int], tuple[str, ...]],
    score: Callable[[FloatArray], FloatArray],
) -> Lost:
    """What is lost of a list whose first candidate is the right one, where at most one place is shown.

    Args:
        offers: the sources that named the candidate at a position.
        score: of rows that are 1 for the right candidate and 0 for all others.
    """
    *_, asked = replay(sessions[:60], {}, lambda session: len(session.items) > 1)
    count = len(asked.candidates)
    assert count > 5
    bits = [sum(1 << OFFERS.index(name) for name in offers(place)) for place in range(count)]
    found: Candidates = replace(
        asked.candidates, offered=np.array(bits, np.uint32), seen=np.zeros(count, np.bool_)
    )
    rows = np.zeros((count, len(FEATURES)), np.float32)
    rows[0] = 1.0
    one = LeftOut()
    one.note(found, rows, score(rows), 0, score)
    return one.figures(1, np.zeros(1), 0)


def column(name: str) -> Callable[[FloatArray], FloatArray]:
    """A score by one column, and where it says nothing, against the right candidate."""
    others = [place for place, feature in enumerate(FEATURES) if feature == "item_age"]
    return lambda rows: rows[:, FEATURES.index(name)] - rows[:, others[0]] / 2


def test_what_only_one_source_named_is_gone_without_it(sessions: list[Session]) -> None:
    lost = of_one_list(sessions, lambda place: ("new",) if place == 0 else ("trending",), column("trend"))
    assert {name for name, row in lost.items() if row["hr_at_1"]["value"] == 1.0} == {"new"}


def test_what_two_sources_named_stays_without_one(sessions: list[Session]) -> None:
    lost = of_one_list(sessions, lambda place: ("new", "pinned"), column("trend"))
    assert lost["new"]["hr_at_1"] == NOTHING
    assert lost["pinned"]["hr_at_1"] == NOTHING


def test_the_columns_of_a_source_say_nothing_without_it(sessions: list[Session]) -> None:
    both = ("history", "covisited", "trending")
    lost = of_one_list(sessions, lambda place: both, column("bought"))
    assert {name for name, row in lost.items() if row["hr_at_1"]["value"] == 1.0} == {"history"}
    lost = of_one_list(sessions, lambda place: both, column("following_log"))
    assert {name for name, row in lost.items() if row["hr_at_1"]["value"] == 1.0} == {"covisited"}
