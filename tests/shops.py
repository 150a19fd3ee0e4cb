"""A whole engine on the fakes, and ways to break it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from builders import NOW_MS, event_of, item_vector, source

from stream.catalog.view import CatalogView
from stream.core import signals
from stream.core.events import RecommendationList
from stream.core.policy import Policy
from stream.core.rules import AnyRule
from stream.core.search import CROSS_BEST
from stream.core.signals import ItemSignals
from stream.core.state import UserState, apply, empty
from stream.core.versions import Serving
from stream.fakes import (
    ExactIndex,
    FirstFeatureReranker,
    HashEncoder,
    MemoryKeptLists,
    MemoryPublisher,
    MemorySignalStore,
    MemoryStateStore,
    SharedWordsCrossEncoder,
    WordIndex,
)
from stream.healing.marks import Marks
from stream.lists.attribution import Attributor
from stream.lists.list_log import ListLog
from stream.lists.list_maker import Deadlines, ListMaker
from stream.lists.pair_scores import BackgroundPairs, PairScores
from stream.lists.recommender import Recommender
from stream.lists.republisher import Republisher
from stream.lists.rules import LiveRules
from stream.lists.shown_lists import ShownLists
from stream.ports import ItemVector, RawMessage
from stream.signals.item_signals import SignalFolder
from stream.signals.learnt import LearntItems
from stream.telemetry.metrics import Telemetry

TITLES = {
    "mug": "red mug",
    "cup": "blue cup",
    "pot": "red tea pot",
    "jar": "glass jar",
    "pan": "iron pan",
    "lid": "iron lid",
    "tin": "cake tin",
    "jug": "milk jug",
}


class Killed(BaseException):
    """The process ends here."""


class Wire:
    """Counts the calls of ports; breaks one of them, before or after it took effect."""

    def __init__(
        self, break_at: int | None = None, after: bool = False, error: BaseException | None = None
    ) -> None:
        self.break_at = break_at
        self.after = after
        self.error = error or Killed()
        self.calls: list[str] = []

    def around(self, port: Any) -> Any:
        """The port with every coroutine method counted."""
        return _Wired(port, self)


class _Wired:
    def __init__(self, port: Any, wire: Wire) -> None:
        self._port = port
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            wire = self._wire
            number = len(wire.calls)
            wire.calls.append(name)
            if number == wire.break_at and not wire.after:
                raise wire.error
            answer = await found(*args, **kwargs)
            if number == wire.break_at:
                raise wire.error
            return answer

        return call


class Shop:
    """An engine on the fakes: the ports outlive the worker, which can be started again.

    `now_ms` is its clock; it stands still unless a test moves it.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        stocked: bool = True,
        list_share: float = 1.0,
        written: Iterable[AnyRule] = (),
    ) -> None:
        self.policy = policy or Policy()
        self.list_share = list_share
        self.now_ms = NOW_MS
        self.states = MemoryStateStore()
        self.signals = MemorySignalStore()
        self.encoder = HashEncoder()
        self.reranker = FirstFeatureReranker()
        self.cross_encoder = SharedWordsCrossEncoder()
        self.publisher = MemoryPublisher()
        self.kept = MemoryKeptLists()
        self.telemetry = Telemetry()
        self.catalog = CatalogView(ExactIndex, WordIndex(), self.telemetry)
        self.written = tuple(written)
        self.shown_limit = 1_000
        self.start()
        if stocked:
            self.stock(TITLES)

    def start(self, wire: Wire | None = None, marks: Marks | None = None) -> None:
        """Start a worker that remembers nothing; what it asks of its ports goes over the wire."""
        around: Callable[[Any], Any] = wire.around if wire else lambda port: port
        self.learnt = LearntItems(
            around(self.signals),
            self.catalog.items,
            lambda: self.now_ms / 1000,
            self.policy.min_shoppers,
            self.telemetry,
        )
        self.pair_scores = PairScores(around(self.cross_encoder), 0.05, self.telemetry)
        self.background = BackgroundPairs(self.pair_scores, self.cross_encoder, self.telemetry)
        self.shown = ShownLists(
            self.shown_limit, self.catalog.items.offers, lambda: self.now_ms / 1000, self.telemetry
        )
        self.rules = LiveRules(
            self.catalog.items, self.written, self.shown, lambda: self.now_ms, self.telemetry
        )
        in_order = asyncio.Lock()
        self.republisher = Republisher(
            shown=self.shown,
            states=around(self.states),
            publisher=around(self.publisher),
            remember=self.kept.remember,
            items=self.catalog.items,
            rules=self.rules,
            policy=self.policy,
            in_order=in_order,
            now_ms=lambda: self.now_ms,
            telemetry=self.telemetry,
        )
        list_log = ListLog(around(self.publisher), self.list_share)
        self.lists = ListMaker(
            encoder=around(self.encoder),
            reranker=around(self.reranker),
            pair_scores=self.pair_scores,
            background=self.background,
            read_best=CROSS_BEST,
            list_log=list_log,
            catalog=self.catalog,
            learnt=self.learnt,
            rules=self.rules,
            policy=self.policy,
            deadlines=Deadlines(),
            now_ms=lambda: self.now_ms,
            telemetry=self.telemetry,
        )
        self.worker = Recommender(
            states=around(self.states),
            lists=self.lists,
            background=self.background,
            publisher=around(self.publisher),
            attributor=Attributor(around(self.kept), around(self.publisher), self.policy, self.telemetry),
            list_log=list_log,
            shown=self.shown,
            in_order=in_order,
            policy=self.policy,
            searches_topic="searches",
            now_ms=lambda: self.now_ms,
            telemetry=self.telemetry,
            marks=marks,
        )

    def stock(self, titles: dict[str, str], **facts: Any) -> None:
        """Put items with their vectors into the catalogue."""
        vectors, _ = asyncio.run(HashEncoder().encode(list(titles.values()), 1.0))
        self.put(
            *(
                item_vector(item_id, title, vector=vector, **facts)
                for (item_id, title), vector in zip(titles.items(), vectors, strict=True)
            )
        )

    def put(self, *made: ItemVector) -> None:
        """Let the catalogue follow items."""
        self.catalog.apply([(one.item.item_id, one) for one in made])
        for one in made:
            self.learnt.place(one.item.item_id)
        self.rules.recheck(one.item.item_id for one in made)

    def announce(self, candidate: str) -> None:
        """Let a version of the encoder, other than "1", be a candidate that has encoded every item."""
        self.catalog.serve(Serving("1", candidate=candidate))
        for item in list(self.catalog.items):
            [vector] = self.catalog.vectors_of(item).values()
            turned = np.roll(vector, int(candidate) - 1)  # as `HashEncoder` does
            self.put(ItemVector(item, {"1": vector, candidate: turned}, source(0, "items")))

    def remove(self, *item_ids: str) -> None:
        """Let the catalogue follow removals."""
        self.catalog.apply([(item_id, None) for item_id in item_ids])
        self.rules.recheck(item_ids)

    def put_right(self) -> list[RecommendationList]:
        """Republish the lists that show what they must not, and return them."""
        already = len(self.publisher.lists)
        if self.shown.stale.is_set():
            asyncio.run(self.republisher.work_off())
        return self.publisher.lists[already:]

    def handle(self, *messages: RawMessage) -> list[RecommendationList]:
        """Give one batch and return the lists it led to."""
        already = len(self.publisher.lists)
        asyncio.run(self.worker.handle(messages))
        return self.publisher.lists[already:]

    def learn(self) -> None:
        """Fold all increments that were published into the signal store, and read what trends."""

        async def fold() -> None:
            folder = SignalFolder(self.signals, self.publisher, self.telemetry)
            for offset, (item_id, one) in enumerate(self.publisher.signals):
                [(key, value)] = signals.encode_increments({item_id: [one]})
                await folder.handle([RawMessage(source(offset, "item-signals"), key.encode(), value)])
            await self.learnt.refresh()

        asyncio.run(fold())

    def state(self, user_id: str) -> UserState:
        """What is stored of a shopper."""
        return asyncio.run(self.states.load([user_id]))[user_id]

    def learnt_rows(self) -> dict[str, ItemSignals]:
        """What the published increments fold to, by item."""
        rows: dict[str, ItemSignals] = {}
        for item_id, one in self.publisher.signals:
            rows[item_id] = signals.fold(rows.get(item_id), [one])
        return rows


