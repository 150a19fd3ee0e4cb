"""What holds of every batch: each test names an invariant and fails where it is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders import NOW_MS, event_of, item_vector, minutes, raw_click, raw_search, source
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import TITLES, Killed, Shop, Wire, check_answered, check_lists, facts_of, ids

from stream.core.events import EVENT_TYPES, RecommendationList
from stream.core.items import FloatArray
from stream.core.list_log import LoggedList
from stream.core.marks import Log, Mark
from stream.core.policy import DAY_MS, HOUR_MS, Policy
from stream.core.state import UserState, cart_of
from stream.core.versions import Serving
from stream.errors import ModelUnavailable, PublishUnavailable, StateUnavailable
from stream.fakes import HashEncoder, MemoryMarkStore, MemoryPublisher
from stream.healing.marks import Marks
from stream.ports import RawMessage

RERANKER_AWAY = ModelUnavailable("reranker", "deadline", "no answer in 50 ms")
ENCODER_AWAY = ModelUnavailable("encoder", "unreachable", "nobody there")

# A busy minute: three shoppers, both topics, a purchase, a duplicate, an item nobody knows.
BATCH = [
    raw_click("ann", "mug", offset=0, at_ms=NOW_MS - 9_000),
    raw_click("bob", "mug", offset=1, at_ms=NOW_MS - 8_000),
    raw_search("ann", "red pot", offset=0, at_ms=NOW_MS - 7_000),
    raw_click("ann", "cup", "add_to_cart", offset=2, at_ms=NOW_MS - 6_000),
    raw_click("bob", "cup", offset=3, at_ms=NOW_MS - 5_000),
    raw_click("ann", "cup", "purchase", offset=4, at_ms=NOW_MS - 4_000),
    raw_click("bob", "cup", offset=5, at_ms=NOW_MS - 5_000, event_id="c0-3"),
    raw_click("cyd", "unheard-of", offset=6, at_ms=NOW_MS - 3_000),
    raw_click("ann", "jar", offset=7, at_ms=NOW_MS - 2_000),
]


# --- 1: every valid event leads to a list whose trigger is that event or a later one


def test_every_event_leads_to_a_list_with_it_or_a_later_one_as_trigger() -> None:
    shop = Shop()
    lists = shop.handle(*BATCH)
    check_answered(BATCH, lists)
    assert sorted(made.user_id for made in lists) == ["ann", "bob", "cyd"]  # bursts coalesce


def test_freshness_ends_when_the_list_is_acknowledged_whatever_is_done_after_it() -> None:
    class TakesItsTime(MemoryPublisher):
        async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
            shop.now_ms += 40
            await super().publish_lists(lists)

        async def publish_list_log(self, logged: Sequence[LoggedList]) -> None:
            await asyncio.sleep(0)
            shop.now_ms += 5_000
            await super().publish_list_log(logged)

    shop = Shop()
    shop.publisher = TakesItsTime()
    shop.start()
    shop.now_ms = NOW_MS
    shop.handle(raw_click("ann", "mug", at_ms=NOW_MS - 60))
    [family] = shop.telemetry.freshness.collect()
    took_s = {sample.name: sample.value for sample in family.samples if "le" not in sample.labels}
    assert took_s["streamrec_freshness_seconds_count"] == 1
    assert took_s["streamrec_freshness_seconds_sum"] == pytest.approx(0.1)


def test_the_trigger_of_a_burst_is_its_newest_event() -> None:
    made = Shop().handle(*BATCH)[0]
    assert (made.trigger.event_id, made.trigger.topic, made.trigger.partition, made.trigger.offset) == (
        "c0-7",
        "clicks",
        0,
        7,
    )
    assert made.trigger.event_time == NOW_MS - 2_000


def test_of_events_appended_in_the_same_millisecond_the_last_one_is_the_trigger() -> None:
    events = [raw_click(offset=offset, at_ms=NOW_MS) for offset in range(3)]
    lists = Shop().handle(*events)
    assert lists[0].trigger.offset == 2


def test_a_broker_clock_that_went_back_does_not_hide_the_last_event() -> None:
    events = [
        raw_click(offset=0, at_ms=NOW_MS),
        raw_click(offset=1, at_ms=NOW_MS - 500),
    ]
    assert Shop().handle(*events)[0].trigger.offset == 1


def test_an_old_event_that_comes_late_is_answered_too() -> None:
    shop = Shop()
    shop.handle(raw_click(offset=0))
    late = raw_click(item_id="cup", offset=1, at_ms=NOW_MS - 40 * DAY_MS, appended_ms=NOW_MS + 5)
    lists = shop.handle(late)
    check_answered([late], lists)
    assert lists[0].trigger.event_id == "c0-1"


def test_a_replayed_event_is_answered_again_since_its_list_may_never_have_left() -> None:
    shop = Shop()
    shop.handle(*BATCH)
    facts = {user: shop.state(user).facts for user in ("ann", "bob", "cyd")}
    again = shop.handle(*BATCH)
    check_answered(BATCH, again)
    assert {user: shop.state(user).facts for user in ("ann", "bob", "cyd")} == facts


# --- 2: the state is the fold of all events


def test_the_stored_facts_are_the_fold_of_all_events() -> None:
    shop = Shop()
    for message in BATCH:
        shop.handle(message)
    one_batch = Shop()
    one_batch.handle(*BATCH)
    for user_id, facts in facts_of(BATCH, shop.policy).items():
        assert shop.state(user_id).facts == facts
        assert one_batch.state(user_id).facts == facts


# --- 3: sequences grow, and none names two lists


def test_sequences_grow_from_list_to_list() -> None:
    shop = Shop()
    for offset in range(5):
        shop.handle(raw_click(offset=offset))
        shop.now_ms -= 1_000  # a clock that goes back does not take the sequence with it
    sequences = [made.sequence for made in shop.publisher.lists]
    assert sequences == sorted(set(sequences))
    check_lists(shop.publisher.lists)


def test_a_shopper_who_was_forgotten_goes_on_with_a_greater_sequence() -> None:
    shop = Shop()
    first = shop.handle(raw_click(offset=0))[0]
    shop.states.stored.clear()
    shop.now_ms += 1
    assert shop.handle(raw_click(offset=1))[0].sequence > first.sequence


def test_the_stored_sequence_is_the_published_one() -> None:
    shop = Shop()
    made = shop.handle(raw_click())[0]
    assert shop.state("ann").sequence == made.sequence


def _calls_of_a_batch() -> list[str]:
    shop, wire = Shop(), Wire()
    shop.start(wire)
    shop.handle(*BATCH)
    return wire.calls


CALLS = _calls_of_a_batch()


def _check_after_crash(shop: Shop) -> None:
    assert {user: shop.state(user).facts for user in ("ann", "bob", "cyd")} == facts_of(BATCH, shop.policy)
    check_lists(shop.publisher.lists)
    check_answered(BATCH, shop.publisher.lists)
    _check_increments_counted_once(shop)


def _check_increments_counted_once(shop: Shop) -> None:
    """What was published folds to what one undisturbed worker publishes, event by event."""
    calm = Shop(shop.policy)
    for message in BATCH:
        calm.handle(message)
    expected, found = calm.learnt_rows(), shop.learnt_rows()
    assert expected.keys() == found.keys()
    for item_id, row in expected.items():
        assert found[item_id].applied == row.applied
        np.testing.assert_allclose(found[item_id].popularity, row.popularity, rtol=1e-12)
        places = [found[item_id].neighbours.index(name) for name in row.neighbours]
        np.testing.assert_allclose(found[item_id].forward[places], row.forward, rtol=1e-6)
        np.testing.assert_allclose(found[item_id].backward[places], row.backward, rtol=1e-6)


def test_a_batch_asks_every_port() -> None:
    """So that the crashes below happen at every step."""
    assert set(CALLS) == {
        "load",
        "publish_signals",
        "encode",
        "score",
        "save",
        "publish_lists",
        "publish_dead_letters",
        "recall",
        "publish_attributions",
        "mark",
        "remember",
        "publish_list_log",
    }


@pytest.mark.parametrize("split", [0, 4], ids=["whole", "in two batches"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(len(CALLS)), ids=[f"{n} {name}" for n, name in enumerate(CALLS)])
def test_a_crash_at_any_step_loses_nothing_and_counts_nothing_twice(
    number: int, after: bool, split: int
) -> None:
    shop = Shop()
    shop.start(Wire(number, after))
    with pytest.raises(Killed):
        shop.handle(*BATCH)
    shop.start()
    shop.handle(*BATCH[:split])  # what was not acknowledged comes again, in batches of other sizes
    shop.handle(*BATCH[split:])
    _check_after_crash(shop)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(len(CALLS)), ids=[f"{n} {name}" for n, name in enumerate(CALLS)])
def test_a_worker_told_to_stop_at_any_step_loses_nothing(number: int, after: bool) -> None:
    shop = Shop()
    shop.start(Wire(number, after, asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        shop.handle(*BATCH)
    shop.start()
    shop.handle(*BATCH)
    _check_after_crash(shop)


@pytest.mark.parametrize("count", range(3))
def test_a_crash_while_lists_leave_one_by_one_loses_none(count: int) -> None:
    class LeavesSome(MemoryPublisher):
        async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
            await super().publish_lists(lists[:count])
            raise Killed

    shop = Shop()
    shop.publisher = LeavesSome()
    shop.start()
    with pytest.raises(Killed):
        shop.handle(*BATCH)
    left = shop.publisher
    shop.publisher = MemoryPublisher()
    shop.publisher.lists, shop.publisher.signals = left.lists, left.signals
    shop.start()
    shop.handle(*BATCH)
    _check_after_crash(shop)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, len(CALLS) - 1), st.booleans()), max_size=4), st.integers(0, 9))
def test_any_number_of_crashes_in_a_row_loses_nothing(crashes: list[tuple[int, bool]], split: int) -> None:
    shop = Shop()
    for number, after in crashes:
        shop.start(Wire(number, after))
        try:
            shop.handle(*BATCH[:split])
            shop.handle(*BATCH[split:])
        except Killed:
            shop.now_ms += 1
    shop.start()
    shop.handle(*BATCH[:split])
    shop.handle(*BATCH[split:])
    _check_after_crash(shop)


def test_increments_of_one_item_leave_in_the_order_of_their_offsets() -> None:
    """A row takes what is newer than the last offset it took, so another order would lose some."""
    shop = Shop()
    shop.handle(
        raw_click("ann", "mug", offset=0),
        raw_click("bob", "mug", offset=1),
        raw_click("ann", "cup", offset=2),
        raw_click("bob", "cup", offset=3),
        raw_click("ann", "pot", offset=5),
        raw_click("bob", "pot", offset=4),
    )
    offsets: dict[str, list[int]] = {}
    for item_id, one in shop.publisher.signals:
        offsets.setdefault(item_id, []).append(one.offset)
    assert offsets == {"mug": [0, 1, 2, 3, 4, 5], "cup": [2, 3, 4, 5], "pot": [4, 5]}


def test_increments_are_acknowledged_before_the_states_they_came_from_are_saved() -> None:
    assert CALLS.index("publish_signals") < CALLS.index("save") < CALLS.index("publish_lists")


class _Gate(MemoryPublisher):
    """A broker that takes its time to acknowledge increments."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self._shop = shop
        self.saved_too_early = False

    async def publish_signals(self, increments: Any) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
            self.saved_too_early |= bool(self._shop.states.stored)
        await super().publish_signals(increments)


