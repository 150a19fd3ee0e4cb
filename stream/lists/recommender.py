"""The use case: one batch of shoppers' events in, every affected shopper's list out. Ports only.

The order is what makes a crash harmless. The increments about items are acknowledged before the states
they were computed from are saved, so that a replay computes the same ones; a list is published after its
sequence was reserved by saving the state, so that one sequence never names two lists; and the batch may be
acknowledged only when `handle` returns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from stream.core import personal_search, state
from stream.core.bots import impossible
from stream.core.events import (
    ClickEvent,
    Event,
    ImpressionEvent,
    RecommendationList,
    SearchEvent,
    decode_click,
    decode_search,
)
from stream.core.policy import Policy
from stream.core.signals import Increment, increments
from stream.core.state import UserState
from stream.errors import InvalidMessage, StateUnavailable
from stream.healing.marks import Marks
from stream.lists.attribution import Attributor, Witness
from stream.lists.list_log import ListLog
from stream.lists.list_maker import ListMaker, Shopper
from stream.lists.pair_scores import BackgroundPairs
from stream.lists.shown_lists import ShownLists
from stream.ports import DeadLetter, Publisher, RawMessage, StateStore
from stream.privacy.pseudonyms import about
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

CONFLICT_ROUNDS = 5


class Recommender:
    """Fold events, have lists made, and publish them.

    Args:
        background: held while events are worked on.
        in_order: held by whoever reserves sequences and publishes lists, so that lists go out in their order.
        searches_topic: messages of this topic are searches, all others are clicks.
        now_ms: the wall clock in epoch milliseconds.
        marks: of the partitions that events come from; None where nobody keeps any.
    """

    def __init__(
        self,
        *,
        states: StateStore,
        lists: ListMaker,
        background: BackgroundPairs,
        publisher: Publisher,
        attributor: Attributor,
        list_log: ListLog,
        shown: ShownLists,
        in_order: asyncio.Lock,
        policy: Policy,
        searches_topic: str,
        now_ms: Callable[[], int],
        telemetry: Telemetry,
        marks: Marks | None = None,
    ) -> None:
        self._states = states
        self._lists = lists
        self._background = background
        self._publisher = publisher
        self._attributor = attributor
        self._list_log = list_log
        self._shown = shown
        self._in_order = in_order
        self._policy = policy
        self._searches_topic = searches_topic
        self._now_ms = now_ms
        self._telemetry = telemetry
        self._marks = marks

    async def handle(self, messages: Sequence[RawMessage]) -> None:
        """Take one batch, in the order of its partitions.

        Raises:
            Unavailable: nothing may be acknowledged; give the same batch again.
        """
        with self._background.held(), self._telemetry.traces.batch(messages):
            await self._handle(messages)

    async def _handle(self, messages: Sequence[RawMessage]) -> None:
        oldest_ms = min((message.source.timestamp_ms for message in messages), default=self._now_ms())
        self._telemetry.stage.labels("wait").observe(max(0, self._now_ms() - oldest_ms) / 1000)
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
        events, impressions = self._without_erased(states, events, impressions)
        shoppers, learnt_now, witnesses = self._fold(states, events)
        now = states | {shopper.state.user_id: shopper.state for shopper in shoppers}
        witnesses += [
            Witness(event, impossible(now[event.user_id], event.at_ms, self._policy)) for event in impressions
        ]
        told = asyncio.ensure_future(self._tell(learnt_now, witnesses))
        try:
            lists = await self._lists.lists(shoppers) if shoppers else []
        except BaseException:
            told.cancel()
            raise
        await told
        async with self._in_order:
            with self._telemetry.timed("save"):
                saved = await self._states.save(
                    [
                        (
                            shopper.state._replace(sequence=made[-1].sequence),
                            states[shopper.state.user_id].sequence,
                        )
                        for shopper, made in zip(shoppers, lists, strict=True)
                    ]
                )
            kept = [
                (shopper, made) for shopper, made, done in zip(shoppers, lists, saved, strict=True) if done
            ]
            if self._marks:
                self._marks.rely_on({shopper.state.user_id: made[-1].sequence for shopper, made in kept})
            self._telemetry.conflicts.inc(len(shoppers) - len(kept))
            with self._telemetry.timed("publish"):
                published = [one for _, made in kept for one in made]
                for _, made in kept:
                    self._shown.put(made[-1])
                acknowledged_ms, _, _ = await asyncio.gather(
                    self._publish(published),
                    self._attributor.remember(published),
                    self._list_log.publish(published),
                )
        self._count(kept, acknowledged_ms)
        return {
            shopper.state.user_id: events[shopper.state.user_id]
            for shopper, done in zip(shoppers, saved, strict=True)
            if not done
        }

    async def _tell(self, learnt_now: dict[str, list[Increment]], witnesses: Sequence[Witness]) -> None:
        """Publish what a round teaches, unless the states that it was learnt from were forgotten by then."""
        if self._marks:
            await self._marks.check()
        await asyncio.gather(self._publisher.publish_signals(learnt_now), self._attributor.tell(witnesses))

    async def _publish(self, lists: Sequence[RecommendationList]) -> int:
        """Publish lists; return when the broker's acknowledgement of them came, in epoch milliseconds."""
        await self._publisher.publish_lists(lists)
        return self._now_ms()

    def _without_erased(
        self,
        states: dict[str, UserState],
        events: dict[str, list[Event]],
        impressions: Sequence[ImpressionEvent],
    ) -> tuple[dict[str, list[Event]], list[ImpressionEvent]]:
        """Leave out what shoppers did before they were erased, and shoppers of whom nothing is left then."""
        left = {
            user_id: [event for event in some if event.at_ms > states[user_id].erased_ms]
            for user_id, some in events.items()
        }
        seen = [event for event in impressions if event.at_ms > states[event.user_id].erased_ms]
        given = sum(map(len, events.values())) + len(impressions)
        self._telemetry.erased.inc(given - sum(map(len, left.values())) - len(seen))
        return {user_id: some for user_id, some in left.items() if some}, seen

    def _fold(
        self, states: dict[str, UserState], events: dict[str, list[Event]]
    ) -> tuple[list[Shopper], dict[str, list[Increment]], list[Witness]]:
        shoppers: list[Shopper] = []
        witnesses: list[Witness] = []
        learnt_now: dict[str, list[Increment]] = {}
        for user_id, shopper_events in events.items():
            before = after = states[user_id]
            for event in shopper_events:
                if state.reuses_id(after, event):
                    self._telemetry.reused_ids.labels(event.source.topic).inc()
                folded = state.apply(after, event, self._policy)
                sign = impossible(folded, event.at_ms, self._policy)
                if sign is not None:
                    self._telemetry.automated.labels(sign).inc()
                else:
                    life = self._marks.life(*event.source[:2]) if self._marks else 0
                    learnt = increments(after, folded, event, self._policy, life)
                    for item_id, increment in learnt.items():
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
            shoppers.append(Shopper(after, trigger, at_ms, searches, sequence))
        # Rows skip offsets below the last one they took from a source, so the shoppers' are put in order.
        for new in learnt_now.values():
            new.sort(key=lambda increment: (increment.source, increment.offset))
        return shoppers, learnt_now, witnesses

    def _count(
        self, published: Sequence[tuple[Shopper, list[RecommendationList]]], acknowledged_ms: int
    ) -> None:
        for shopper, lists in published:
            trigger = shopper.trigger
            took_ms = max(0, acknowledged_ms - trigger.source.timestamp_ms)
            self._telemetry.freshness.observe(took_ms / 1000)
            if log.isEnabledFor(logging.DEBUG):
                what = about(shopper.state.user_id, trigger.event_id, trigger.source[:3])
                log.debug("list acknowledged %d ms after its event", took_ms, extra=what)
            for made in lists:
                self._telemetry.lists.inc()
                for part in made.degraded:
                    self._telemetry.degraded.labels(part).inc()


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
