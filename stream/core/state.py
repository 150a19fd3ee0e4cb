"""What is remembered of one shopper: bounded facts, and `apply`, which folds an event into them.

The fold is a join of sets, each cut to its newest entries: for every identity the greatest entry wins,
and of the identities the newest are kept. An entry that was cut off had enough newer ones in front of it,
and those can only become more, so cutting early or late gives the same result. Hence any interleaving
of the two topics, any duplicate and any replay fold to the same facts, with no need to remember offsets
(see `tests/unit/test_state_fold.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import NamedTuple, TypeVar

from stream.core.events import EVENT_TYPES, ClickEvent, Event, EventType
from stream.core.policy import MINUTE_MS, Policy


class Interaction(NamedTuple):
    """One thing done to one item; ordered by time. Identity: (`digest`, `item_id`)."""

    at_ms: int
    item_id: str
    kind: int
    """Position in `stream.core.events.EVENT_TYPES`."""
    session: int
    """16-bit digest of the `session_id`, 0 where the event names none."""
    digest: int
    """24-bit digest of the `event_id`: a collision also needs the same shopper and the same item."""

    @property
    def event_type(self) -> EventType:
        return EVENT_TYPES[self.kind]


class Search(NamedTuple):
    """One search; ordered by time. Identity: (`digest`, `query`)."""

    at_ms: int
    query: str
    digest: int


class Owned(NamedTuple):
    """The last time an item was bought. Identity: `item_id`."""

    at_ms: int
    item_id: str


class UserState(NamedTuple):
    """The facts about one shopper, each tuple in ascending order of time.

    `sequence` is the number of the newest list that was reserved for this shopper, 0 before the first.
    `erased_ms` and `marked_until_ms` are 0 but for a shopper who was erased, see `erased`.
    """

    user_id: str
    sequence: int = 0
    interactions: tuple[Interaction, ...] = ()
    searches: tuple[Search, ...] = ()
    owned: tuple[Owned, ...] = ()
    erased_ms: int = 0
    """What happened up to this time was erased and is not folded again."""
    marked_until_ms: int = 0
    """Until when that must be known, since what was erased may come again."""

    @property
    def facts(self) -> tuple[object, ...]:
        """Everything but the sequence and the mark of an erasure: what a fold of events determines."""
        return (self.user_id, self.interactions, self.searches, self.owned)


def empty(user_id: str) -> UserState:
    """The state of a shopper of whom nothing is known."""
    return UserState(user_id)


def erased(state: UserState, at_ms: int, until_ms: int) -> UserState:
    """The state of a shopper of whom everything up to a time was erased: nothing but that.

    Args:
        until_ms: when no event of that time can come again any more.
    """
    return UserState(
        state.user_id,
        sequence=max(state.sequence + 1, at_ms),
        erased_ms=max(state.erased_ms, at_ms),
        marked_until_ms=max(state.marked_until_ms, until_ms),
    )


PURCHASE = EVENT_TYPES.index("purchase")
ADD_TO_CART = EVENT_TYPES.index("add_to_cart")
REMOVE_FROM_CART = EVENT_TYPES.index("remove_from_cart")
_CART_KINDS = (PURCHASE, ADD_TO_CART, REMOVE_FROM_CART)


def apply(state: UserState, event: Event, policy: Policy) -> UserState:
    """Fold one event into a state.

    Returns:
        The new state, or `state` itself where the event adds nothing (a duplicate, a replay, a fact older
        than all that is kept, or one that was erased).
    """
    if event.at_ms <= state.erased_ms:
        return state
    if not isinstance(event, ClickEvent):
        search = Search(event.at_ms, event.query, digest_of(event.event_id, 24))
        searches = _join(state.searches, (search,), policy.searches_kept, _search_identity)
        return state if searches is state.searches else state._replace(searches=searches)
    kind = EVENT_TYPES.index(event.event_type)
    session = digest_of(event.session_id, 16) if event.session_id is not None else 0
    digest = digest_of(event.event_id, 24)
    interactions = _join(
        state.interactions,
        [Interaction(event.at_ms, line.item_id, kind, session, digest) for line in event.lines],
        policy.interactions_kept,
        _interaction_identity,
    )
    owned = state.owned
    if kind == PURCHASE:
        owned = _join(
            owned,
            [Owned(event.at_ms, line.item_id) for line in event.lines],
            policy.owned_kept,
            _owned_identity,
        )
    if interactions is state.interactions and owned is state.owned:
        return state
    return state._replace(interactions=interactions, owned=owned)


def reuses_id(state: UserState, event: Event) -> bool:
    """Whether an event has the id of a remembered one that said something else: other items, kind or words.

    A sender that tries again may stamp another time, so a time alone is no difference. Ids are remembered as
    digests of 24 bits: of 100,000 events with ids of their own, about one is mistaken by a full state.
    """
    digest = digest_of(event.event_id, 24)
    if not isinstance(event, ClickEvent):
        return any(kept.digest == digest and kept.query != event.query for kept in state.searches)
    kind = EVENT_TYPES.index(event.event_type)
    said = {(kept.item_id, kept.kind) for kept in state.interactions if kept.digest == digest}
    return not said <= {(line.item_id, kind) for line in event.lines}


def session_of(state: UserState, policy: Policy) -> tuple[Interaction, ...]:
    """The interactions of the newest session, oldest first.

    Going back from the newest interaction, a session ends where another `session_id` is named, or
    where neither names one and the pause is longer than `policy.session_gap_minutes`.
    """
    interactions = state.interactions
    gap_ms = int(policy.session_gap_minutes * MINUTE_MS)
    start = len(interactions) - 1
    while start > 0:
        later, earlier = interactions[start], interactions[start - 1]
        if later.session and earlier.session:
            if later.session != earlier.session:
                break
        elif later.at_ms - earlier.at_ms > gap_ms:
            break
        start -= 1
    return interactions[max(start, 0) :]


def cart_of(state: UserState) -> frozenset[str]:
    """The items put in the cart and neither removed nor bought since, as far as is remembered."""
    last = {one.item_id: one.kind for one in state.interactions if one.kind in _CART_KINDS}
    return frozenset(item_id for item_id, kind in last.items() if kind == ADD_TO_CART)


def digest_of(text: str, bits: int) -> int:
    """A digest of `bits` bits, at least 1 so that 0 can stand for none (CRC-32, cut)."""
    return (zlib.crc32(text.encode()) & ((1 << bits) - 1)) or 1


Entry = TypeVar("Entry", Interaction, Search, Owned)

_interaction_identity = attrgetter("digest", "item_id")
_search_identity = attrgetter("digest", "query")
_owned_identity = attrgetter("item_id")


def _join(
    kept: tuple[Entry, ...],
    new: Sequence[Entry],
    limit: int,
    identity: Callable[[Entry], Hashable],
) -> tuple[Entry, ...]:
    """Join entries into a bounded ascending tuple; the same object where nothing changes."""
    if len(new) == 1 and kept and new[0] > kept[-1] and identity(new[0]) not in map(identity, kept):
        return (kept + tuple(new))[-limit:]  # what nearly all events are: one new thing, newer than all
    greatest = dict(zip(map(identity, kept), kept, strict=True))
    changed = False
    for entry in new:
        known = greatest.get(identity(entry))
        if known is None or entry > known:
            greatest[identity(entry)] = entry
            changed = True
    if not changed:
        return kept
    joined = tuple(sorted(greatest.values()))[-limit:]
    return kept if joined == kept else joined
