"""The policy of docs/time-and-order.md, as far as no other test shows it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from builders import NOW_MS, click, minutes, raw_click, raw_search, search
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import Shop, facts_of, ids

from stream.core.events import EVENT_TYPES, Event
from stream.core.policy import DEFAULT_POLICY
from stream.core.signals import encode
from stream.core.state import UserState, apply, empty, reuses_id
from stream.errors import InvalidMessage

DAY = minutes(24 * 60)
ROOT = Path(__file__).parents[2]


def _folded(*events: Event) -> UserState:
    state = empty("ann")
    for event in events:
        state = apply(state, event, DEFAULT_POLICY)
    return state


@pytest.mark.parametrize("at", [0, 1, -1, "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", NOW_MS // 1000])
def test_a_time_of_1970_is_refused_and_never_guessed(at: int | str) -> None:
    with pytest.raises(InvalidMessage) as error:
        click(event_time=at)
    assert error.value.code == "invalid_time"


def test_the_oldest_time_that_is_taken_is_folded_and_answered() -> None:
    shop = Shop()
    [made] = shop.handle(raw_click(event_time="1973-03-03T09:46:40Z"))
    assert made.trigger.event_time == 100_000_000_000
    assert [one.at_ms for one in shop.state("ann").interactions] == [100_000_000_000]


@pytest.mark.parametrize("ahead_ms", [1, DAY, 400 * DAY])
def test_a_future_event_counts_as_arriving_and_shapes_no_later_list_more_than_others(ahead_ms: int) -> None:
    shop = Shop()
    shop.handle(raw_click(item_id="mug", offset=1, at_ms=NOW_MS + ahead_ms, appended_ms=NOW_MS))
    shop.now_ms += minutes(1)
    [made] = shop.handle(raw_click(item_id="cup", offset=2, at_ms=NOW_MS + minutes(1)))
    assert made.trigger.event_id == "c0-2"
    assert [one.item_id for one in shop.state("ann").interactions] == ["mug", "cup"]
    assert all(one.at_ms <= NOW_MS + minutes(1) for _, one in shop.publisher.signals)


def test_a_future_event_sent_twice_counts_once_at_its_last_arrival() -> None:
    first = click(event_id="e", at_ms=NOW_MS + DAY, appended_ms=NOW_MS)
    again = click(event_id="e", at_ms=NOW_MS + DAY, appended_ms=NOW_MS + 5)
    for order in ((first, again), (again, first)):
        assert [one.at_ms for one in _folded(*order).interactions] == [NOW_MS + 5]
    assert not reuses_id(_folded(first), again)


CONTENTS = (
    *(click("ann", "mug", "view_item", event_id="e"), click("ann", "cup", "view_item", event_id="e")),
    *(click("ann", "mug", "purchase", event_id="e"), search("ann", "red mug", event_id="e")),
    *(click("ann", "mug", "view_item", event_id="e", at_ms=NOW_MS - 5), search("ann", "cup", event_id="e")),
)


@pytest.mark.parametrize("order", list(itertools.permutations(CONTENTS, 4))[::7])
def test_events_that_share_an_id_fold_to_the_same_facts_in_any_order(order: tuple[Event, ...]) -> None:
    assert _folded(*order).facts == _folded(*reversed(order)).facts


def test_an_event_with_the_id_of_another_is_told_apart_and_used() -> None:
    shop = Shop()
    lists = [
        *shop.handle(raw_click(item_id="mug", event_id="e", offset=1)),
        *shop.handle(raw_click(item_id="cup", event_id="e", offset=2)),
        *shop.handle(raw_click(item_id="cup", kind="add_to_cart", event_id="e", offset=3, at_ms=NOW_MS + 1)),
        *shop.handle(raw_search(query="red mug", event_id="e", offset=1)),
        *shop.handle(raw_search(query="blue jug", event_id="e", offset=2)),
    ]
    assert len(lists) == 5
    state = shop.state("ann")
    assert [(one.item_id, one.event_type) for one in state.interactions] == [
        ("mug", "view_item"),
        ("cup", "add_to_cart"),  # of two things done to one item under one id, the later one stands
    ]
    assert {one.query for one in state.searches} == {"red mug", "blue jug"}
    counted = shop.telemetry.reused_ids
    assert [counted.labels(topic)._value.get() for topic in ("clicks", "searches")] == [2, 1]
    assert shop.publisher.dead_letters == []


def test_the_same_event_again_is_no_other_event() -> None:
    several = {"item_id": None, "items": [{"item_id": "mug"}, {"item_id": "cup"}], "event_id": "e"}
    shop = Shop()
    for offset in range(3):
        shop.handle(
            raw_click(offset=offset, **several),
            raw_click(
                offset=10 + offset, event_id="f", at_ms=NOW_MS + offset
            ),  # stamped anew when sent again
            raw_search(offset=offset, event_id="e"),
        )
    assert len(shop.state("ann").interactions) == 3
    assert all(
        sample.value == 0 for metric in shop.telemetry.reused_ids.collect() for sample in metric.samples
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(EVENT_TYPES), st.sampled_from(["mug", "cup", "jug"]), st.integers(0, 3)),
        max_size=400,
    )
)
def test_one_id_used_for_ever_leaves_the_state_within_its_bounds(given: list[tuple[str, str, int]]) -> None:
    events = [click("ann", item, kind, event_id="e", at_ms=NOW_MS + at) for kind, item, at in given]
    assert len(_folded(*events).interactions) <= 3


def test_an_event_that_comes_again_after_a_rebalance_is_applied_and_taught_once() -> None:
    messages = [raw_click(item_id=item, offset=n, at_ms=NOW_MS + n) for n, item in enumerate(("mug", "cup"))]
    shop = Shop()
    shop.handle(*messages)
    taught = {item_id: encode(row) for item_id, row in shop.learnt_rows().items()}
    shop.start()  # the worker that the partitions moved to
    [again] = shop.handle(*messages)
    assert again.trigger.event_id == "c0-1"
    assert shop.state("ann").facts == facts_of(messages, shop.policy)["ann"]
    assert {item_id: encode(row) for item_id, row in shop.learnt_rows().items()} == taught


def test_an_event_before_its_item_counts_as_soon_as_the_item_is_there() -> None:
    shop = Shop()
    shop.handle(raw_click("bob", "late", offset=1), raw_click("bob", "mug", offset=2, at_ms=NOW_MS + 1))
    shop.learn()
    [before] = shop.handle(raw_click("eve", "mug", offset=3, at_ms=NOW_MS + 2))
    assert "late" not in ids(before)
    shop.stock({"late": "A late lamp"})
    shop.now_ms += minutes(1)
    [after] = shop.handle(raw_click("eve", "mug", offset=4, at_ms=NOW_MS + 3))
    assert "late" in ids(after)


@pytest.mark.parametrize("page", ["docs/time-and-order.md", "docs/limits.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / page).read_text())
    assert len(named) > 10
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"
