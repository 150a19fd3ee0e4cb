"""The use case: one batch of shoppers' events in, every affected shopper's list out. Ports only.

The order is what makes a crash harmless. The increments about items are acknowledged before the states
they were computed from are saved, so that a replay computes the same ones; a list is published after its
sequence was reserved by saving the state, so that one sequence never names two lists; and the batch may be
acknowledged only when `handle` returns.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from stream.attribution import Attributor, Witness
from stream.catalog import CatalogView
from stream.core import candidates, personal_search, ranking, state
from stream.core.bots import impossible
from stream.core.candidates import Candidates
from stream.core.context import Context, Hits, query_of, rows_needed
from stream.core.events import (
    ClickEvent,
    Event,
    ImpressionEvent,
    RecommendationList,
    RecommendedItem,
    SearchEvent,
    Trigger,
    decode_click,
    decode_search,
)
from stream.core.explain import UNLIKE, claims, explain
from stream.core.items import BoolArray, FloatArray
from stream.core.listing import Composed, compose, recommendation_id
from stream.core.policy import HOUR_MS, Policy
from stream.core.rules.in_force import InForce
from stream.core.signals import Increment, RowView, increments
from stream.core.state import Search, UserState
from stream.errors import InvalidMessage, ModelUnavailable, StateUnavailable
from stream.learnt import LearntItems
from stream.list_context import context_of
from stream.list_log import ListLog
from stream.pair_scores import BackgroundPairs, Pair, PairScores, pair
from stream.ports import DeadLetter, Encoder, Publisher, RawMessage, Reranker, StateStore
from stream.rules import LiveRules
from stream.search_results import Answer, Asked, SearchResults
from stream.shown_lists import ShownLists
from stream.telemetry import Telemetry
from stream.vector_space import VectorSpace

SCHEMA_VERSION = 1
PLACEMENT = "home"
CONFLICT_ROUNDS = 5
QUERIES_KEPT = 10_000


@dataclass(frozen=True)
class Deadlines:
    """How long a model may take before lists go on without it, in seconds.

    The cross-encoder's is that of `PairScores`.
    """

    encode_s: float = 0.05
    rerank_s: float = 0.05


@dataclass(frozen=True)
class _Shopper:
    """One shopper's part of a batch: the state before it, after it, and the event the list answers.

    `searches` brought results to be put in order: the newest of each placement. `sequence` is the first
    of the shopper's lists; those of search results come before the recommendations.
    """

    before: UserState
    after: UserState
    trigger: Event
    at_ms: int
    searches: tuple[SearchEvent, ...]
    sequence: int


@dataclass(frozen=True)
class _Draft:
    """A list in the making: `read` are positions in `found` whose pairs with the search are scored."""

    shopper: _Shopper
    context: Context
    found: Candidates
    scores: asyncio.Future[tuple[FloatArray, str] | None]
    read: NDArray[np.intp]
    pairs: list[Pair]


@dataclass(frozen=True)
class _Scored:
    """A draft with what the models said: `stays` [N] marks the candidates that may still be shown."""

    context: Context
    scores: FloatArray
    stays: BoolArray
    model_versions: dict[str, str]
    degraded: list[str]


@dataclass(frozen=True)
class Moment:
    """What a list depends on beside the shopper's state: the event that it answers, and when that was."""

    trigger: Event
    at_ms: int