def test_nothing_is_saved_before_the_broker_has_the_increments() -> None:
    shop = Shop()
    shop.publisher = _Gate(shop)
    shop.start()
    shop.handle(*BATCH)
    assert not shop.publisher.saved_too_early


def test_a_list_is_published_only_when_its_state_was_saved() -> None:
    shop = Shop()
    shop.start(Wire(CALLS.index("save"), False, StateUnavailable("away")))
    with pytest.raises(StateUnavailable):
        shop.handle(*BATCH)
    assert shop.publisher.lists == []


# --- conflicts: another worker's save sneaks in


class _OtherWorker:
    """Saves another list of a shopper just before this worker does, a number of times."""

    def __init__(self, shop: Shop, user_id: str, times: int) -> None:
        self._shop, self._user_id, self._left = shop, user_id, times

    async def load(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        return await self._shop.states.load(user_ids)

    async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
        if self._left:
            self._left -= 1
            stored = (await self._shop.states.load([self._user_id]))[self._user_id]
            other = stored._replace(sequence=stored.sequence + 7)
            assert await self._shop.states.save([(other, stored.sequence)]) == [True]
        return await self._shop.states.save(states)


def test_a_conflict_is_folded_again_and_only_for_its_shopper() -> None:
    shop = Shop()
    shop.start()
    shop.worker._states = _OtherWorker(shop, "ann", 2)  # type: ignore[assignment]
    lists = shop.handle(*BATCH)
    assert sorted(made.user_id for made in lists) == ["ann", "bob", "cyd"]
    _check_after_crash(shop)
    assert shop.telemetry.conflicts._value.get() == 2


def test_a_shopper_another_worker_changes_for_ever_makes_the_batch_wait() -> None:
    shop = Shop()
    shop.worker._states = _OtherWorker(shop, "ann", 99)  # type: ignore[assignment]
    with pytest.raises(StateUnavailable, match="another worker"):
        shop.handle(*BATCH)
    assert "ann" not in {made.user_id for made in shop.publisher.lists}


def test_two_workers_that_handle_the_same_batch_at_once_never_share_a_sequence() -> None:
    """As after a rebalance, while the old owner does not know yet."""
    for moment in range(30):
        shop = Shop()
        one = shop.worker
        shop.start()
        other = shop.worker

        async def both(one: Any = one, other: Any = other, moment: int = moment) -> None:
            first = asyncio.ensure_future(one.handle(BATCH))
            for _ in range(moment):
                await asyncio.sleep(0)
            await asyncio.gather(first, other.handle(BATCH))

        asyncio.run(both())
        assert {user: shop.state(user).facts for user in ("ann", "bob", "cyd")} == facts_of(
            BATCH, shop.policy
        )
        by_name: dict[tuple[str, int], int] = {}
        for made in shop.publisher.lists:
            by_name[made.user_id, made.sequence] = by_name.get((made.user_id, made.sequence), 0) + 1
        assert set(by_name.values()) == {1}
        _check_increments_counted_once(shop)


# --- 5: what a list never holds


_kinds = st.sampled_from(EVENT_TYPES)
_known = st.sampled_from([*TITLES, "removed", "withdrawn", "unheard-of"])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ann", "bob"]), st.lists(_known, min_size=1, max_size=3), _kinds),
        max_size=14,
    ),
    st.lists(st.integers(0, 14), max_size=3),
)
def test_a_list_holds_nothing_it_must_not(clicks: list[tuple[str, list[str], str]], cuts: list[int]) -> None:
    shop = Shop(Policy(list_length=6, exclude_bought_days=1.0))
    shop.stock({"withdrawn": "red mug of old"}, available=False)
    shop.stock({"removed": "red mug gone"})
    shop.remove("removed")
    messages = [
        raw_click(
            user_id,
            None,
            kind,
            offset=offset,
            at_ms=NOW_MS - minutes(500 * (14 - offset)),
            items=[{"item_id": item_id} for item_id in items],
        )
        for offset, (user_id, items, kind) in enumerate(clicks)
    ]
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(messages)], strict=True):
        for made in shop.handle(*messages[start:end]):
            state = shop.state(made.user_id)
            held = ids(made)
            trigger = next(
                event
                for message in messages
                if (event := event_of(message)).event_id == made.trigger.event_id
            )
            bought = {o.item_id for o in state.owned if o.at_ms > trigger.at_ms - DAY_MS}
            assert len(held) == len(set(held)) <= 6
            assert set(held) <= set(TITLES)
            assert not set(held) & {line.item_id for line in trigger.lines}  # type: ignore[union-attr]
            assert not set(held) & cart_of(state)
            assert not set(held) & bought
            assert [item.rank for item in made.items] == list(range(1, len(held) + 1))
            assert ("empty" in made.degraded) == (not held)
            assert all(item.source and item.reason for item in made.items)
        shop.learn()


