"""The use case: the results that shops send with searches, each list put in order for its shopper.

Nothing is retrieved, and no rule acts: the shop has chosen. See `stream.core.personal_search`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream.catalog.vector_space import VectorSpace
from stream.catalog.view import CatalogView
from stream.core import candidates, personal_search, ranking
from stream.core.candidates import Candidates
from stream.core.context import Context, session_vector, taste_vector
from stream.core.disguise import clean_query
from stream.core.events import RecommendedItem, SearchEvent
from stream.core.items import FloatArray
from stream.core.policy import Policy
from stream.core.signals import RowView
from stream.core.state import Search, UserState
from stream.lists.pair_scores import PairScores, pair
from stream.signals.learnt import LearntItems

Rerank = Callable[[Sequence[tuple[Context, Candidates]]], Awaitable[Sequence[tuple[FloatArray, str] | None]]]
"""Have the candidates of lists scored; None where the model gave nothing in time."""


@dataclass(frozen=True)
class Asked:
    """Results to be put in order: the event that brought them and what is known of the shopper after it."""

    event: SearchEvent
    search: Search
    state: UserState
    at_ms: int


@dataclass(frozen=True)
class Answer:
    """Results in order, the version by name of the models that took part, and what had to be left out."""

    items: list[RecommendedItem]
    model_versions: dict[str, str]
    degraded: list[str]


class SearchResults:
    """Put results in order.

    Args:
        rerank: scores candidates as for any lists.
        read_best: how many of the best matches the cross-encoder reads.
    """

    def __init__(
        self,
        *,
        catalog: CatalogView,
        learnt: LearntItems,
        pair_scores: PairScores,
        rerank: Rerank,
        read_best: int,
        policy: Policy,
    ) -> None:
        self._catalog = catalog
        self._learnt = learnt
        self._pair_scores = pair_scores
        self._rerank = rerank
        self._read_best = read_best
        self._policy = policy

    def understood(self, event: SearchEvent) -> Search:
        """What an event searches for, in the letters that it shows and with its typing errors undone."""
        search = self._catalog.understood(Search(event.at_ms, clean_query(event.query), 0))
        assert search is not None
        return search

    async def answers(
        self,
        asked: Sequence[Asked],
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
        generation: int,
    ) -> list[Answer]:
        """Answer each with exactly its results.

        Args:
            vectors: of the searches' texts, by the version of `space`; without those not made in time.
            rows: signals of the shoppers' items.
            generation: of the catalogue, when `rows` were read.
        """
        return await asyncio.gather(*(self._answer(one, space, vectors, rows, generation) for one in asked))

    async def _answer(
        self,
        asked: Asked,
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
        generation: int,
    ) -> Answer:
        items = self._catalog.items
        context = self._context(asked, space, vectors, rows)
        slots = personal_search.slots_of(asked.event.results, items)
        found = candidates.gather(context, self._policy, slots)
        asking = asyncio.ensure_future(self._taste(context, found))
        matches = personal_search.matches(context, found)
        read = personal_search.to_read(matches, self._read_best)
        query = asked.search.query
        pairs = [pair(query, items.at(slot).text) for slot in found.slots[read].tolist()]
        [scored] = await self._pair_scores.get([pairs])
        tastes, versions, degraded = await asking
        if context.query_vector is None:
            degraded.insert(0, "encoder")
        if space.version:
            versions["encoder"] = space.version
        if scored is None:
            degraded.append("cross_encoder")
            read, scored = read[:0], (np.zeros(0, np.float32), "")
        elif pairs:
            versions["cross_encoder"] = scored[1]
        scores = personal_search.relevance(matches, read, scored[0]) + tastes
        # While the models were asked, items may have been withdrawn or removed, and slots given to others.
        stays = items.available[found.slots] & (items.freed_at[found.slots] <= generation)
        places = personal_search.ordered(asked.event.results, items, found, scores, stays)
        ranked = [place.position for place in places if place.position is not None]
        reasons = personal_search.reasons(context, found, ranked, tastes)
        made = []
        for rank, place in enumerate(places, start=1):
            if place.position is not None:
                said = "search", reasons[place.position]
            else:
                said = "shop", personal_search.reason_without_score(place.item_id, items)
            made.append(RecommendedItem(place.item_id, rank, round(place.score, 6), *said))
        return Answer(made, versions, degraded)

    def _context(
        self,
        asked: Asked,
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
    ) -> Context:
        items, state = self._catalog.items, asked.state
        return Context(
            state=state,
            at_ms=asked.at_ms,
            items=items,
            space=space,
            rows=rows,
            popularity=self._learnt.popularity,
            session_vector=session_vector(state, items, space, self._policy),
            taste_vector=taste_vector(state, items, space),
            query=asked.search,
            query_vector=vectors.get(asked.search.query),
            lexical=self._catalog.matching(asked.search.query, personal_search.LEXICAL),
        )

    async def _taste(
        self, context: Context, found: Candidates
    ) -> tuple[FloatArray, dict[str, str], list[str]]:
        """What the shopper's history says of each result, by which version, and what had to be left out."""
        if personal_search.is_stranger(context.state) or not len(found):
            return np.zeros(len(found), np.float32), {}, []
        alone = personal_search.without_shopper(context)
        beside = candidates.gather(alone, self._policy, found.slots)
        one, other = await self._rerank([(context, found), (alone, beside)])
        if one is None or other is None or one[1] != other[1]:
            by_weights = ranking.blended(context, found), ranking.blended(alone, beside)
            return personal_search.taste(*by_weights), {}, ["reranker"]
        return personal_search.taste(one[0], other[0]), {"reranker": one[1]} if one[1] else {}, []