@dataclass(frozen=True)
class Remade:
    """A shopper's newest list made again from what is known now; nothing of it is saved or published.

    `scores` [N] are the model's, or the linear weights' where it gave none in time; chance draws from `seed`.
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


class Recommender:
    """Fold events and make lists.

    Args:
        read_best: how many of a search's best matches the cross-encoder reads.
        in_order: held by whoever reserves sequences and publishes lists, so that lists go out in their order.
        searches_topic: messages of this topic are searches, all others are clicks.
        now_ms: the wall clock in epoch milliseconds.
    """

    def __init__(
        self,
        *,
        states: StateStore,
        encoder: Encoder,
        reranker: Reranker,
        pair_scores: PairScores,
        background: BackgroundPairs,
        read_best: int,
        publisher: Publisher,
        attributor: Attributor,
        list_log: ListLog,
        catalog: CatalogView,
        learnt: LearntItems,
        rules: LiveRules,
        shown: ShownLists,
        in_order: asyncio.Lock,
        policy: Policy,
        deadlines: Deadlines,
        searches_topic: str,
        now_ms: Callable[[], int],
        telemetry: Telemetry,
    ) -> None:
        self._states = states
        self._reranker = reranker
        self._pair_scores = pair_scores
        self._background = background
        self._read_best = read_best
        self._publisher = publisher
        self._attributor = attributor
        self._list_log = list_log
        self._catalog = catalog
        self._learnt = learnt
        self._rules = rules
        self._shown = shown
        self._in_order = in_order
        self._policy = policy
        self._deadlines = deadlines
        self._searches_topic = searches_topic
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

    async def handle(self, messages: Sequence[RawMessage]) -> None:
        """Take one batch, in the order of its partitions.

        Raises:
            Unavailable: nothing may be acknowledged; give the same batch again.
        """
        with self._background.held():
            await self._handle(messages)

    async def _handle(self, messages: Sequence[RawMessage]) -> None:
        with self._telemetry.timed("decode"):
            events, impressions, letters = self._decode(messages)
        waiting = events
        unheard: Sequence[ImpressionEvent] = impressions
        for _ in range(CONFLICT_ROUNDS):
            if not waiting and not unheard:
                break
            waiting, unheard = await self._round(waiting, unheard), ()
        if waiting:
            raise StateUnavailable(
                f"{len(waiting)} states were changed by another worker {CONFLICT_ROUNDS} times in a row"
            )
        await self._publisher.publish_dead_letters(letters)
        for letter in letters:
            self._telemetry.dead_letters.labels(letter.message.source.topic, letter.code).inc()
        for shopper_events in events.values():
            for event in shopper_events:
                self._telemetry.events.labels(event.source.topic).inc()
        for impression in impressions:
            self._telemetry.events.labels(impression.source.topic).inc()

    def _decode(
        self, messages: Sequence[RawMessage]
    ) -> tuple[dict[str, list[Event]], list[ImpressionEvent], list[DeadLetter]]:
        events: dict[str, list[Event]] = {}
        impressions: list[ImpressionEvent] = []
        letters: list[DeadLetter] = []
        for message in messages:
            is_search = message.source.topic == self._searches_topic
            try:
                event = (decode_search if is_search else decode_click)(*message[:3])
            except InvalidMessage as error:
                letters.append(DeadLetter(message, error.code, error.message))
            else:
                if isinstance(event, ImpressionEvent):
                    impressions.append(event)
                else:
                    events.setdefault(event.user_id, []).append(event)
        return events, impressions, letters

    async def _round(
        self, events: dict[str, list[Event]], impressions: Sequence[ImpressionEvent]
    ) -> dict[str, list[Event]]:
        """Make and publish lists; return the events of shoppers whom another worker changed meanwhile."""
        users = dict.fromkeys([*events, *(impression.user_id for impression in impressions)])
        with self._telemetry.timed("load"):
            states = await self._states.load(list(users))
        shoppers, learnt_now, witnesses = self._fold(states, events)
        now = states | {shopper.after.user_id: shopper.after for shopper in shoppers}
        witnesses += [
            Witness(event, impossible(now[event.user_id], event.at_ms, self._policy)) for event in impressions
        ]
        told = asyncio.gather(self._publisher.publish_signals(learnt_now), self._attributor.tell(witnesses))
        try:
            lists = await self._lists(shoppers) if shoppers else []
        except BaseException:
            told.cancel()
            raise
        await told
        async with self._in_order:
            with self._telemetry.timed("save"):
                saved = await self._states.save(
                    [
                        (shopper.after._replace(sequence=made[-1].sequence), shopper.before.sequence)
                        for shopper, made in zip(shoppers, lists, strict=True)
                    ]
                )
            kept = [
                (shopper, made) for shopper, made, done in zip(shoppers, lists, saved, strict=True) if done
            ]
            self._telemetry.conflicts.inc(len(shoppers) - len(kept))
            with self._telemetry.timed("publish"):
                published = [one for _, made in kept for one in made]
                for _, made in kept:
                    self._shown.put(made[-1])
                await asyncio.gather(
                    self._publisher.publish_lists(published),
                    self._attributor.remember(published),
                    self._list_log.publish(published),
                )
        self._count(kept)
        return {
            shopper.before.user_id: events[shopper.before.user_id]
            for shopper, done in zip(shoppers, saved, strict=True)
            if not done
        }

    def _fold(
        self, states: dict[str, UserState], events: dict[str, list[Event]]
    ) -> tuple[list[_Shopper], dict[str, list[Increment]], list[Witness]]:
        shoppers: list[_Shopper] = []
        witnesses: list[Witness] = []
        learnt_now: dict[str, list[Increment]] = {}
        for user_id, shopper_events in events.items():
            before = after = states[user_id]
            for event in shopper_events:
                folded = state.apply(after, event, self._policy)
                sign = impossible(folded, event.at_ms, self._policy)
                if sign is not None:
                    self._telemetry.automated.labels(sign).inc()
                else:
                    for item_id, increment in increments(after, folded, event, self._policy).items():
                        learnt_now.setdefault(item_id, []).append(increment)
                if isinstance(event, ClickEvent):
                    witnesses.append(Witness(event, sign))
                after = folded
            trigger = _newest(shopper_events)
            newest_ms = [entries[-1].at_ms for entries in (after.interactions, after.searches) if entries]
            # Following the clock keeps sequences growing for a shopper who was erased or forgotten.
            sequence = max(before.sequence + 1, self._now_ms())
            searches = _with_results(shopper_events)
            at_ms = max([trigger.at_ms, *newest_ms])
            shoppers.append(_Shopper(before, after, trigger, at_ms, searches, sequence))
        # Rows skip offsets below the last one they took from a source, so the shoppers' are put in order.
        for new in learnt_now.values():
            new.sort(key=lambda increment: (increment.source, increment.offset))
        return shoppers, learnt_now, witnesses

    async def _lists(self, shoppers: Sequence[_Shopper]) -> list[list[RecommendationList]]:
        """Make each shopper's lists, the recommendations last."""
        searches = [
            self._catalog.understood(query_of(shopper.after, shopper.at_ms, self._policy))
            for shopper in shoppers
        ]
        asked = [
            Asked(event, self._results.understood(event), shopper.after, shopper.at_ms)
            for shopper in shoppers
            for event in shopper.searches
        ]
        needed = dict.fromkeys(
            item_id for shopper in shoppers for item_id in rows_needed(shopper.after, self._policy)
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
                    self._results_list(shopper, event, shopper.sequence + place, next(of_results))
                    for place, event in enumerate(shopper.searches)
                ),
                recommendations,
            ]
            for shopper, recommendations in zip(shoppers, made, strict=True)
        ]

    async def _recommendations(
        self,
        shoppers: Sequence[_Shopper],
        searches: Sequence[Search | None],
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
        generation: int,
    ) -> list[RecommendationList]:
        drafts = []
        with self._telemetry.timed("retrieve"):
            for shopper, search in zip(shoppers, searches, strict=True):
                context = self._context(shopper, search, space, vectors, rows)
                found = candidates.gather(context, self._policy)
                scores = asyncio.ensure_future(self._rerank(context, found))
                drafts.append(self._draft(shopper, context, found, scores))
                await asyncio.sleep(0)  # lets the request leave before the next shopper's arithmetic
        reading = asyncio.ensure_future(self._pair_scores.get([draft.pairs for draft in drafts]))
        with self._telemetry.timed("rerank"):
            await asyncio.wait([draft.scores for draft in drafts])
        return [
            self._list(draft, pair_scores, generation)
            for draft, pair_scores in zip(drafts, await reading, strict=True)
        ]

    def _context(
        self,
        shopper: _Shopper,
        search: Search | None,
        space: VectorSpace,
        vectors: Mapping[str, FloatArray],
        rows: Mapping[str, RowView],
    ) -> Context:
        trigger = shopper.trigger
        return context_of(
            shopper.after,
            shopper.at_ms,
            catalog=self._catalog,
            space=space,
            rows=rows,
            trends=self._learnt,
            policy=self._policy,
            now_ms=self._now_ms(),
            in_view=frozenset(line.item_id for line in trigger.lines) if _is_click(trigger) else frozenset(),
            search=search,
            query_vector=vectors.get(search.query) if search else None,
            rules=self._in_force(shopper),
        )

    def _in_force(self, shopper: _Shopper) -> InForce:
        """The rules for a shopper's list that goes out now."""
        trigger = shopper.trigger
        return self._rules.book.in_force(self._now_ms(), _placement(trigger), trigger.segment, shopper.after)

    def _draft(
        self,
        shopper: _Shopper,
        context: Context,
        found: Candidates,
        scores: asyncio.Future[tuple[FloatArray, str] | None],
    ) -> _Draft:
        """Say which pairs a list wants scored, and what is known of its items in pairs already."""
        items = context.items
        pairs: list[Pair] = []
        read = ranking.to_read(context, found, self._read_best)
        if context.query is not None:
            query = context.query.query
            pairs = [pair(query, items.at(slot).text) for slot in found.slots[read].tolist()]
        in_view = items.get(found.row_items[0]) if found.session_rows and self._read_best else None
        if in_view is not None:
            near = found.slots[claims(found)]
            likely = [pair(in_view.title, items.at(slot).text) for slot in near.tolist()]
            known = self._pair_scores.known(likely)
            self._background.add(one for one, score in zip(likely, known, strict=True) if np.isnan(score))
            context = replace(context, unlike=near[known < UNLIKE])
        return _Draft(shopper, context, found, scores, read, pairs)

    async def _rerank(self, context: Context, found: Candidates) -> tuple[FloatArray, str] | None:
        """Scores and the version of the model; None where it gave nothing in time."""
        if not len(found):
            return np.zeros(0, np.float32), ""
        try:
            return await self._reranker.score(ranking.features(context, found), self._deadlines.rerank_s)
        except ModelUnavailable as error:
            self._telemetry.model_failures.labels(error.model, error.reason).inc()
            return None

    def _list(
        self, draft: _Draft, pair_scores: tuple[FloatArray, str] | None, generation: int
    ) -> RecommendationList:
        shopper, found = draft.shopper, draft.found
        scored = self._scored(draft, pair_scores, generation)
        context, degraded = scored.context, scored.degraded
        now_ms = self._now_ms()
        user_id = shopper.after.user_id
        sequence = shopper.sequence + len(shopper.searches)
        list_id = recommendation_id(user_id, sequence)
        # So may the rules have changed.
        rules = self._in_force(shopper)
        composed = compose(
            context, found, scored.scores, self._policy, rules, int(list_id[:16], 16), scored.stays
        )
        if not composed.chosen:
            degraded.append("empty")
        made = []
        for rank, chosen in enumerate(composed.chosen, start=1):
            source, reason = explain(context, found, chosen.position)
            if chosen.rule:
                source, reason = candidates.PINNED, "chosen by the shop"
            item_id = context.items.at(int(found.slots[chosen.position])).item_id
            score, propensity = round(chosen.score, 6), round(chosen.propensity, 6)
            made.append(RecommendedItem(item_id, rank, score, source, reason, propensity, chosen.explored))
        for rule in {warning.partition(":")[0] for warning in composed.warnings}:
            self._telemetry.rule_warnings.labels(rule).inc()
        trigger = shopper.trigger
        answer = RecommendationList(
            schema_version=SCHEMA_VERSION,
            recommendation_id=list_id,
            user_id=user_id,
            placement=_placement(trigger),
            sequence=sequence,
            generated_at=now_ms,
            expires_at=now_ms + int(self._policy.list_valid_hours * HOUR_MS),
            trigger=_trigger(trigger),
            model_versions=scored.model_versions,
            degraded=degraded,
            items=made,
            segment=trigger.segment,
            warnings=composed.warnings,
            policy=self._policy.name,
        )
        self._list_log.note(answer, context, found)
        return answer

    def _scored(self, draft: _Draft, pair_scores: tuple[FloatArray, str] | None, generation: int) -> _Scored:
        context, found, reranked = draft.context, draft.found, draft.scores.result()
        degraded = []
        versions = {}
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
        return _Scored(context, scores, stays, versions, degraded)

    async def remade(self, state: UserState, moment: Moment) -> Remade:
        """Make a shopper's newest list again, as if the state were this one; nothing is saved or published.

        Raises:
            StateUnavailable: the signals cannot be read.
        """
        shopper = _Shopper(state, state, moment.trigger, moment.at_ms, (), state.sequence)
        search = self._catalog.understood(query_of(state, moment.at_ms, self._policy))
        generation, space = self._catalog.items.generation, self._catalog.space
        vectors, rows = await asyncio.gather(
            self._queries.get([search.query] if search else [], space.version),
            self._learnt.rows(dict.fromkeys(rows_needed(state, self._policy))),
        )
        context = self._context(shopper, search, space, vectors, rows)
        found = candidates.gather(context, self._policy)
        scores = asyncio.ensure_future(self._rerank(context, found))
        draft = self._draft(shopper, context, found, scores)
        [pair_scores] = await self._pair_scores.get([draft.pairs])
        await asyncio.wait([scores])
        scored = self._scored(draft, pair_scores, generation)
        list_id = recommendation_id(state.user_id, state.sequence)
        seed = int(list_id[:16], 16)
        rules = scored.context.rules
        composed = compose(scored.context, found, scored.scores, self._policy, rules, seed, scored.stays)
        return Remade(
            context=scored.context,
            found=found,
            scores=scored.scores,
            stays=scored.stays,
            seed=seed,
            composed=composed,
            recommendation_id=list_id,
            model_versions=scored.model_versions,
            degraded=scored.degraded,
        )

    def _results_list(
        self, shopper: _Shopper, event: SearchEvent, sequence: int, answer: Answer
    ) -> RecommendationList:
        now_ms = self._now_ms()
        return RecommendationList(
            schema_version=SCHEMA_VERSION,
            recommendation_id=recommendation_id(event.user_id, sequence),
            user_id=event.user_id,
            placement=event.placement or personal_search.PLACEMENT,
            sequence=sequence,
            generated_at=now_ms,
            expires_at=now_ms + int(self._policy.list_valid_hours * HOUR_MS),
            trigger=_trigger(event),
            model_versions=answer.model_versions,
            degraded=answer.degraded,
            items=answer.items,
            reordered=True,
            policy=self._policy.name,
        )

    def _count(self, published: Sequence[tuple[_Shopper, list[RecommendationList]]]) -> None:
        now_ms = self._now_ms()
        for shopper, lists in published:
            self._telemetry.freshness.observe(max(0, now_ms - shopper.trigger.source.timestamp_ms) / 1000)
            for made in lists:
                self._telemetry.lists.inc()
                for part in made.degraded:
                    self._telemetry.degraded.labels(part).inc()