def test_what_was_bought_longer_ago_than_the_policy_says_may_come_again() -> None:
    shop = Shop(Policy(exclude_bought_days=1.0))
    shop.handle(raw_click(item_id="pot", kind="purchase", offset=0, at_ms=NOW_MS - 3 * DAY_MS))
    recent = shop.handle(raw_click("ann", "mug", offset=1, at_ms=NOW_MS - 60 * HOUR_MS))[0]
    later = shop.handle(raw_click("ann", "mug", offset=2, at_ms=NOW_MS))[0]
    assert "pot" not in ids(recent)
    assert "pot" in ids(later)


class _ChangesTheCatalogue:
    """A reranker during whose thinking the catalogue changes."""

    def __init__(self, change: Any) -> None:
        self._change = change

    async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        await asyncio.sleep(0)
        self._change()
        return np.arange(len(features), dtype=np.float32), "1"


def _list_while(change: Any, shop: Shop) -> RecommendationList:
    shop.reranker = _ChangesTheCatalogue(change)  # type: ignore[assignment]
    shop.start()
    return shop.handle(raw_click("ann", "mug"), raw_click("bob", "mug", offset=1))[0]


def test_items_removed_while_the_models_think_are_left_out() -> None:
    shop = Shop()
    before = ids(Shop().handle(raw_click("ann", "mug"))[0])
    made = _list_while(lambda: shop.remove(*before[:2]), shop)
    assert ids(made)
    assert not set(before[:2]) & set(ids(made))


