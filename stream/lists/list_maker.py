"""The use case: what the lists of shoppers hold. The models are asked; nothing is saved or published here.

All shoppers of a batch go together: one call encodes their searches, the candidates of some lists are
gathered while those of the lists before are scored, and the pairs of all searches are read in one go.
What a model does not give in time is left out, and the list says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.catalog.vector_space import VectorSpace
from stream.catalog.view import CatalogView
from stream.core import candidates, personal_search, ranking
from stream.core.candidates import Candidates
from stream.core.context import Context, Hits, query_of, rows_needed
from stream.core.events import (
    ClickEvent,
    Event,
    RecommendationList,
    RecommendedItem,
    SearchEvent,
    Trigger,
)
from stream.core.explain import UNLIKE, causes, claims
from stream.core.items import BoolArray, FloatArray
from stream.core.listing import Composed, compose, recommendation_id, seed_of
from stream.core.policy import HOUR_MS, Policy
from stream.core.rules.in_force import InForce
from stream.core.signals import RowView
from stream.core.state import Search, UserState
from stream.errors import ModelUnavailable
from stream.lists.list_context import context_of
from stream.lists.list_log import ListLog
from stream.lists.pair_scores import BackgroundPairs, Pair, PairScores, pair
from stream.lists.query_vectors import QueryVectors
from stream.lists.rules import LiveRules
from stream.lists.search_results import Answer, Asked, SearchResults
from stream.ports import Encoder, Reranker
from stream.signals.learnt import LearntItems
from stream.telemetry.metrics import Telemetry

SCHEMA_VERSION = 1
PLACEMENT = "home"
LISTS_A_REQUEST = 8
"""Lists whose candidates are scored in one request: what a request costs hardly grows with its rows.

Not the whole of a large batch, so that the reranker works on the first while the last are gathered.
"""


@dataclass(frozen=True)
class Deadlines:
    """How long a model may take before lists go on without it, in seconds.

    The cross-encoder's is that of `PairScores`.
    """

    encode_s: float = 0.05
    rerank_s: float = 0.05


@dataclass(frozen=True)
class Moment:
    """What a list depends on beside the shopper's state: the event that it answers, and when that was."""

    trigger: Event
    at_ms: int


@dataclass(frozen=True)
class Shopper:
    """Whom lists are made for: the shopper's state, and the event that the recommendations answer.

    `searches` brought results to be put in order: the newest of each placement. `sequence` is the first
    of the shopper's lists; those of search results come before the recommendations.
    """

    state: UserState
    trigger: Event
    at_ms: int
    searches: tuple[SearchEvent, ...]
    sequence: int


@dataclass(frozen=True)
class _Draft:
    """A list in the making: `read` are positions in `found` whose pairs with the search are scored."""

    shopper: Shopper
    context: Context
    found: Candidates
    read: NDArray[np.intp]
    pairs: list[Pair]


@dataclass(frozen=True)
class Made:
    """Recommendations with all that they were made from.

    `scores` [N] are the model's, or the linear weights' where it gave none in time; `stays` [N] marks the
    candidates that might still be shown then; chance drew from `seed`.
    """

    context: Context
    found: Candidates
    scores: FloatArray
    stays: BoolArray
    seed: int
    composed: Composed
    recommendation_id: str
    model_versions: dict[str, str]
    degraded: list[str]