class QueryVectors:
    """Vectors of queries by version, the last 10,000 remembered; one call of the encoder for the others."""

    def __init__(self, encoder: Encoder, timeout_s: float, telemetry: Telemetry) -> None:
        self._encoder = encoder
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._vectors: OrderedDict[tuple[str, str], FloatArray] = OrderedDict()

    async def get(self, queries: Collection[str], version: str) -> dict[str, FloatArray]:
        """Give the vectors [384] of queries by a version of the encoder; without those not made in time."""
        new = [query for query in queries if (version, query) not in self._vectors]
        if new:
            try:
                vectors, _ = await self._encoder.encode(new, self._timeout_s, version)
            except ModelUnavailable as error:
                self._telemetry.model_failures.labels(error.model, error.reason).inc()
            else:
                made = zip(new, vectors, strict=True)
                self._vectors.update(((version, query), vector) for query, vector in made)
        found = {}
        for query in queries:
            if (version, query) in self._vectors:
                self._vectors.move_to_end((version, query))
                found[query] = self._vectors[version, query]
        while len(self._vectors) > QUERIES_KEPT:
            self._vectors.popitem(last=False)
        return found


def _newest(events: Sequence[Event]) -> Event:
    """The event that was appended last: in one partition the order tells, between two the broker's clock.

    Where both lie in one millisecond, the event times decide.
    """
    last = {event.source[:2]: event for event in events}
    return max(last.values(), key=lambda event: (event.source.timestamp_ms, event.at_ms))


def _with_results(events: Sequence[Event]) -> tuple[SearchEvent, ...]:
    """The newest search of each placement that brought results, in the order of their coming."""
    found: dict[str, SearchEvent] = {}
    for event in events:
        if isinstance(event, SearchEvent) and event.results:
            placement = event.placement or personal_search.PLACEMENT
            found.pop(placement, None)
            found[placement] = event
    return tuple(found.values())


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


def _is_click(event: Event) -> TypeGuard[ClickEvent]:
    return isinstance(event, ClickEvent)