def test_an_item_that_took_the_place_of_a_removed_one_is_not_taken_for_it() -> None:
    shop = Shop()
    before = ids(Shop().handle(raw_click("ann", "mug"))[0])

    def change() -> None:
        if "newcomer" not in shop.catalog.items:
            shop.remove(before[0])
            shop.put(item_vector("newcomer"))

    made = _list_while(change, shop)
    assert not {before[0], "newcomer"} & set(ids(made))


def test_an_item_withdrawn_while_the_models_think_is_left_out() -> None:
    shop = Shop()
    before = ids(Shop().handle(raw_click("ann", "mug"))[0])
    made = _list_while(lambda: shop.put(item_vector(before[0], available=False)), shop)
    assert before[0] not in ids(made)


# --- 7: one bad message does not stop the batch


def test_bad_messages_go_to_the_dead_letters_and_the_rest_goes_on() -> None:
    shop = Shop()
    bad = [
        RawMessage(source(90), b"ann", b"no json"),
        RawMessage(source(91), b"ann", None),
        raw_click("ann", "mug", "stare", offset=92),
        raw_click("bob", "mug", offset=93)._replace(key=b"ann"),
        raw_search("ann", "  ", offset=94),
    ]
    lists = shop.handle(bad[0], BATCH[0], *bad[1:], BATCH[1])
    assert sorted(made.user_id for made in lists) == ["ann", "bob"]
    assert [letter.message for letter in shop.publisher.dead_letters] == bad
    assert [(letter.code, letter.reason.split(":")[0]) for letter in shop.publisher.dead_letters] == [
        ("not_json", "value"),
        ("null_value", "value"),
        ("unknown_event_type", "event_type"),
        ("key_mismatch", "key"),
        ("invalid_field", "search_query"),
    ]


