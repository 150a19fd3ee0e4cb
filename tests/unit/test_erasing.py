"""An erased shopper stays erased: no replay brings anything back, and what comes later begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from builders import NOW_MS, minutes, raw_click, raw_search
from shops import Shop, check_lists

from stream.core.policy import DAY_MS
from stream.core.state import UserState
from stream.errors import StateUnavailable
from stream.fakes import MemoryStateStore
from stream.privacy.erasing import ROUNDS, mark


def _erase(shop: Shop, user: str = "ann") -> UserState:
    return asyncio.run(mark(shop.states, user, shop.now_ms, shop.now_ms + 40 * DAY_MS))


def test_a_replay_from_the_beginning_brings_nothing_back() -> None:
    shop = Shop()
    before = [
        raw_click("ann", "mug", offset=0, at_ms=NOW_MS - minutes(3)),
        raw_search("ann", "red mug", offset=1, at_ms=NOW_MS - minutes(2), result_item_ids=["mug", "pot"]),
        raw_click("bob", "cup", offset=2, at_ms=NOW_MS - minutes(1)),
    ]
    shop.handle(*before)
    told = len(shop.publisher.signals)
    assert len(_erase(shop).interactions) == 1
    shop.now_ms += 1_000
    lists = shop.handle(*before)
    assert {made.user_id for made in lists} == {"bob"}
    assert shop.state("ann").facts == ("ann", (), (), ())
    assert len(shop.publisher.signals) == told
    assert "ann" not in {one.user_id for one in shop.publisher.attributions}


def test_what_happens_later_begins_a_new_state_with_a_greater_sequence() -> None:
    shop = Shop()
    shop.handle(raw_click("ann", "mug", offset=0, at_ms=NOW_MS - 10))
    _erase(shop)
    shop.now_ms += 10
    shop.handle(
        raw_click("ann", "cup", offset=1, at_ms=NOW_MS - 5),
        raw_click("ann", "pot", offset=2, at_ms=NOW_MS + 5),
    )
    assert [one.item_id for one in shop.state("ann").interactions] == ["pot"]
    check_lists(shop.publisher.lists)
    shop.handle(raw_click("ann", "mug", offset=0, at_ms=NOW_MS - 10))
    assert [one.item_id for one in shop.state("ann").interactions] == ["pot"]


def test_an_event_put_back_after_the_erasure_keeps_its_time_and_is_dropped() -> None:
    shop = Shop()
    _erase(shop)
    late = raw_click("ann", "mug", offset=7, at_ms=NOW_MS - minutes(60), appended_ms=NOW_MS + minutes(5))
    assert shop.handle(late) == []
    assert shop.state("ann").interactions == ()


def test_an_impression_of_an_erased_shopper_tells_nothing() -> None:
    shop = Shop()
    [made] = shop.handle(raw_click("ann", "mug", offset=0, at_ms=NOW_MS - 10))
    seen = raw_click(
        "ann",
        None,
        "view_item_list",
        offset=1,
        at_ms=NOW_MS - 5,
        recommendation_id=made.recommendation_id,
        items=[{"item_id": made.items[0].item_id}],
    )
    _erase(shop)
    shop.handle(seen)
    assert shop.publisher.attributions == []


class _Racing(MemoryStateStore):
    """A store that other workers change between a load and the save that follows it."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def load(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        found = await super().load(user_ids)
        if self.times:
            self.times -= 1
            for state in found.values():
                await self.save([(state._replace(sequence=state.sequence + 1), state.sequence)])
        return found


def test_a_worker_that_saves_in_between_does_not_undo_an_erasure() -> None:
    store = _Racing(3)
    asyncio.run(mark(store, "ann", NOW_MS, NOW_MS + DAY_MS))
    assert asyncio.run(store.load(["ann"]))["ann"].erased_ms == NOW_MS


def test_an_erasure_that_others_are_always_ahead_of_gives_up_and_says_so() -> None:
    with pytest.raises(StateUnavailable, match=f"{ROUNDS} times"):
        asyncio.run(mark(_Racing(ROUNDS + 1), "ann", NOW_MS, NOW_MS + DAY_MS))
