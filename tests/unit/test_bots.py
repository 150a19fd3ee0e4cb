"""What no person does is noticed, and what customers do is not."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from builders import NOW_MS, minutes, raw_click
from hypothesis import given
from hypothesis import strategies as st

from stream.core.bots import Sign, impossible
from stream.core.events import ClickEvent, Source, decode_click
from stream.core.policy import DAY_MS, HOUR_MS, Policy
from stream.core.state import UserState, apply, empty
from stream.importers import online_retail

POLICY = Policy()
RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail" / "events.csv.gz"


def verdicts(events: Iterable[ClickEvent], policy: Policy = POLICY) -> list[Sign | None]:
    """What is said of a shopper after each event."""
    state, found = empty("ann"), []
    for event in events:
        state = apply(state, event, policy)
        found.append(impossible(state, event.at_ms, policy))
    return found


def acts(times_ms: Iterable[int], kind: str = "view_item", items: int = 10**6) -> list[ClickEvent]:
    made = []
    for number, at_ms in enumerate(times_ms):
        message = raw_click(item_id=f"i{number % items}", kind=kind, offset=number, at_ms=NOW_MS + at_ms)
        event = decode_click(*message[:3])
        assert isinstance(event, ClickEvent)
        made.append(event)
    return made


def irregular(count: int, mean_ms: float, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return list(itertools.accumulate(1 + int(chance.expovariate(1 / mean_ms)) for _ in range(count)))


def test_twenty_acts_in_five_seconds_are_a_burst_from_the_twentieth_on() -> None:
    found = verdicts(acts(irregular(30, 150), items=6))
    assert found[:19] == [None] * 19
    assert set(found[19:]) == {"burst"}


def test_after_a_burst_a_shopper_is_a_person_again() -> None:
    times = irregular(25, 100)
    assert verdicts(acts([*times, times[-1] + minutes(1)]))[-1] is None


def test_acts_at_equal_intervals_are_noticed_however_slow() -> None:
    found = verdicts(acts(range(0, 40 * 61_000, 61_000), items=7))
    assert found[23] is None
    assert set(found[24:]) == {"regular"}


def test_acts_that_come_when_people_act_are_not() -> None:
    for seed in range(20):
        assert set(verdicts(acts(irregular(200, 20_000, seed)))) == {None}


def test_items_by_the_hundred_an_hour_are_noticed() -> None:
    found = verdicts(acts(irregular(80, 2_000)))
    assert found[38] is None
    assert "crawl" in found
    assert "crawl" not in verdicts(acts(irregular(80, 2_000), items=12))


@pytest.mark.parametrize("count", [40, 500])
def test_an_order_of_many_lines_is_a_customers(count: int) -> None:
    lines = [{"item_id": f"i{number}"} for number in range(count)]
    for kind in ("purchase", "add_to_cart", "view_item"):
        event = decode_click(*raw_click(item_id=None, kind=kind, items=lines)[:3])
        assert isinstance(event, ClickEvent)
        assert verdicts([event]) == [None]


def test_an_order_sent_line_by_line_is_a_customers() -> None:
    assert set(verdicts(acts(range(0, 5_000, 10), kind="purchase"))) == {None}
    assert set(verdicts(acts([0] * 500, kind="add_to_cart"))) == {None}


def test_what_happens_later_says_nothing_of_an_earlier_time() -> None:
    state = empty("ann")
    for event in acts(irregular(40, 100)):
        state = apply(state, event, POLICY)
    assert impossible(state, NOW_MS, POLICY) is None
    assert impossible(state, NOW_MS + DAY_MS, POLICY) is None


def test_signs_can_be_turned_off() -> None:
    off = Policy(bot_burst_events=0, bot_regular_events=0, bot_items_an_hour=0)
    assert set(verdicts(acts(range(0, 5_000, 50)), off)) == {None}


@given(
    st.lists(st.tuples(st.integers(0, HOUR_MS), st.integers(0, 60)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_the_verdict_is_the_same_in_whatever_order_events_came(
    drawn: list[tuple[int, int]], chance: random.Random
) -> None:
    events = [
        decode_click(*raw_click(item_id=f"i{item}", offset=number, at_ms=NOW_MS + at_ms)[:3])
        for number, (at_ms, item) in enumerate(drawn)
    ]
    shuffled = list(events)
    chance.shuffle(shuffled)
    states = [empty("ann"), empty("ann")]
    for number, order in enumerate((events, shuffled)):
        for event in order:
            assert isinstance(event, ClickEvent)
            states[number] = apply(states[number], event, POLICY)
    assert impossible(states[0], NOW_MS + HOUR_MS, POLICY) == impossible(states[1], NOW_MS + HOUR_MS, POLICY)


@pytest.mark.skipif(not RETAIL.exists(), reason="the sales of Online Retail II are not there")
def test_hardly_any_customer_of_a_real_shop_is_taken_for_a_machine() -> None:
    """Sales as if they were put into carts line by line, by the shop's clock, which knows minutes."""
    states: dict[str, UserState] = {}
    caught = set()
    for sale in itertools.islice(online_retail.read_sales(RETAIL, Counter()), 20_000):
        message = msgspec.structs.replace(
            online_retail.to_event(sale),
            event_type="add_to_cart",
            event_time=sale.at_ms // minutes(1) * minutes(1),
        )
        source = Source("clicks", 0, sale.row, sale.at_ms + DAY_MS)
        event = decode_click(source, message.user_id.encode(), msgspec.json.encode(message))
        assert isinstance(event, ClickEvent)
        user_id = event.user_id
        states[user_id] = apply(states.get(user_id) or empty(user_id), event, POLICY)
        if impossible(states[user_id], event.at_ms, POLICY):
            caught.add(user_id)
    assert len(states) > 400
    assert len(caught) < 0.005 * len(states)