def test_a_batch_of_bad_messages_only_is_set_aside_whole() -> None:
    shop = Shop()
    assert shop.handle(RawMessage(source(90), b"ann", b"no json")) == []
    assert len(shop.publisher.dead_letters) == 1


def test_a_bad_message_is_not_forgotten_where_the_broker_is_away() -> None:
    shop = Shop()
    bad = RawMessage(source(90), b"ann", b"no json")
    shop.publisher.failure = PublishUnavailable("away")
    with pytest.raises(PublishUnavailable):
        shop.handle(bad)
    shop.publisher.failure = None
    shop.handle(bad)
    assert [letter.message for letter in shop.publisher.dead_letters] == [bad]


# --- 8: unknown users, unknown items, an empty catalogue


def test_a_shopper_of_whom_nothing_is_known_gets_a_list() -> None:
    made = Shop().handle(raw_click("nobody", "mug"))[0]
    assert made.items
    assert made.degraded == []


def test_an_event_may_come_before_its_item() -> None:
    shop = Shop()
    first = shop.handle(raw_click("ann", "kettle", offset=0))[0]
    assert "kettle" not in ids(first)
    shop.stock({"kettle": "red tea kettle"})
    second = shop.handle(raw_click("ann", "kettle", offset=1))[0]
    assert second.items
    assert "kettle" not in ids(second)
    assert shop.state("ann").interactions[0].item_id == "kettle"


