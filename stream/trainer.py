"""The trainer: follows lists and clicks, learns, keeps a checkpoint, and rolls out what it learnt.

A checkpoint holds the weights, the optimiser, the open sessions and the offsets that they go with. So a
trainer that was killed goes on exactly where its last checkpoint was: no list is learnt from twice, none is
left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products; more threads only wait for each other

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.adapters import trainer_checkpoint
from stream.adapters.kafka_clients import consumer
from stream.adapters.kafka_follower import TopicFollower
from stream.adapters.kafka_standing import standings
from stream.adapters.kafka_topics import require_topics
from stream.adapters.trainer_checkpoint import Checkpoint
from stream.config import Config
from stream.core import list_log
from stream.core.events import Source, decode_click
from stream.core.following import Following
from stream.core.learning import OnlineLearner
from stream.core.policy import MINUTE_MS
from stream.core.ranking import FEATURES
from stream.core.running_figures import RunningFigures
from stream.core.stream_learning import LEARNER, StreamLearner
from stream.core.versions import Serving
from stream.errors import InvalidMessage, Unavailable
from stream.models.model_versions import ModelVersions
from stream.models.rolling import Rolling
from stream.models.rollout import open_rollout
from stream.process.life import listen, run_until_closed, set_up_log, stop_on_signals, until_there, watch
from stream.process.progress import Progress, Work
from stream.telemetry.metrics import StatusServer, TrainerTelemetry

log = logging.getLogger(__name__)

POLL_MS = 200
MAX_RECORDS = 500


def run_trainer(config: Config, repository: Path, *, roll: bool = True, once: bool = False) -> int:
    """Run a trainer until SIGTERM or SIGINT; return the exit code.

    Args:
        repository: the model repository, the same that Triton reads.
        roll: whether versions are made and promoted.
        once: stop when all that lay in the topics has been read.

    Raises:
        TrainerRefused: the folder is another trainer's, or its checkpoint is damaged.
        Unavailable: Kafka did not answer.
    """
    set_up_log(config.telemetry, "aiokafka")
    with trainer_checkpoint.alone(Path(config.trainer.folder)):
        return asyncio.run(Trainer(config, repository, roll=roll, once=once).run())


class Trainer:
    """All parts of one trainer process; arguments as of `run_trainer`."""

    def __init__(self, config: Config, repository: Path, *, roll: bool, once: bool) -> None:
        self._config = config
        self._folder = Path(config.trainer.folder)
        self._roll = roll
        self._once = once
        self._telemetry = TrainerTelemetry()
        self._checkpoint = trainer_checkpoint.read(self._folder)
        made = self._checkpoint.made if self._checkpoint else []
        self._rolling = Rolling(
            config.triton.reranker,
            repository,
            lambda: open_rollout(config, repository, log.info),
            config.trainer.keep_versions,
            made,
        )
        self._versions = ModelVersions(
            self._changed, partial(self._telemetry.count_skipped, config.topics.model_versions)
        )
        self._serving = Serving("")
        self._learnt_at_roll = self._checkpoint.learnt_at_roll if self._checkpoint else 0
        self._next: dict[TopicPartition, int] = {}
        self._rolled_s = self._saved_s = time.monotonic()
        self._starting = "starting"
        self._progress = Progress(time.monotonic, config.telemetry.stalled_s)
        self._reader: AIOKafkaConsumer | None = None
        self._tries = 0
        self._learner: StreamLearner | None = None

    async def run(self) -> int:
        """Follow the stream until told to stop; what was learnt by then is kept."""
        stop = stop_on_signals()
        config = self._config
        async with AsyncExitStack() as parts:
            status = StatusServer(
                self._telemetry, lambda: [self._starting] if self._starting else [], self._progress
            )
            if not await listen(parts, status, config.telemetry.host, config.trainer.port, "trainer.port"):
                return 2
            starting = asyncio.ensure_future(self._start(parts))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
                return 0
            reader, learner = starting.result()
            await self._follow(reader, learner, stop)
            self._save(learner)
        return 0

    async def _start(self, parts: AsyncExitStack) -> tuple[AIOKafkaConsumer, StreamLearner]:
        """Make the parts, each when what it needs is there; waits for what is away, but not to read once.

        Raises:
            Unavailable: all is to be read once, and Kafka did not answer or topics are missing.
        """
        config = self._config
        topics = (config.topics.clicks, config.topics.list_log)
        there = partial(require_topics, config, *topics, config.topics.model_versions)

        def connected() -> Awaitable[AIOKafkaConsumer]:
            return parts.enter_async_context(consumer(config.kafka, *topics, auto_offset_reset="earliest"))

        if self._once:
            await there()
            reader = await connected()
        else:
            await until_there("the topics", there, self._say)
            reader = await until_there("Kafka", connected, self._say)
        self._starting = "reading which versions serve"
        records = TopicFollower(
            config.kafka, config.topics.model_versions, self._versions.apply, self._telemetry.count_skipped
        )
        run_until_closed(parts, watch(self._progress, (self._work, records.work)))
        run_until_closed(parts, records.run())
        await records.caught_up.wait()
        learner = self._learner = self._resumed()
        self._contest()
        await self._seek(reader)
        self._reader = reader
        self._starting = ""
        return reader, learner

    def _say(self, starting: str) -> None:
        self._starting = starting

    def _work(self) -> Work:
        return Work("learning", standings(self._reader, paused_too=False), self._tries)

    async def _follow(self, reader: AIOKafkaConsumer, learner: StreamLearner, stop: asyncio.Event) -> None:
        ends = await reader.end_offsets(list(self._next)) if self._once else {}
        while not stop.is_set():
            self._pause(reader, learner)
            try:
                batches = await reader.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
            except KafkaError as error:
                log.warning("following is interrupted: %r", error)
                self._tries += 1
                await asyncio.sleep(1.0)
                continue
            for at, messages in batches.items():
                for message in messages:
                    self._take(learner, at, message.offset, message.timestamp, message.key, message.value)
                self._next[at] = messages[-1].offset + 1
            done = learner.work()
            await self._in_between(learner)
            if self._once and not batches and not done and self._is_through(learner, ends):
                return
            await asyncio.sleep(0)

    def _take(
        self,
        learner: StreamLearner,
        at: TopicPartition,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
    ) -> None:
        """Take one message; what cannot be read is the worker's to set aside."""
        try:
            if at.topic == self._config.topics.clicks:
                learner.take_click(
                    decode_click(Source(at.topic, at.partition, offset, timestamp_ms), key, value)
                )
            else:
                learner.take_list(at.partition, offset, list_log.decode(value or b""))
        except InvalidMessage as error:
            self._telemetry.count_skipped(at.topic)
            log.debug("%s %d at %d is skipped: %s", at.topic, at.partition, offset, error.code)

    def _pause(self, reader: AIOKafkaConsumer, learner: StreamLearner) -> None:
        """Fetch what the learner has room for."""
        for at in self._next:
            is_clicks = at.topic == self._config.topics.clicks
            wanted = learner.wants_clicks(at.partition) if is_clicks else learner.wants_lists(at.partition)
            if wanted and at in reader.paused():
                reader.resume(at)
            elif not wanted and at not in reader.paused():
                reader.pause(at)

    def _is_through(self, learner: StreamLearner, ends: dict[TopicPartition, int]) -> bool:
        """Whether all that lay in the topics has been read, but for lists whose sessions are open."""
        clicks = self._config.topics.clicks
        return all(
            self._next[at] >= end or (at.topic != clicks and not learner.wants_lists(at.partition))
            for at, end in ends.items()
        )

    async def _in_between(self, learner: StreamLearner) -> None:
        """Save and roll when it is time."""
        now_s, trainer = time.monotonic(), self._config.trainer
        if now_s - self._saved_s >= trainer.checkpoint_s:
            self._save(learner)
        learnt = learner.outcomes["learnt"] - self._learnt_at_roll
        is_due = learnt >= trainer.roll_lists and now_s - self._rolled_s >= 60 * trainer.roll_minutes
        if not self._roll or not self._serving.active:
            return
        try:
            if self._is_worse(learner):
                await self._back(learner)
            elif is_due:
                await self._promote(learner)
        except Unavailable as error:
            log.warning("no version changes now: %s", error)
            self._rolled_s = now_s

    def _is_worse(self, learner: StreamLearner) -> bool:
        """Whether the version that serves is surely worse than the one before."""
        serving = self._serving
        if not {serving.active, serving.previous} <= learner.contestants.keys():
            return False
        trainer, found = self._config.trainer, learner.figures.difference(serving.active, serving.previous)
        return found.lists >= trainer.rollback_lists and found.high < -trainer.rollback_margin

    async def _back(self, learner: StreamLearner) -> None:
        serving = self._serving
        found = learner.figures.difference(serving.active, serving.previous)
        log.warning(
            "MRR@20 of version %s is %.4f below that of version %s on %d lists (at least %.4f): going back",
            serving.active,
            -found.mean,
            serving.previous,
            found.lists,
            -found.high,
        )
        if await self._rolling.back():
            self._telemetry.versions.labels("taken back").inc()
        self._rolled(learner)

    async def _promote(self, learner: StreamLearner) -> None:
        """Let what was learnt serve, where its running figures are not worse than the serving version's."""
        trainer, active = self._config.trainer, self._serving.active
        fits = active in learner.contestants
        own = learner.figures.of(LEARNER, *([active] if fits else []))
        rival = learner.figures.of(active, LEARNER) if fits else None
        if rival and (own.hr < rival.hr - trainer.roll_margin or own.mrr < rival.mrr - trainer.roll_margin):
            log.info(
                "no new version: HR@20 %.4f and MRR@20 %.4f, version %s has %.4f and %.4f, on %d lists",
                *(own.hr, own.mrr, active, rival.hr, rival.mrr, own.lists),
            )
            self._telemetry.versions.labels("refused").inc()
        else:
            version = await self._rolling.roll(
                learner.learner, active, self._data(own.lists), own, rival, trainer.roll_margin
            )
            self._telemetry.versions.labels("took over" if version else "refused").inc()
        self._rolled(learner)

    def _rolled(self, learner: StreamLearner) -> None:
        self._rolled_s = time.monotonic()
        self._learnt_at_roll = learner.outcomes["learnt"]
        self._save(learner)

    def _data(self, lists: int) -> str:
        """Name the lists that figures are of: the last ones up to these offsets."""
        topic = self._config.topics.list_log
        offsets = sorted((at.partition, offset) for at, offset in self._next.items() if at.topic == topic)
        digest = hashlib.sha256(repr((topic, offsets)).encode()).hexdigest()
        return f"the last {lists} lists of {topic} at {digest[:16]}"

    def _resumed(self) -> StreamLearner:
        """Go on from the checkpoint, else from the version that serves, else from nothing."""
        config, saved = self._config, self._checkpoint
        learner = trainer_checkpoint.learner_of(saved.learner) if saved else None
        if learner is not None and learner.features != FEATURES:
            log.warning("the checkpoint's learner reads other features than this code computes: left aside")
            learner = None
        if learner is None and self._serving.active:
            learner = self._rolling.learner_of(self._serving.active)
        if learner is None or learner.features != FEATURES:
            learner = OnlineLearner(FEATURES)
        following = Following(int(config.policy.session_gap_minutes * MINUTE_MS))
        figures = RunningFigures(config.trainer.figures_lists, saved.figures if saved else ())
        made = StreamLearner(learner, following, figures, config.topics.clicks)
        if saved:
            following.restore(saved.touches)
            made.outcomes.update(saved.outcomes)
        log.info("the learner has learnt from %d lists", learner.lists)
        return made

    async def _seek(self, reader: AIOKafkaConsumer) -> None:
        saved = self._checkpoint
        for at in sorted(reader.assignment()):
            offsets = saved and (saved.clicks if at.topic == self._config.topics.clicks else saved.lists)
            if offsets and at.partition in offsets:
                reader.seek(at, offsets[at.partition])
            self._next[at] = await reader.position(at)

    def _save(self, learner: StreamLearner) -> None:
        clicks = self._config.topics.clicks
        lists = {at.partition: offset for at, offset in self._next.items() if at.topic != clicks}
        for partition in lists:
            oldest = learner.oldest(partition)
            lists[partition] = lists[partition] if oldest is None else oldest
        trainer_checkpoint.write(
            self._folder,
            Checkpoint(
                layout=trainer_checkpoint.LAYOUT,
                learner=trainer_checkpoint.learner_bytes(learner.learner),
                clicks={at.partition: offset for at, offset in self._next.items() if at.topic == clicks},
                lists=lists,
                touches=learner.following.state(),
                figures=learner.figures.entries(),
                outcomes=learner.outcomes,
                learnt_at_roll=self._learnt_at_roll,
                made=self._rolling.made,
            ),
        )
        self._saved_s = time.monotonic()
        self._tell(learner)

    def _tell(self, learner: StreamLearner) -> None:
        """Show the running figures, in the metrics and in one line."""
        told = []
        for shown in (self._telemetry.hit_rate, self._telemetry.reciprocal_rank):
            shown.clear()  # of versions that are asked no more
        for name in (LEARNER, *learner.contestants):
            figures = learner.figures.of(name)
            self._telemetry.hit_rate.labels(name).set(figures.hr)
            self._telemetry.reciprocal_rank.labels(name).set(figures.mrr)
            told.append(f"{name} HR@20 {figures.hr:.4f} MRR@20 {figures.mrr:.4f} ({figures.lists} lists)")
        for outcome, count in learner.outcomes.items():
            self._telemetry.lists.labels(outcome).set(count)
        log.info("learnt from %d lists; %s", learner.outcomes["learnt"], "; ".join(told))

    def _changed(self, model: str, serving: Serving) -> None:
        if model == self._config.triton.reranker:
            self._serving = serving
            self._contest()

    def _contest(self) -> None:
        """Let the version that serves and the one before be asked about every list."""
        if self._learner is None:
            return
        known = self._learner.contestants
        found = {}
        for version in dict.fromkeys((self._serving.active, self._serving.previous)):
            score = known.get(version) or (self._rolling.scorer(version, FEATURES) if version else None)
            if score is not None:
                found[version] = score
        self._learner.contestants = found
