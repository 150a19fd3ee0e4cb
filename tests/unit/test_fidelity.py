"""Reasons are what they say: an item loses when the event that its reason names is thought away."""

from __future__ import annotations

import pytest
from ranking_shop import NOW_MS, RankingShop
from small_log import GAP_MS, START_MS, hashed, read_sessions, write_log

from stream.core.candidates import gather
from stream.core.explain import Cause, cause, without
from stream.core.policy import DAY_MS
from stream.evaluation import fidelity, next_item
from stream.evaluation.fidelity import Fidelity
from stream.evaluation.next_item import Blended, Window
from stream.evaluation.replay import POLICY
from stream.evaluation.sessions import texts


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Fidelity:
    sessions = read_sessions(write_log(tmp_path_factory.mktemp("log") / "log.csv", 1_500))
    ranking = Blended()
    found = Fidelity(ranking, POLICY, a_list=4)
    window = Window(START_MS + 900 * GAP_MS, every=4)
    next_item.run(sessions, hashed(texts(sessions)), window, ranking, plain=False, watch=found.watch)
    return found


def test_of_the_reasons_of_a_seeded_log_19_of_20_hold_and_few_of_others_would(tested: Fidelity) -> None:
    figures = fidelity.figures(tested)
    assert figures["fidelity"]["sampled"] >= 100
    assert figures["fidelity"]["value"] >= 0.95
    assert figures["control"]["value"] < 0.5


def test_figures_say_of_how_many_reasons_they_are(tested: Fidelity) -> None:
    figures = fidelity.figures(tested)
    assert figures["lists"] == tested.lists > 0
    assert sum(one["sampled"] for one in figures["by_source"].values()) == figures["fidelity"]["sampled"]
    assert 0.0 < figures["reasons_that_name_an_event"] <= 1.0


def test_without_reasons_there_are_no_figures() -> None:
    with pytest.raises(ValueError, match="names an event"):
        fidelity.figures(Fidelity(Blended(), POLICY))


def test_what_a_reason_names_can_be_thought_away() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-5", "purchase", at_ms=NOW_MS - DAY_MS)
    shop.click("ann", "item-6", at_ms=NOW_MS - 1)
    shop.search("ann", "thing")
    state = shop.state("ann")
    left = without(state, Cause("covisited", "", "item-5"))
    assert [one.item_id for one in left.interactions] == ["item-6"]
    assert not left.owned
    assert left.searches == state.searches
    assert not without(state, Cause("search", "", search=True)).searches
    assert without(state, Cause("new", "new in the shop")) == state


def test_the_item_named_is_the_one_without_which_most_is_lost_not_the_most_popular_one() -> None:
    shop = RankingShop(sessions=0)
    for user in range(30):  # item-5 goes with everything, item-6 with item-90 alone
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 90_000)
        shop.click(f"other-{user}", f"item-{90 if user < 6 else user}", at_ms=NOW_MS - 80_000)
    for user in range(5):
        shop.click(f"fan-{user}", "item-6", at_ms=NOW_MS - 90_000)
        shop.click(f"fan-{user}", "item-90", at_ms=NOW_MS - 80_000)
    shop.click("ann", "item-5", at_ms=NOW_MS - 2)
    shop.click("ann", "item-6", at_ms=NOW_MS - 1)
    context = shop.context("ann")
    found = gather(context, shop.policy)
    position = found.slots.tolist().index(shop.slot("item-90"))
    named = cause(context, found, position)
    assert named.source == "covisited"
    assert named.item_id == "item-6"