def test_an_empty_catalogue_gives_a_list_that_is_marked_empty() -> None:
    shop = Shop(stocked=False)
    for made in shop.handle(raw_click("ann"), raw_search("bob", offset=1)):
        assert made.items == []
        assert "empty" in made.degraded


def test_a_shop_that_opened_today_recommends_something_to_everybody() -> None:
    """A catalogue, but no signals, an item nobody knows, and words that match nothing."""
    shop = Shop()
    for made in shop.handle(raw_click("ann", "unheard-of"), raw_search("bob", "zzz", offset=1)):
        assert made.items, made.trigger
        assert "empty" not in made.degraded


def test_a_catalogue_without_vectors_still_gives_lists() -> None:
    shop = Shop(stocked=False)
    shop.put(*(item_vector(item_id, title) for item_id, title in TITLES.items()))
    click_list, search_list = shop.handle(raw_click("ann", "mug"), raw_search("bob", "red", offset=1))
    assert click_list.items
    assert {"mug", "pot"} == set(ids(search_list)[:2])


# --- 9: models away


def test_without_the_reranker_lists_go_on_and_say_so() -> None:
    shop = Shop()
    shop.reranker.failure = RERANKER_AWAY
    made = shop.handle(raw_click(offset=0))[0]
    assert made.degraded == ["reranker"]
    assert "reranker" not in made.model_versions
    assert made.items
    shop.reranker.failure = None
    again = shop.handle(raw_click(offset=1))[0]
    assert again.degraded == []
    assert again.model_versions["reranker"] == "1"


def test_without_the_encoder_a_new_query_counts_by_its_words_and_the_list_says_so() -> None:
    shop = Shop()
    shop.encoder.failure = ENCODER_AWAY
    made = shop.handle(raw_search("ann", "red", offset=0))[0]
    assert made.degraded == ["encoder"]
    assert set(ids(made)[:2]) == {"mug", "pot"}
    shop.encoder.failure = None
    assert shop.handle(raw_search("ann", "red", offset=1))[0].degraded == []


def test_without_the_encoder_a_list_that_needs_no_query_is_whole() -> None:
    shop = Shop()
    shop.encoder.failure = ENCODER_AWAY
    assert shop.handle(raw_click())[0].degraded == []


def test_a_query_is_encoded_once_and_remembered_while_the_encoder_is_away() -> None:
    shop = Shop()
    shop.handle(raw_search("ann", "red", offset=0), raw_search("bob", "red", offset=1))
    assert shop.encoder.calls == [["red"]]
    shop.encoder.failure = ENCODER_AWAY
    assert shop.handle(raw_search("cyd", "red", offset=2))[0].degraded == []


def test_a_list_asks_for_query_vectors_of_exactly_the_version_whose_items_it_compares() -> None:
    shop = Shop()
    shop.encoder = HashEncoder("1", "2", "3")
    shop.start()
    asked: list[str] = []
    encode = shop.encoder.encode

    async def noting(texts: Sequence[str], timeout_s: float, version: str = "") -> tuple[FloatArray, str]:
        asked.append(version)
        return await encode(texts, timeout_s, version)

    shop.encoder.encode = noting  # type: ignore[method-assign]
    shop.encoder.version = "3"  # what Triton would choose itself
    first = shop.handle(raw_search("ann", "red", offset=0, at_ms=NOW_MS - 3))[0]
    shop.announce("2")
    shop.catalog.serve(Serving("2", previous="1"))
    second = shop.handle(raw_search("ann", "red", offset=1, at_ms=NOW_MS - 2))[0]
    shop.handle(raw_search("bob", "red", offset=2, at_ms=NOW_MS - 1))[0]
    assert asked == ["1", "2"]
    assert [made.model_versions["encoder"] for made in (first, second)] == ["1", "2"]