class ListMaker:
    """Make lists.

    Args:
        read_best: how many of a search's best matches the cross-encoder reads.
        list_log: told what a share of the lists was ranked by.
        now_ms: the wall clock in epoch milliseconds.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        reranker: Reranker,
        pair_scores: PairScores,
        background: BackgroundPairs,
        read_best: int,
        list_log: ListLog,
        catalog: CatalogView,
        learnt: LearntItems,
        rules: LiveRules,
        policy: Policy,
        deadlines: Deadlines,
        now_ms: Callable[[], int],
        telemetry: Telemetry,
    ) -> None:
        self._reranker = reranker
        self._pair_scores = pair_scores
        self._background = background
        self._read_best = read_best
        self._list_log = list_log
        self._catalog = catalog
        self._learnt = learnt
        self._rules = rules
        self._policy = policy
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._telemetry = telemetry
        self._queries = QueryVectors(encoder, deadlines.encode_s, telemetry)
        self._results = SearchResults(
            catalog=catalog,
            learnt=learnt,
            pair_scores=pair_scores,
            rerank=self._rerank,
            read_best=read_best,
            policy=policy,
        )

    async def lists(self, shoppers: Sequence[Shopper]) -> list[list[RecommendationList]]:
        """Make each shopper's lists, the recommendations last.

        Raises:
            StateUnavailable: the signals cannot be read.
        """
        searches = [
            self._catalog.understood(query_of(shopper.state, shopper.at_ms, self._policy))
            for shopper in shoppers
        ]
        asked = [
            Asked(event, self._results.understood(event), shopper.state, shopper.at_ms)
            for shopper in shoppers
            for event in shopper.searches
        ]
        needed = dict.fromkeys(
            item_id for shopper in shoppers for item_id in rows_needed(shopper.state, self._policy)
        )
        generation = self._catalog.items.generation
        space = self._catalog.space  # once: another version may take over while the models are asked
        with self._telemetry.timed("encode"):
            queries = {search.query for search in (*searches, *(one.search for one in asked)) if search}
            vectors, rows = await asyncio.gather(
                self._queries.get(queries, space.version), self._learnt.rows(needed)
            )
        answers, made = await asyncio.gather(
            self._results.answers(asked, space, vectors, rows, generation),
            self._recommendations(shoppers, searches, space, vectors, rows, generation),
        )
        of_results = iter(answers)
        return [
            [
                *(
                    self._list(
                        event,
                        shopper.sequence + place,
                        event.placement or personal_search.PLACEMENT,
                        next(of_results),
                        reordered=True,
                    )
                    for place, event in enumerate(shopper.searches)
                ),
                recommendations,
            ]
            for shopper, recommendations in zip(shoppers, made, strict=True)
        ]

    async def made(self, state: UserState, moment: Moment) -> Made:
        """Make a shopper's newest list again, as if the state were this one.

        Raises:
            StateUnavailable: the signals cannot be read.
        """
        shopper = Shopper(state, moment.trigger, moment.at_ms, (), state.sequence)
        search = self._catalog.understood(query_of(state, moment.at_ms, self._policy))
        generation, space = self._catalog.items.generation, self._catalog.space
        vectors, rows = await asyncio.gather(
            self._queries.get([search.query] if search else [], space.version),
            self._learnt.rows(dict.fromkeys(rows_needed(state, self._policy))),
        )
        draft = self._draft(shopper, search, space, vectors, rows)
        [scores], [pair_scores] = await asyncio.gather(
            self._rerank([(draft.context, draft.found)]), self._pair_scores.get([draft.pairs])
        )
        return self._made(draft, scores, pair_scores, generation)

    async def _recommendations(
        self,
        shoppers: Sequence[Shopper],
        searches: Sequence[Search | None],
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
        generation: int,
    ) -> list[RecommendationList]:
        drafts: list[_Draft] = []
        asked: list[asyncio.Task[list[tuple[FloatArray, str] | None]]] = []
        with self._telemetry.timed("retrieve"):
            for shopper, search in zip(shoppers, searches, strict=True):
                drafts.append(self._draft(shopper, search, space, vectors, rows))
                together = drafts[len(asked) * LISTS_A_REQUEST :]
                if len(together) == LISTS_A_REQUEST or len(drafts) == len(shoppers):
                    lists = [(draft.context, draft.found) for draft in together]
                    asked.append(asyncio.ensure_future(self._rerank(lists)))
                await asyncio.sleep(0)  # lets a request leave before the next shopper's arithmetic
        reading = asyncio.ensure_future(self._pair_scores.get([draft.pairs for draft in drafts]))
        with self._telemetry.timed("rerank"):
            await asyncio.wait(asked)
        read = await reading
        scores = [of_list for request in asked for of_list in request.result()]
        return [
            self._recommended(draft.shopper, self._made(draft, of_list, pair_scores, generation))
            for draft, of_list, pair_scores in zip(drafts, scores, read, strict=True)
        ]

    def _draft(
        self,
        shopper: Shopper,
        search: Search | None,
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
    ) -> _Draft:
        """Gather candidates, and say which pairs the cross-encoder should read."""
        context = self._context(shopper, search, space, vectors, rows)
        found = candidates.gather(context, self._policy)
        items = context.items
        pairs: list[Pair] = []
        read = ranking.to_read(context, found, self._read_best)
        if context.query is not None:
            query = context.query.query
            pairs = [pair(query, items.at(slot).text) for slot in found.slots[read].tolist()]
        in_view = items.get(found.row_items[0]) if found.row_items and self._read_best else None
        if in_view is not None:
            near = found.slots[claims(found)]
            likely = [pair(in_view.title, items.at(slot).text) for slot in near.tolist()]
            known = self._pair_scores.known(likely)
            self._background.add(one for one, score in zip(likely, known, strict=True) if np.isnan(score))
            context = replace(context, unlike=near[known < UNLIKE])
        return _Draft(shopper, context, found, read, pairs)

    def _context(
        self,
        shopper: Shopper,
        search: Search | None,
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
    ) -> Context:
        trigger = shopper.trigger
        return context_of(
            shopper.state,
            shopper.at_ms,
            catalog=self._catalog,
            space=space,
            rows=rows,
            trends=self._learnt,
            policy=self._policy,
            now_ms=self._now_ms(),
            in_view=frozenset(line.item_id for line in trigger.lines)
            if isinstance(trigger, ClickEvent)
            else frozenset(),
            search=search,
            query_vector=vectors.get(search.query) if search else None,
            rules=self._in_force(shopper),
        )

    def _in_force(self, shopper: Shopper) -> InForce:
        """The rules for a shopper's list that goes out now."""
        trigger = shopper.trigger
        return self._rules.book.in_force(self._now_ms(), _placement(trigger), trigger.segment, shopper.state)

    async def _rerank(
        self, lists: Sequence[tuple[Context, Candidates]]
    ) -> list[tuple[FloatArray, str] | None]:
        """Of each list the scores, and the version of the model; None where it gave nothing in time."""
        rows = np.concatenate([ranking.features(context, found) for context, found in lists])
        scores, version = np.zeros(0, np.float32), ""
        if len(rows):
            try:
                scores, version = await self._reranker.score(rows, self._deadlines.rerank_s)
            except ModelUnavailable as error:
                self._telemetry.model_failures.labels(error.model, error.reason).inc()
                return [None if len(found) else (scores, "") for _, found in lists]
        ends = np.cumsum([len(found) for _, found in lists])
        return [(part, version if len(part) else "") for part in np.split(scores, ends[:-1])]

    def _made(
        self,
        draft: _Draft,
        reranked: tuple[FloatArray, str] | None,
        pair_scores: tuple[FloatArray, str] | None,
        generation: int,
    ) -> Made:
        """Choose and order a list from what the models said, if they did."""
        shopper, context, found = draft.shopper, draft.context, draft.found
        degraded: list[str] = []
        versions: dict[str, str] = {}
        if context.query is not None and context.query_vector is None:
            degraded.append("encoder")
        if context.space.version:
            versions["encoder"] = context.space.version
        if pair_scores is None:
            degraded.append("cross_encoder")
        elif draft.pairs:
            context = replace(context, read=Hits(found.slots[draft.read], pair_scores[0]))
            versions["cross_encoder"] = pair_scores[1]
        if reranked is None:
            degraded.append("reranker")
            scores = ranking.blended(context, found)
        else:
            scores, version = reranked
            if version:
                versions["reranker"] = version
        # While the models were asked, items may have been withdrawn or removed, and slots given to others.
        items = context.items
        stays = items.available[found.slots] & (items.freed_at[found.slots] <= generation)
        # So may the rules have changed.
        context = replace(context, rules=self._in_force(shopper))
        list_id = recommendation_id(shopper.state.user_id, shopper.sequence + len(shopper.searches))
        seed = seed_of(list_id)
        composed = compose(context, found, scores, self._policy, context.rules, seed, stays)
        return Made(context, found, scores, stays, seed, composed, list_id, versions, degraded)

    def _recommended(self, shopper: Shopper, made: Made) -> RecommendationList:
        degraded = made.degraded if made.composed.chosen else [*made.degraded, "empty"]
        items = _items(made)
        warnings = made.composed.warnings
        for rule in {warning.partition(":")[0] for warning in warnings}:
            self._telemetry.count_rule_warning(rule)
        trigger = shopper.trigger
        answer = self._list(
            trigger,
            shopper.sequence + len(shopper.searches),
            _placement(trigger),
            Answer(items, made.model_versions, degraded),
            segment=trigger.segment,
            warnings=warnings,
        )
        self._list_log.note(answer, made.context, made.found)
        return answer

    def _list(
        self,
        event: Event,
        sequence: int,
        placement: str,
        answer: Answer,
        *,
        segment: str = "",
        warnings: Sequence[str] = (),
        reordered: bool = False,
    ) -> RecommendationList:
        """The message that gives an event's shopper an answer."""
        now_ms = self._now_ms()
        return RecommendationList(
            schema_version=SCHEMA_VERSION,
            recommendation_id=recommendation_id(event.user_id, sequence),
            user_id=event.user_id,
            placement=placement,
            sequence=sequence,
            generated_at=now_ms,
            expires_at=now_ms + int(self._policy.list_valid_hours * HOUR_MS),
            trigger=_trigger(event),
            model_versions=answer.model_versions,
            degraded=answer.degraded,
            items=answer.items,
            policy=self._policy.name,
            segment=segment,
            warnings=list(warnings),
            reordered=reordered,
        )


def _items(made: Made) -> list[RecommendedItem]:
    """The places of the list as shoppers are told of them."""
    chosen = made.composed.chosen
    named = causes(made.context, made.found, [one.position for one in chosen])
    items = []
    for rank, (one, cause) in enumerate(zip(chosen, named, strict=True), start=1):
        source, reason = (candidates.PINNED, "chosen by the shop") if one.rule else cause[:2]
        item_id = made.context.items.at(int(made.found.slots[one.position])).item_id
        score, propensity = round(one.score, 6), round(one.propensity, 6)
        items.append(RecommendedItem(item_id, rank, score, source, reason, propensity, one.explored))
    return items


def _placement(trigger: Event) -> str:
    """Where on the site the recommendations are for; a search with results has a list of its own there."""
    of_results = isinstance(trigger, SearchEvent) and trigger.results
    return PLACEMENT if of_results else trigger.placement or PLACEMENT


def _trigger(event: Event) -> Trigger:
    return Trigger(
        event_id=event.event_id,
        topic=event.source.topic,
        partition=event.source.partition,
        offset=event.source.offset,
        event_time=event.at_ms,
    )
