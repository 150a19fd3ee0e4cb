"""What diversity, exploration and new items are measured to do, on a small log."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_log import GAP_MS, START_MS, hashed, read_sessions, write_log

from stream.core.policy import DAY_MS, ExplorationPolicy, Policy
from stream.evaluation import diversity_curve, next_item
from stream.evaluation.next_item import Blended, Measured, Window, seed_of
from stream.evaluation.policies import Policies
from stream.evaluation.replay import POLICY
from stream.evaluation.sessions import Session, Step, texts

EVENTS = 600
WINDOW = Window(START_MS + 400 * GAP_MS, every=2)
EVERY_NEW = Policy(exclude_bought_days=0.0, exploration=ExplorationPolicy(share=1.0, kinds=("new",)))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    return read_sessions(write_log(tmp_path_factory.mktemp("log") / "log.csv", EVENTS))


def run(sessions: list[Session], policy: Policy = POLICY, **options) -> Measured:
    vectors = hashed(texts(sessions))
    return next_item.run(sessions, vectors, WINDOW, Blended(), policy, plain=False, **options)


def test_the_curve_begins_with_the_lists_by_score_and_says_what_each_strength_costs(
    sessions: list[Session], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra evaluate")
    strengths = (0.2, 0.9)
    tried = Policies(diversity_curve.policies(POLICY, strengths), 20, seed_of)
    run(sessions, watch=tried.watch)
    found = diversity_curve.figures(tried.figures(), strengths)
    for method in ("mmr", "dpp"):
        plain, weak, strong = found["curves"][method]
        assert plain["hr_lost"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert plain["intra_list_diversity"] <= weak["intra_list_diversity"] < strong["intra_list_diversity"]
        assert found["strongest_within_1_percent"][method] in (0.0, *strengths)
    assert set(found["exploration"]) == set(diversity_curve.EXPLORED)
    diversity_curve.plot(found, 20, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def with_newcomer(sessions: list[Session]) -> list[Session]:
    """The log with one item that joins the catalogue within the window."""
    at = next(number for number, one in enumerate(sessions) if one.minute_ms >= WINDOW.from_ms) + 2
    at_ms = sessions[at].minute_ms
    newcomer = Session("newcomer", "", (Step("newcomer", at_ms, text="a thing never seen"),))
    return [*sessions[:at], newcomer, *sessions[at:]]


def test_an_item_that_joins_is_counted_and_its_slot_shows_it(sessions: list[Session]) -> None:
    found = next_item.figures(run(with_newcomer(sessions), EVERY_NEW))["new_items"]
    assert found["arrived"] >= 1
    assert found["arrived_and_shown"] > 0
    assert found["share_of_places_explored"] > 0
    assert found["hours_to_first_list_median"] is not None


def test_without_exploration_nothing_new_is_tried(sessions: list[Session]) -> None:
    policy = Policy(exclude_bought_days=0.0, exploration=ExplorationPolicy(slots=0))
    found = next_item.figures(run(with_newcomer(sessions), policy))["new_items"]
    assert found["share_of_places_explored"] == 0.0
    assert found["share_of_places"] == found["share_of_places_without_exploration"]
    assert found["hr_at_20"] == found["hr_at_20_without_exploration"]
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["intervals"]["hr_at_20_added_by_exploration"] == none


def test_an_item_is_young_for_a_week_from_its_first_appearance() -> None:
    def session(name: str, day: float, *items: str) -> Session:
        at_ms = START_MS + int(day * DAY_MS)
        return Session(name, "", tuple(Step(item, at_ms, text=item) for item in items))

    sessions = [session(f"early-{day}", day, "mug", "cup", "pan") for day in range(10)]
    sessions += [session("newcomer", 10.0, "mug", "jug")]
    sessions += [session("young", 16.9, "mug", "jug"), session("old", 17.1, "mug", "jug")]
    sessions += [session("never seen", 17.2, "mug", "tin")]
    window = Window(sessions[-3].minute_ms)
    found = next_item.figures(next_item.run(sessions, {}, window, Blended(), plain=False))["new_items"]
    assert found["lists_that_wanted_one"] == 1
    assert found["share_of_targets"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["hr_at_20"] == 1.0
    assert found["intervals"]["hr_at_20"] == {"low": 1.0, "high": 1.0}
    assert found["share_of_places"] == pytest.approx(1 / 9, abs=1e-4)
