"""What is around a shopper, asked of the catalogue's indexes and of what trends: what a list is made from.

The one place for it. A worker's lists and those of a replayed log (`stream.evaluation.replay`) go through
here, so what is measured is what is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from stream.catalog.vector_space import VectorSpace
from stream.catalog.view import CatalogView
from stream.core.context import NO_HITS, Context, Hits, session_vector, taste_vector
from stream.core.items import FloatArray
from stream.core.policy import Policy
from stream.core.rules.in_force import NO_RULES, InForce
from stream.core.signals import RowView
from stream.core.state import Search, UserState

NEAREST = 100
"""Items asked of the index of vectors."""
LEXICAL = 100
"""Items asked of the index of words."""


class Trends(Protocol):
    """What all shoppers do now, by slot: see `stream.core.candidates.trending`."""

    @property
    def popularity(self) -> FloatArray:
        """log2 popularity [capacity, half-lives]."""

    @property
    def trending(self) -> Hits:
        """Overall."""

    @property
    def trending_by_category(self) -> Mapping[int, Hits]:
        """By the numbers of `ItemTable.category`."""


def context_of(
    state: UserState,
    at_ms: int,
    *,
    catalog: CatalogView,
    space: VectorSpace,
    rows: Mapping[str, RowView],
    trends: Trends,
    policy: Policy,
    now_ms: int,
    in_view: frozenset[str] = frozenset(),
    search: Search | None = None,
    query_vector: FloatArray | None = None,
    rules: InForce = NO_RULES,
) -> Context:
    """Put together what a list is made from.

    Args:
        at_ms: event time of what the list answers.
        space: the vectors that the list is made from, taken once.
        rows: of `stream.core.candidates.rows_needed`, those that are known.
        now_ms: the clock, which says what is new.
        in_view: what the shopper looks at, beside the newest item.
        query_vector: of the search, None where it could not be encoded.
    """
    items = catalog.items
    session, taste = session_vector(state, items, space, policy), taste_vector(state, items, space)
    wanted = [vector for vector in (session, taste) if vector is not None]
    near = iter(space.search(np.stack(wanted), NEAREST)) if wanted else iter(())
    if state.interactions:
        in_view |= {state.interactions[-1].item_id}
    return Context(
        state=state,
        at_ms=at_ms,
        items=items,
        space=space,
        rows=rows,
        popularity=trends.popularity,
        in_view=in_view,
        trending=trends.trending,
        trending_by_category=trends.trending_by_category,
        new_items=catalog.new_items(now_ms),
        session_vector=session,
        taste_vector=taste,
        near_session=NO_HITS if session is None else Hits(*next(near)),
        near_taste=NO_HITS if taste is None else Hits(*next(near)),
        query=search,
        query_vector=query_vector,
        lexical=catalog.matching(search.query, LEXICAL) if search else NO_HITS,
        near_query=NO_HITS if query_vector is None else catalog.near_query(space, query_vector, NEAREST),
        rules=rules,
    )