def test_lists_are_the_same_from_every_version_that_only_turns_the_vectors() -> None:
    shop = Shop()
    shop.encoder = HashEncoder("1", "2")
    shop.start()
    first = shop.handle(raw_search("ann", "red", offset=0, at_ms=NOW_MS - 3))[0]
    shop.announce("2")
    shop.catalog.serve(Serving("2", previous="1"))
    second = shop.handle(raw_search("bob", "red", offset=1, at_ms=NOW_MS - 3))[0]
    assert [item.item_id for item in first.items] == [item.item_id for item in second.items]


def test_a_version_that_takes_over_while_a_list_is_made_does_not_touch_that_list() -> None:
    shop = Shop()
    shop.encoder = HashEncoder("1", "2")
    shop.start()
    expected = shop.handle(raw_search("bob", "red", offset=0, at_ms=NOW_MS - 3))[0]
    encode = shop.encoder.encode

    async def slow(texts: Sequence[str], timeout_s: float, version: str = "") -> tuple[FloatArray, str]:
        shop.announce("2")
        shop.catalog.serve(Serving("2", previous="1"))
        return await encode(texts, timeout_s, version)

    shop.start()  # a worker that remembers no query
    shop.encoder.encode = slow  # type: ignore[method-assign]
    made = shop.handle(raw_search("ann", "red", offset=1, at_ms=NOW_MS - 3))[0]
    assert shop.catalog.space.version == "2"
    assert made.model_versions["encoder"] == "1"
    assert [item.item_id for item in made.items] == [item.item_id for item in expected.items]


def test_all_that_is_away_is_named() -> None:
    shop = Shop()
    shop.encoder.failure = ENCODER_AWAY
    shop.reranker.failure = RERANKER_AWAY
    made = shop.handle(raw_search("ann", "red", offset=0))[0]
    assert sorted(made.degraded) == ["encoder", "reranker"]
    assert made.items


def test_what_a_list_went_without_is_counted() -> None:
    shop = Shop()
    shop.reranker.failure = RERANKER_AWAY
    shop.handle(*BATCH[:2])
    assert shop.telemetry.registry.get_sample_value(
        "streamrec_degraded_lists_total", {"part": "reranker"}
    ) == pytest.approx(2)
    assert shop.telemetry.registry.get_sample_value(
        "streamrec_model_failures_total", {"model": "reranker", "reason": "deadline"}
    ) == pytest.approx(1)  # both lists were asked for in one call


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_do_not_reach_a_list(bad: float) -> None:
    class Odd:
        async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
            return np.full(len(features), bad, np.float32), "1"

    shop = Shop()
    shop.reranker = Odd()  # type: ignore[assignment]
    shop.start()
    made = shop.handle(raw_click())[0]
    assert made.items
    assert np.isfinite([item.score for item in made.items]).all()


@pytest.mark.parametrize("port", ["states", "signals"])
def test_without_redis_nothing_is_published_and_the_batch_comes_again(port: str) -> None:
    shop = Shop()
    getattr(shop, port).failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        shop.handle(*BATCH)
    assert shop.publisher.lists == []
    assert shop.states.stored == {}
    getattr(shop, port).failure = None
    shop.handle(*BATCH)
    _check_after_crash(shop)


def test_without_the_broker_nothing_is_saved() -> None:
    shop = Shop()
    shop.publisher.failure = PublishUnavailable("away")
    with pytest.raises(PublishUnavailable):
        shop.handle(*BATCH)
    assert shop.states.stored == {}
    shop.publisher.failure = None
    shop.handle(*BATCH)
    _check_after_crash(shop)


# --- what is in a list


def test_a_list_says_what_it_is() -> None:
    shop = Shop()
    made = shop.handle(raw_click(placement="cart page"))[0]
    assert made.schema_version == 1
    assert made.placement == "cart page"
    assert made.generated_at == NOW_MS
    assert made.expires_at == NOW_MS + DAY_MS
    assert made.model_versions == {"encoder": "1", "reranker": "1"}
    assert "ann" not in made.recommendation_id


def test_words_of_a_search_lead_to_the_items_that_have_them() -> None:
    made = Shop().handle(raw_search("ann", "red mug"))[0]
    assert ids(made)[0] == "mug"
    assert made.items[0].source == "search"


