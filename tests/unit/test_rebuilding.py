"""Folding again repairs what is missing, beside workers, and changes nothing that is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from builders import NOW_MS, event_of, raw_click, raw_search
from hypothesis import given
from hypothesis import strategies as st

from stream.core.policy import Policy
from stream.core.state import UserState, apply, empty
from stream.errors import StateUnavailable
from stream.fakes import MemoryStateStore
from stream.healing.rebuilding import Rebuilder
from stream.ports import RawMessage

MESSAGES = [
    raw_click("ann", "mug", offset=0, at_ms=NOW_MS - 9),
    raw_search("ann", "red pot", offset=0, at_ms=NOW_MS - 8),
    raw_click("bob", "mug", "purchase", offset=1, at_ms=NOW_MS - 7),
    raw_click("ann", "cup", "add_to_cart", offset=2, at_ms=NOW_MS - 6),
    raw_click("bob", "jar", offset=3, at_ms=NOW_MS - 5),
    raw_click("cyd", None, "view_item_list", offset=4, items=[{"item_id": "jar"}]),
    raw_click("", "jar", offset=5),
]
EVENTS = MESSAGES[:5]


def _rebuilder(store: MemoryStateStore, user_id: str | None = None, *, dry_run: bool = False) -> Rebuilder:
    return Rebuilder(
        store,
        Policy(),
        searches_topic="searches",
        user_id=user_id,
        dry_run=dry_run,
        now_ms=lambda: NOW_MS,
    )


def _folded(messages: Sequence[RawMessage], sequence: int = 7) -> dict[str, UserState]:
    states: dict[str, UserState] = {}
    for message in messages:
        event = event_of(message)
        before = states.get(event.user_id, empty(event.user_id)._replace(sequence=sequence))
        states[event.user_id] = apply(before, event, Policy())
    return states


def _store(states: dict[str, UserState]) -> MemoryStateStore:
    store = MemoryStateStore()
    asyncio.run(store.save([(state, 0) for state in states.values()]))
    return store


def _load(store: MemoryStateStore, user_id: str) -> UserState:
    return asyncio.run(store.load([user_id]))[user_id]


@given(st.sets(st.integers(0, 4)))
def test_whatever_was_lost_is_repaired(left: set[int]) -> None:
    store = _store(_folded([MESSAGES[place] for place in sorted(left)]))
    asyncio.run(_rebuilder(store).fold(MESSAGES))
    for user_id, state in _folded(EVENTS).items():
        assert _load(store, user_id).facts == state.facts


def test_what_is_whole_is_left_as_it_is() -> None:
    store = _store(_folded(EVENTS))
    before = dict(store.stored)
    rebuilder = _rebuilder(store)
    asyncio.run(rebuilder.fold(MESSAGES))
    assert (store.stored, rebuilder.repaired) == (before, set())
    assert (rebuilder.events, rebuilder.invalid) == (5, 1)


def test_a_repaired_state_has_a_greater_sequence() -> None:
    store = _store(_folded(MESSAGES[:1], sequence=2 * NOW_MS))
    asyncio.run(_rebuilder(store).fold(MESSAGES))
    assert _load(store, "ann").sequence == 2 * NOW_MS + 1
    assert _load(store, "bob").sequence == NOW_MS


def test_one_shopper_alone_is_repaired() -> None:
    store = MemoryStateStore()
    rebuilder = _rebuilder(store, "bob")
    asyncio.run(rebuilder.fold(MESSAGES))
    assert set(store.stored) == rebuilder.repaired == {"bob"}
    assert rebuilder.events == 2


def test_a_dry_run_counts_and_saves_nothing() -> None:
    store = MemoryStateStore()
    rebuilder = _rebuilder(store, dry_run=True)
    asyncio.run(rebuilder.fold(MESSAGES))
    assert (store.stored, rebuilder.repaired) == ({}, {"ann", "bob"})


def test_what_a_worker_saves_meanwhile_is_kept() -> None:
    class Busy(MemoryStateStore):
        saved_by_worker = False

        async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
            if not self.saved_by_worker:
                self.saved_by_worker = True
                newer = _folded([raw_click("ann", "new", offset=9)], sequence=NOW_MS)["ann"]
                await super().save([(newer, 0)])
            return await super().save(states)

    store = Busy()
    asyncio.run(_rebuilder(store).fold(MESSAGES))
    expected = _folded([*EVENTS, raw_click("ann", "new", offset=9)])
    assert _load(store, "ann").facts == expected["ann"].facts
    assert _load(store, "bob").facts == expected["bob"].facts


def test_a_state_that_workers_keep_changing_is_given_up() -> None:
    class Restless(MemoryStateStore):
        async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
            return [False] * len(states)

    with pytest.raises(StateUnavailable, match="20 times"):
        asyncio.run(_rebuilder(Restless()).fold(MESSAGES))
