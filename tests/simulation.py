"""Many workers, a broker and a Redis in one process and on one made-up clock, broken at random steps.

What runs is the engine's own: the use cases that fold, list, learn and mark. Only what they ask is made up,
and so is the order in which it happens: who asks a port waits until a seed says whose turn it is. So a worker
can be killed, stopped or answered with an error before, in the middle of and after any call, and Redis can
forget between any two of them. The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from builders import NOW_MS
from faults.evidence import Commits, Evidence, Incident, Letter, Published
from faults.referee import LOSSES
from faults.shoppers import Message, Shoppers
from faults.workers import Ended
from shops import Shop

from stream.core import codec, signals
from stream.core.events import RecommendationList, Source
from stream.core.marks import Log
from stream.core.policy import Policy
from stream.core.signals import Increment
from stream.errors import PublishUnavailable, StateUnavailable, Unavailable
from stream.fakes import (
    MemoryKeptLists,
    MemoryMarkStore,
    MemoryPublisher,
    MemorySignalStore,
    MemoryStateStore,
)
from stream.healing.marks import Marks
from stream.ports import DeadLetter, ItemVector, Place, RawMessage
from stream.process.endings import Ending
from stream.signals.item_signals import SignalFolder

PARTITIONS = 2
EVENT_TOPICS, SIGNAL_TOPICS = ("clicks", "searches"), ("item-signals",)
SETTLE = 12
"""Turns of the event loop within which everybody waits for the next answer."""
STEP_MS = 20
SESSION_MS = 7_000
"""More than the session timeout that the referee knows."""
RESTART_MS = 200
"""What a Redis that forgets is away at least: the clock that sequences follow has gone on."""
BATCH = 6
LONGEST_STEPS = 600
"""How long a worker stands still, or how much Redis forgets at most."""
PATIENCE_STEPS = 200_000
"""Says that something hangs."""


def _partition(key: bytes) -> int:
    return sum(key) % PARTITIONS


class Broker(MemoryPublisher):
    """Topics that keep everything, and what groups committed."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.log: dict[Place, list[RawMessage]] = {
            (topic, number): [] for topic in (*EVENT_TOPICS, *SIGNAL_TOPICS) for number in range(PARTITIONS)
        }
        self.published: list[Published] = []
        self.commits: list[Commits] = []

    def put(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Append a message; the key chooses the partition."""
        place = topic, _partition(key or b"")
        there = self.log[place]
        there.append(RawMessage(Source(*place, len(there), self._world.now_ms), key, value))

    async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
        """Keep lists with the time of their coming."""
        for made in lists:
            self.published.append(Published(0, len(self.published), self._world.now_ms, made))

    async def publish_signals(self, increments: Mapping[str, Sequence[Increment]]) -> None:
        """Append increments to their topic, those of the items that share a partition together."""
        await super().publish_signals(increments)
        together: dict[int, dict[str, Sequence[Increment]]] = {}
        for item_id, some in increments.items():
            together.setdefault(_partition(item_id.encode()), {})[item_id] = some
        for shared in together.values():
            for first, value in signals.encode_increments(shared):
                self.put(SIGNAL_TOPICS[0], first.encode(), value)


class Group:
    """A consumer group: who owns which partition, and how far they are committed."""

    def __init__(self, world: World, topics: Sequence[str]) -> None:
        self._world = world
        self.topics = topics
        self.committed: dict[Place, tuple[int, str]] = {}
        self.owned: dict[Member, list[Place]] = {}
        self.generation = 0
        self.is_rebalancing = True

    def rebalance(self, members: Sequence[Member]) -> None:
        """Share the partitions among those who take part once all of them have come to rest."""
        if not self.is_rebalancing or not members or not all(one.is_at_rest for one in members):
            return
        self.owned = {one: [] for one in members}
        for number in range(PARTITIONS):
            owner = self._world.random.choice(members)
            self.owned[owner] += [(topic, number) for topic in self.topics]
        self.generation += 1
        self.is_rebalancing = False

    def logs(self, places: Sequence[Place]) -> dict[Place, Log]:
        """What the broker knows of partitions."""
        ends = self._world.broker.log
        return {place: Log(0, len(ends[place]), *(self.committed.get(place, (None, "")))) for place in places}

    def commit(self, member: Member, offsets: Mapping[Place, int]) -> None:
        """Take offsets from who is of this generation; the broker refuses all others."""
        if member.generation != self.generation or member not in self.owned:
            return
        for place, offset in offsets.items():
            self.committed[place] = offset, member.marks.note(*place)
        if self.topics == EVENT_TOPICS:
            known = {place: offset for place, (offset, _) in self.committed.items()}
            self._world.broker.commits.append(Commits(self._world.now_ms, known))


class Member:
    """The part of a worker that reads for one group."""

    def __init__(self, world: World, worker: SimulatedWorker, group: Group, marks: Marks) -> None:
        self._world = world
        self._worker = worker
        self._group = group
        self.marks = marks
        self.generation = -1
        self.is_at_rest = False
        self._at: dict[Place, int] = {}

    async def read(self, handle: Callable[[Sequence[RawMessage]], Awaitable[None]]) -> None:
        """Take part in the group for ever."""
        group = self._group
        while True:
            self.is_at_rest = True
            await self._world.turn(self._worker)
            if group.is_rebalancing:
                continue
            self.is_at_rest = False
            if self not in group.owned:  # the group went on without it
                group.is_rebalancing = True
                continue
            if self.generation != group.generation:
                await self._take()
                continue
            messages = self._next_ones()
            if messages:
                await self._retried(handle, messages)
                await self._retried(self.marks.advance, messages)
                for source, *_ in messages:
                    self._at[source.topic, source.partition] = source.offset + 1
                group.commit(
                    self, {(one.source[0], one.source[1]): self._at[one.source[:2]] for one in messages}
                )
            else:
                await self._retried(lambda _: self.marks.check(), ())

    async def _take(self) -> None:
        places, generation = self._group.owned[self], self._group.generation
        while True:
            try:
                again = await self.marks.begin(self._group.logs(places))
                break
            except Unavailable:
                await self._world.turn(self._worker)
        self.generation = generation
        self._group.commit(self, again)
        self._at = {place: self._group.committed.get(place, (0, ""))[0] for place in places}

    def _next_ones(self) -> list[RawMessage]:
        """Some messages, those of one partition in its order."""
        random_ = self._world.random
        left = {place: self._world.broker.log[place][at:] for place, at in self._at.items()}
        messages: list[RawMessage] = []
        for _ in range(random_.randint(1, BATCH)):
            open_ones = [place for place, some in left.items() if some]
            if open_ones:
                messages.append(left[random_.choice(open_ones)].pop(0))
        return messages

    async def _retried(
        self, call: Callable[[Sequence[RawMessage]], Awaitable[None]], messages: Sequence[RawMessage]
    ) -> None:
        while True:
            try:
                await call(messages)
                return
            except Unavailable:
                await self._world.turn(self._worker)


class SimulatedWorker:
    """A worker process on the world's ports."""

    def __init__(self, world: World, number: int, skew_ms: int) -> None:
        self.name = f"worker-{number}"
        self.started_ms = world.now_ms
        self.is_frozen = False
        self._world = world
        shop = _ShopOf(world, skew_ms)
        shop.states = self._around(world.states, StateUnavailable)
        shop.signals = self._around(world.signals, StateUnavailable)
        shop.kept = self._around(world.kept, StateUnavailable)
        shop.publisher = self._around(world.broker, PublishUnavailable)
        marks = [
            Marks(self._around(store, StateUnavailable), shop.telemetry, lambda: world.now_ms)
            for store in world.mark_stores
        ]
        shop.start(marks=marks[0])
        folder = SignalFolder(shop.signals, shop.publisher, shop.telemetry, marks[1])
        self.members = [
            Member(world, self, group, of_group) for group, of_group in zip(world.groups, marks, strict=True)
        ]
        self._tasks = [
            asyncio.create_task(member.read(handle))
            for member, handle in zip(self.members, (shop.worker.handle, folder.handle), strict=True)
        ]

    @property
    def has_forgotten(self) -> bool:
        """Whether it noticed that Redis has less than it saved."""
        return any(member.marks.stale.is_set() for member in self.members)

    async def kill(self) -> None:
        """End it where it stands."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def raise_what_failed(self) -> None:
        """Raise what ended one of its tasks, which nothing may."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _around(self, port: Any, error: type[Unavailable]) -> Any:
        return _Port(port, self, self._world, error)


class _ShopOf(Shop):
    """The use cases of a worker, with the world's clock and catalogue."""

    def __init__(self, world: World, skew_ms: int) -> None:
        self._world, self._skew_ms = world, skew_ms
        super().__init__(world.policy, stocked=False)
        self.put(*world.catalogue)

    @property
    def now_ms(self) -> int:  # type: ignore[override]
        return self._world.now_ms + self._skew_ms

    @now_ms.setter
    def now_ms(self, _: int) -> None:
        """It is the world's."""


class _Port:
    """A port whose calls take turns, fail, or are carried out in part."""

    def __init__(self, port: Any, worker: SimulatedWorker, world: World, error: type[Unavailable]) -> None:
        self._port, self._worker, self._world, self._error = port, worker, world, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*given: Any) -> Any:
            world = self._world
            await world.turn(self._worker)
            how = world.how_it_goes()
            if how == "not at all":
                raise self._error(name)
            if how == "in part":
                await found(_part(given[0], world.random), *given[1:])
                raise self._error(name)
            answer = await found(*given)
            await world.turn(self._worker)
            if how == "unheard":
                raise self._error(name)
            return answer

        return call


