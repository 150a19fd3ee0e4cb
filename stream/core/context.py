"""What a list is made from: the shopper's facts, what is known of the items, and what the indexes found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from stream.core.disguise import clean_query
from stream.core.items import FloatArray, IntArray, ItemTable
from stream.core.policy import MINUTE_MS, Policy
from stream.core.rules.in_force import NO_RULES, InForce
from stream.core.signals import EMPTY, NEGLIGIBLE, RowView
from stream.core.state import REMOVE_FROM_CART, Interaction, Search, UserState, session_of
from stream.core.vectors import ItemVectors

SESSION_ROWS = 10
"""Distinct items of the session, newest first, whose neighbours are looked up."""
"""The same for the newest items from before the session."""
SESSION_RECENCY = 0.8
"""What an item of the session counts for the session vector, to the power of its age in items."""


class Hits(NamedTuple):
    """Items found by one source, best first: slots [n] and scores [n]."""

    slots: IntArray
    scores: FloatArray

    def nearest(self, limit: int) -> IntArray:
        """The slots of the best that are not opposite, where scores are cosines."""
        return self.slots[:limit][self.scores[:limit] > 0]


NO_HITS = Hits(np.zeros(0, np.int32), np.zeros(0, np.float32))


NO_ROW = RowView(
    NO_HITS.slots,
    NO_HITS.scores,
    NO_HITS.scores,
    NEGLIGIBLE,
    NO_HITS.scores,
    NO_HITS.scores,
    EMPTY.seen_s,
    EMPTY.around.astype(np.int32),
)


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """All that a list is made from. `at_ms` is the trigger's event time, the only clock there is here.

    `popularity` [capacity, len(POPULARITY_DAYS)] holds log2 sums by slot (-inf where unknown), see
    `stream.core.signals`. `trending_by_category` is keyed by the numbers of `items.category`. Vectors
    are [384], L2-normalised and of the one encoder version that made `space`; scores of `near_*` are cosines
    and of `lexical` BM25.
    """

    state: UserState
    at_ms: int
    items: ItemTable
    space: ItemVectors
    rows: Mapping[str, RowView]
    popularity: FloatArray
    in_view: frozenset[str] = frozenset()
    trending: Hits = NO_HITS
    trending_by_category: Mapping[int, Hits] = field(default_factory=dict)
    new_items: IntArray = field(default_factory=lambda: NO_HITS.slots)
    session_vector: FloatArray | None = None
    taste_vector: FloatArray | None = None
    near_session: Hits = NO_HITS
    near_taste: Hits = NO_HITS
    query: Search | None = None
    query_vector: FloatArray | None = None
    lexical: Hits = NO_HITS
    near_query: Hits = NO_HITS
    read: Hits = NO_HITS
    """Those of the search's best matches that the cross-encoder read, with its scores."""
    unlike: IntArray = field(default_factory=lambda: NO_HITS.slots)
    """Items that the cross-encoder finds unlike the session's newest one, whatever their vectors say."""
    rules: InForce = NO_RULES
    """What the shop demands of the list."""


def session_interactions(state: UserState, policy: Policy) -> tuple[Interaction, ...]:
    """The interactions of the session; none where a search began a new one."""
    session = session_of(state, policy)
    if session and state.searches:
        pause_ms = state.searches[-1].at_ms - session[-1].at_ms
        if pause_ms > policy.session_gap_minutes * MINUTE_MS:
            return ()
    return session


def session_items(state: UserState, policy: Policy) -> list[str]:
    """The distinct items of the session, newest first."""
    return distinct_items(session_interactions(state, policy))


def distinct_items(interactions: tuple[Interaction, ...]) -> list[str]:
    """The items that a session is about, newest first."""
    return list(dict.fromkeys([i.item_id for i in reversed(interactions) if i.kind != REMOVE_FROM_CART]))


def rows_needed(state: UserState, policy: Policy) -> list[str]:
    """The items whose rows of signals a list wants: the session's newest."""
    return session_items(state, policy)[:SESSION_ROWS]


def query_of(state: UserState, at_ms: int, policy: Policy) -> Search | None:
    """The newest search, where it still shapes the list, in the letters that it shows."""
    if not state.searches or at_ms - state.searches[-1].at_ms > policy.query_minutes * MINUTE_MS:
        return None
    return state.searches[-1]._replace(query=clean_query(state.searches[-1].query))


def query_age(state: UserState, query: Search) -> int:
    """How many distinct items were touched since a search: it ages as an item of the session does."""
    later = takewhile(lambda interaction: interaction.at_ms > query.at_ms, reversed(state.interactions))
    return len({interaction.item_id for interaction in later})


def session_vector(
    state: UserState, items: ItemTable, space: ItemVectors, policy: Policy
) -> FloatArray | None:
    """The mean vector of the session's items, newer ones counting more; None where none is known."""
    session = session_items(state, policy)[:SESSION_ROWS]
    return mean_vector(session, SESSION_RECENCY, items, space)


def taste_vector(state: UserState, items: ItemTable, space: ItemVectors) -> FloatArray | None:
    """The mean vector of all items remembered of a shopper; None where none is known."""
    known = [i.item_id for i in state.interactions] + [o.item_id for o in state.owned]
    return mean_vector(list(dict.fromkeys(known)), 1.0, items, space)


def mean_vector(
    item_ids: list[str], recency: float, items: ItemTable, space: ItemVectors
) -> FloatArray | None:
    slots = np.array([-1 if slot is None else slot for slot in items.slots(item_ids)], np.int64)
    weights = recency ** np.arange(len(slots))
    known = np.flatnonzero(slots >= 0)
    known = known[space.has_vector[slots[known]]]
    if not len(known):
        return None
    mean = weights[known].astype(np.float32) @ space.vectors[slots[known]]
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length > 0 else None