def ids(made: RecommendationList) -> list[str]:
    """The items of a list, in their order."""
    return [item.item_id for item in made.items]


def facts_of(messages: Iterable[RawMessage], policy: Policy) -> dict[str, tuple[object, ...]]:
    """What all the events fold to, by user."""
    states: dict[str, UserState] = {}
    for message in messages:
        event = event_of(message)
        states[event.user_id] = apply(states.get(event.user_id, empty(event.user_id)), event, policy)
    return {user_id: state.facts for user_id, state in states.items()}


def check_lists(lists: Sequence[RecommendationList]) -> None:
    """Sequences of a shopper only grow, and no sequence names two different lists."""
    newest: dict[str, int] = {}
    named: dict[tuple[str, int], bytes] = {}
    for made in lists:
        assert made.sequence >= newest.get(made.user_id, 0), "a sequence went back"
        newest[made.user_id] = made.sequence
        data = msgspec.json.encode(made)
        assert named.setdefault((made.user_id, made.sequence), data) == data, "one sequence, two lists"


def check_answered(messages: Iterable[RawMessage], lists: Sequence[RecommendationList]) -> None:
    """Every event led to a list of its user whose trigger is that event or a later one."""
    for message in messages:
        event = event_of(message)
        assert any(
            made.user_id == event.user_id
            and (
                made.trigger.offset >= event.source.offset
                if (made.trigger.topic, made.trigger.partition) == event.source[:2]
                else made.trigger.event_time >= event.at_ms
            )
            for made in lists
        ), f"no list answers {event}"
