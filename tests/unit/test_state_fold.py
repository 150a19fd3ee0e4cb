"""Any interleaving, any duplicate and any replay folds to the same bounded facts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from builders import NOW_MS, click, minutes, search
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.core.events import EVENT_TYPES, Event
from stream.core.policy import Policy
from stream.core.state import (
    ADD_TO_CART,
    PURCHASE,
    Interaction,
    Owned,
    Search,
    UserState,
    apply,
    cart_of,
    digest_of,
    empty,
    erased,
    session_of,
)

POLICY = Policy()
SMALL = Policy(interactions_kept=4, searches_kept=2, owned_kept=3)


def test_what_was_erased_is_not_folded_again_and_what_happens_later_is() -> None:
    state = _fold([click(offset=1, at_ms=NOW_MS - 5), search(offset=2, at_ms=NOW_MS - 4)])
    left = erased(state._replace(sequence=7), NOW_MS, NOW_MS + 1_000)
    assert left.facts == empty("ann").facts
    assert left.sequence == NOW_MS
    for event in (click(offset=1, at_ms=NOW_MS - 5), search(offset=2, at_ms=NOW_MS)):
        assert apply(left, event, POLICY) is left
    after = apply(left, click(offset=3, at_ms=NOW_MS + 1), POLICY)
    assert len(after.interactions) == 1
    assert after.erased_ms == NOW_MS


def test_a_shopper_erased_twice_keeps_the_later_mark() -> None:
    once = erased(empty("ann"), NOW_MS, NOW_MS + 1_000)
    assert erased(once, NOW_MS - 10, NOW_MS)[-2:] == (NOW_MS, NOW_MS + 1_000)


def _fold(events: Iterable[Event], policy: Policy = POLICY) -> UserState:
    state = empty("ann")
    for event in events:
        state = apply(state, event, policy)
    return state


_times = st.integers(NOW_MS - 20, NOW_MS)
_items = st.sampled_from(["mug", "cup", "pot", "jar", "pan", "lid", "tin", "jug"])
_clicks = st.builds(
    lambda offset, kind, at_ms, several, session: click(
        "ann",
        None,
        kind,
        offset=offset,
        at_ms=at_ms,
        items=[{"item_id": item_id} for item_id in several],
        session_id=session,
    ),
    st.integers(0, 40),
    st.sampled_from(EVENT_TYPES),
    _times,
    st.lists(_items, min_size=1, max_size=3),
    st.sampled_from([None, "s1", "s2"]),
)
_searches = st.builds(
    lambda offset, query, at_ms: search("ann", query, offset=offset, at_ms=at_ms),
    st.integers(0, 40),
    st.sampled_from(["red mug", "blue cup", "pan"]),
    _times,
)


@settings(max_examples=300)
@given(st.data(), st.lists(_clicks | _searches, max_size=25))
def test_any_order_any_duplicate_and_any_replay_folds_to_the_same_facts(
    data: st.DataObject, events: list[Event]
) -> None:
    expected = _fold(events, SMALL)
    shuffled = data.draw(st.permutations(events))
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    assert _fold(shuffled, SMALL) == expected
    assert _fold([*again, *shuffled, *again], SMALL) == expected
    state = expected
    for event in events:
        assert apply(state, event, SMALL) is state  # a replay adds nothing


@settings(max_examples=100)
@given(st.lists(_clicks | _searches, max_size=40))
def test_a_state_stays_within_its_bounds_and_in_order(events: list[Event]) -> None:
    state = _fold(events, SMALL)
    assert len(state.interactions) <= SMALL.interactions_kept
    assert len(state.searches) <= SMALL.searches_kept
    assert len(state.owned) <= SMALL.owned_kept
    for entries in (state.interactions, state.searches, state.owned):
        assert list(entries) == sorted(entries)  # type: ignore[type-var]
    assert len({owned.item_id for owned in state.owned}) == len(state.owned)
    assert len({(i.digest, i.item_id) for i in state.interactions}) == len(state.interactions)


@settings(max_examples=100)
@given(st.lists(_clicks, max_size=40))
@example([click(offset=offset, at_ms=NOW_MS - offset) for offset in range(6)])
def test_the_newest_interactions_are_the_ones_kept(events: list[Event]) -> None:
    whole = _fold(events, Policy(interactions_kept=10_000)).interactions
    assert _fold(events, SMALL).interactions == whole[-SMALL.interactions_kept :]


def test_a_click_becomes_an_interaction_for_each_of_its_items() -> None:
    event = click("ann", "pot", "add_to_cart", offset=7, items=[{"item_id": "cup"}], session_id="s1")
    session, digest = digest_of("s1", 16), digest_of(event.event_id, 24)
    assert _fold([event]) == UserState(
        "ann",
        interactions=(
            Interaction(NOW_MS, "cup", ADD_TO_CART, session, digest),
            Interaction(NOW_MS, "pot", ADD_TO_CART, session, digest),
        ),
    )


def test_a_search_is_remembered_with_its_words() -> None:
    event = search("ann", "red mug")
    assert _fold([event]).searches == (Search(NOW_MS, "red mug", digest_of(event.event_id, 24)),)
    assert _fold([event]).interactions == ()


def test_a_purchase_makes_an_item_owned_since_the_last_time_it_was_bought() -> None:
    early = click(kind="purchase", offset=1, at_ms=NOW_MS - 9)
    late = click(kind="purchase", offset=2, at_ms=NOW_MS)
    assert _fold([late, early]).owned == (Owned(NOW_MS, "mug"),)
    assert _fold([early]).owned == (Owned(NOW_MS - 9, "mug"),)
    assert _fold([click()]).owned == ()


def test_what_was_bought_is_remembered_after_its_interaction_was_forgotten() -> None:
    events = [click(kind="purchase", offset=0, at_ms=NOW_MS - 100)]
    events += [click(item_id=f"i{n}", offset=n, at_ms=NOW_MS - 50 + n) for n in range(1, 10)]
    state = _fold(events, SMALL)
    assert "mug" not in {i.item_id for i in state.interactions}
    assert state.owned == (Owned(NOW_MS - 100, "mug"),)


def test_an_event_older_than_all_that_is_kept_changes_nothing() -> None:
    state = _fold([click(offset=n, item_id=f"i{n}", at_ms=NOW_MS - n) for n in range(4)], SMALL)
    assert apply(state, click(offset=9, item_id="old", at_ms=NOW_MS - 99), SMALL) is state


def test_an_event_sent_twice_counts_once_wherever_it_lies() -> None:
    once = click(offset=1, event_id="same")
    twice = click(offset=8, partition=3, event_id="same")
    state = _fold([once])
    assert apply(state, twice, POLICY) is state


def test_two_events_at_the_same_millisecond_both_count() -> None:
    assert len(_fold([click(offset=1), click(offset=2)]).interactions) == 2


def test_folding_leaves_the_sequence_alone() -> None:
    assert apply(empty("ann")._replace(sequence=41), click(), POLICY).sequence == 41


def _items_of_session(events: Iterable[Event]) -> list[str]:
    return [i.item_id for i in session_of(_fold(events), POLICY)]


def test_nobody_s_session_is_empty() -> None:
    assert session_of(empty("ann"), POLICY) == ()


@pytest.mark.parametrize(
    ("pause_minutes", "first_session", "second_session", "expected"),
    [
        (29.9, None, None, ["mug", "cup"]),
        (30.0, None, None, ["mug", "cup"]),
        (30.1, None, None, ["cup"]),
        (0.1, "s1", "s2", ["cup"]),
        (600.0, "s1", "s1", ["mug", "cup"]),
        (0.1, "s1", None, ["mug", "cup"]),
        (31.0, None, "s2", ["cup"]),
    ],
)
def test_a_session_ends_at_another_id_or_where_none_is_named_at_a_long_pause(
    pause_minutes: float, first_session: str | None, second_session: str | None, expected: list[str]
) -> None:
    events = [
        click(item_id="mug", offset=1, at_ms=NOW_MS - minutes(pause_minutes), session_id=first_session),
        click(item_id="cup", offset=2, at_ms=NOW_MS, session_id=second_session),
    ]
    assert _items_of_session(events) == expected


def test_only_the_newest_session_counts() -> None:
    times = [0, 10, 50, 60, 85]
    events = [click(item_id=f"i{at}", offset=at, at_ms=NOW_MS + minutes(at - 100)) for at in times]
    assert _items_of_session(events) == ["i50", "i60", "i85"]


@pytest.mark.parametrize(
    ("kinds", "in_cart"),
    [
        (["add_to_cart"], True),
        (["view_item"], False),
        (["add_to_cart", "view_item"], True),
        (["add_to_cart", "remove_from_cart"], False),
        (["remove_from_cart", "add_to_cart"], True),
        (["add_to_cart", "purchase"], False),
        (["purchase", "add_to_cart"], True),
    ],
)
def test_the_cart_holds_what_was_added_and_neither_removed_nor_bought(
    kinds: list[str], in_cart: bool
) -> None:
    events = [click(kind=kind, offset=n, at_ms=NOW_MS - 10 + n) for n, kind in enumerate(kinds)]
    assert cart_of(_fold(events)) == (frozenset({"mug"}) if in_cart else frozenset())


def test_kinds_keep_their_numbers_for_ever() -> None:
    """They are stored."""
    assert EVENT_TYPES == ("view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase")
    assert (ADD_TO_CART, PURCHASE) == (2, 4)


@pytest.mark.parametrize("bits", [16, 24])
@given(text=st.text(max_size=30))
def test_a_digest_fits_its_bits_and_is_never_the_zero_that_stands_for_none(bits: int, text: str) -> None:
    assert 1 <= digest_of(text, bits) < 1 << bits