def test_a_search_shapes_lists_only_for_a_while() -> None:
    shop = Shop(Policy(query_minutes=30))
    shop.handle(raw_search("ann", "red mug", offset=0, at_ms=NOW_MS - minutes(31)))
    made = shop.handle(raw_click("ann", "pan", offset=0))[0]
    assert "search" not in {item.source for item in made.items}


def test_what_others_looked_at_next_is_recommended_with_a_true_reason() -> None:
    shop = Shop()
    for number in range(5):
        user = f"other-{number}"
        shop.handle(
            raw_click(user, "pan", offset=10 * number, at_ms=NOW_MS - 5_000),
            raw_click(user, "lid", offset=10 * number + 1, at_ms=NOW_MS - 4_000),
        )
    shop.learn()
    shop.now_ms += 60_000
    made = shop.handle(raw_click("ann", "pan", offset=900))[0]
    reasons = {item.item_id: item.reason for item in made.items}
    assert reasons["lid"] == "because you viewed iron pan"


def test_what_is_near_an_item_that_nobody_knows_any_more_is_not_said_to_have_been_seen() -> None:
    shop = Shop()
    shop.stock({"gone": "old pan"})
    shop.handle(raw_click("bob", "gone", offset=0), raw_click("bob", "lid", offset=1))
    shop.learn()
    shop.remove("gone", *(set(TITLES) - {"lid"}))
    made = shop.handle(raw_click("ann", "gone", offset=2, at_ms=NOW_MS + minutes(60 * 24 * 90)))[0]
    assert [(item.item_id, item.reason) for item in made.items] == [("lid", "popular right now")]
    shop.learnt.trending = shop.learnt.trending._replace(slots=shop.learnt.trending.slots[:0])
    made = shop.handle(raw_click("ann", "gone", offset=3))[0]
    assert [(item.item_id, item.source, item.reason) for item in made.items] == [
        ("lid", "range", "from our range")
    ]


# --- marks


def test_nothing_is_taught_saved_or_published_from_a_redis_that_forgot() -> None:
    shop, kept = Shop(), MemoryMarkStore()
    marks = Marks(kept, shop.telemetry, lambda: NOW_MS)
    asyncio.run(marks.begin({("clicks", 0): Log(0, 9)}))
    shop.worker._marks = marks
    shop.handle(raw_click("ann", "mug", offset=0))
    before = len(shop.publisher.lists), len(shop.publisher.signals)
    kept.stored.clear()
    shop.states.stored.clear()
    with pytest.raises(StateUnavailable, match="forgotten"):
        shop.handle(raw_click("ann", "cup", offset=1, at_ms=NOW_MS + 1))
    assert shop.states.stored == {}
    assert (len(shop.publisher.lists), len(shop.publisher.signals)) == before


def test_a_state_that_redis_forgot_before_its_mark_moved_is_noticed() -> None:
    shop = Shop()
    kept = MemoryMarkStore(lambda user: int.from_bytes(shop.states.stored.get(user, b"")[1:9], "big"))
    marks = Marks(kept, shop.telemetry, lambda: NOW_MS)
    asyncio.run(marks.begin({("clicks", 0): Log(0, 9)}))
    shop.worker._marks = marks
    first, second = raw_click("ann", "mug", offset=0), raw_click("ann", "cup", offset=1, at_ms=NOW_MS + 1)
    shop.handle(first)
    asyncio.run(marks.advance([first]))
    before = dict(shop.states.stored)
    shop.handle(second)
    shop.states.stored = before  # the marks are those that the worker knows
    with pytest.raises(StateUnavailable, match="forgotten"):
        asyncio.run(marks.advance([second]))
    assert marks.stale.is_set()
    assert kept.stored == {("clicks", 0): Mark(1)}


def test_increments_name_the_life_of_a_topic_that_was_made_anew() -> None:
    shop, kept = Shop(), MemoryMarkStore()
    kept.stored["clicks", 0] = Mark(50)
    marks = Marks(kept, shop.telemetry, lambda: NOW_MS)
    asyncio.run(marks.begin({("clicks", 0): Log(0, 9)}))
    shop.worker._marks = marks
    shop.handle(raw_click("ann", "mug", offset=0))
    assert {increment.source for _, increment in shop.publisher.signals} == {f"clicks/0@{NOW_MS}"}