def _part(given: Any, random_: random.Random) -> Any:
    """The first of several; a broker and a Redis carry out a pipeline in its order."""
    count = random_.randint(0, len(given)) if isinstance(given, Sequence | Mapping) else 0
    if isinstance(given, Mapping):
        return dict(list(given.items())[:count])
    return given[:count] if isinstance(given, Sequence) else given


class World:
    """Everything that workers share, and what breaks it.

    Args:
        seed: decides on everything.
        kinds: which faults happen: "kill", "zombie", "error", "older-redis", "empty-redis".
        skew_ms: by how much the clocks of workers differ at most.
    """

    def __init__(
        self, seed: int, catalogue: Sequence[ItemVector], kinds: Sequence[str], skew_ms: int = 0
    ) -> None:
        self.random = random.Random(f"world {seed}")
        self.policy = Policy()
        self.catalogue = catalogue
        self.now_ms = NOW_MS
        self.states, self.signals, self.kept = MemoryStateStore(), MemorySignalStore(), MemoryKeptLists()
        self.mark_stores = [
            MemoryMarkStore(lambda user: int.from_bytes(self.states.stored.get(user, b"")[1:9], "big")),
            MemoryMarkStore(lambda item: self.signals.rows[item].version if item in self.signals.rows else 0),
        ]
        self.broker = Broker(self)
        self.groups = [Group(self, EVENT_TOPICS), Group(self, SIGNAL_TOPICS)]
        self.workers: list[SimulatedWorker] = []
        self.incidents: list[Incident] = []
        self.ended: list[Ended] = []
        self.errors = 0
        self._shoppers = Shoppers(seed, 6, len(catalogue))
        self._kinds, self._skew_ms = kinds, skew_ms
        self._waiting: list[tuple[SimulatedWorker, asyncio.Future[None]]] = []
        self._undone: list[tuple[int, Callable[[], None]]] = []
        self._begun = 0
        self._is_calm = self._is_forgetting = False

    async def run(self, events: int, faults: int, workers: int = 2) -> Evidence:
        """Let shoppers act and faults happen, then wait until all is worked on; say what is left."""
        for _ in range(workers):
            self._begin()
        share = faults / (events * 40)
        left = events
        steps = 0
        while left or self._undone or not self._is_drained():
            steps += 1
            assert steps < PATIENCE_STEPS, "the engine does not come to rest"
            for undone in [one for one in self._undone if one[0] <= steps]:
                self._undone.remove(undone)
                undone[1]()
            if left and self.random.random() < 0.03:
                message: Message = self._shoppers.act(self.now_ms)
                self.broker.put(*message)
                left -= 1
            if left and self.random.random() < share:
                await self._break(self.random.choice(self._kinds), steps)
            self._is_calm = not left
            await self._step()
        for worker in self.workers:
            await worker.kill()
        return self._evidence()

    async def turn(self, worker: SimulatedWorker) -> None:
        """Wait for one's turn."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((worker, future))
        await future

    def how_it_goes(self) -> str:
        """Whether a call is carried out, in part or not at all, and whether its answer is heard."""
        if self._is_calm or "error" not in self._kinds or self.random.random() > 0.02:
            return "well"
        self.errors += 1
        return self.random.choice(["not at all", "in part", "unheard"])

    async def _step(self) -> None:
        """Let one call of one worker go on."""
        for _ in range(SETTLE):
            await asyncio.sleep(0)
        self.now_ms += self.random.randrange(STEP_MS)
        for worker in list(self.workers):
            worker.raise_what_failed()
            if worker.has_forgotten and not worker.is_frozen and self.random.random() < 0.2:
                self.ended.append(Ended(worker.name, Ending.FORGOTTEN, worker.started_ms, self.now_ms))
                await self._end(worker)
                self._begin()
        for group, number in zip(self.groups, range(2), strict=True):
            group.rebalance([worker.members[number] for worker in self.workers if not worker.is_frozen])
        self._waiting = [one for one in self._waiting if not one[1].done()]
        awake = [future for worker, future in self._waiting if not worker.is_frozen]
        if awake:
            self.random.choice(awake).set_result(None)

    def _begin(self) -> None:
        skew_ms = self.random.randint(-self._skew_ms, self._skew_ms)
        self.workers.append(SimulatedWorker(self, self._begun, skew_ms))
        self._begun += 1
        self._regroup()

    async def _end(self, worker: SimulatedWorker) -> None:
        self.workers.remove(worker)
        await worker.kill()
        self._regroup()

    def _regroup(self) -> None:
        for group in self.groups:
            group.is_rebalancing = True

    async def _break(self, kind: str, step: int) -> None:
        """Break something now, or until some later step."""
        begun_ms = self.now_ms
        worker = self.random.choice(self.workers)
        if kind == "kill":
            await self._end(worker)
            self._begin()
            self.incidents.append(Incident("kill-worker", worker.name, begun_ms, self.now_ms))
        elif kind == "zombie" and sum(not one.is_frozen for one in self.workers) > 1 and not worker.is_frozen:
            worker.is_frozen = True
            self._regroup()  # the others have its partitions when its session is over

            def thaw() -> None:
                self.now_ms += SESSION_MS
                worker.is_frozen = False
                self.incidents.append(Incident("zombie-worker", worker.name, begun_ms, self.now_ms))

            self._undone.append((step + self.random.randrange(LONGEST_STEPS), thaw))
        elif kind in LOSSES and not self._is_forgetting:
            self._is_forgetting = True  # one at a time: a snapshot is of what Redis has gone on from
            kept = self._snapshot() if kind == "older-redis" else None

            def forget() -> None:
                self.now_ms += RESTART_MS
                self._put_back(kept)
                self._is_forgetting = False
                self.incidents.append(Incident(kind, "redis", begun_ms, self.now_ms))

            self._undone.append((step + self.random.randrange(LONGEST_STEPS), forget))

    def _snapshot(self) -> tuple[Any, ...]:
        marks = [dict(store.stored) for store in self.mark_stores]
        return dict(self.states.stored), dict(self.signals.rows), marks

    def _put_back(self, kept: tuple[Any, ...] | None) -> None:
        """Have Redis forget what came after a snapshot, or all."""
        states, rows, marks = kept or ({}, {}, [{}, {}])
        self.states.stored, self.signals.rows = states, rows
        for store, stored in zip(self.mark_stores, marks, strict=True):
            store.stored = stored

    def _is_drained(self) -> bool:
        return (
            not any(worker.has_forgotten for worker in self.workers)
            and all(self._committed(place) >= len(messages) for place, messages in self.broker.log.items())
            and self._marks_hold()
        )

    def _marks_hold(self) -> bool:
        """Whether Redis has what is committed: what it forgot may not be noticed yet."""
        return all(
            place in store.stored and store.stored[place].offset >= offset
            for group, store in zip(self.groups, self.mark_stores, strict=True)
            for place, (offset, _) in group.committed.items()
        )

    def _committed(self, place: Place) -> int:
        return max(group.committed.get(place, (0, ""))[0] for group in self.groups)

    def _evidence(self) -> Evidence:
        broker = self.broker
        stored = self.states.stored
        return Evidence(
            searches_topic="searches",
            policy=self.policy,
            events=[one for place, some in broker.log.items() if place[0] in EVENT_TOPICS for one in some],
            lists=broker.published,
            letters=[_letter(one) for one in broker.dead_letters],
            increments=broker.signals,
            states={user_id: codec.decode(user_id, data) for user_id, data in stored.items()},
            rows={item_id: row.signals for item_id, row in self.signals.rows.items()},
            commits=broker.commits,
            incidents=self.incidents,
            ended=self.ended,
        )


def _letter(one: DeadLetter) -> Letter:
    return Letter(one.message.source[:3], one.message.key, one.message.value, one.code)
