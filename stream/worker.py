"""The worker: the one place where ports meet adapters, and the life of the process."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products; more threads only wait for each other

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial

import faust
import msgspec
import uvloop
from aiokafka.errors import KafkaError
from faust.types import TP

from stream.adapters import redis_client, triton_models, triton_servers
from stream.adapters.circuit_breaker import CircuitBreaker
from stream.adapters.kafka_events import read_again
from stream.adapters.kafka_follower import Changes, TopicFollower
from stream.adapters.kafka_publisher import KafkaPublisher
from stream.adapters.kafka_records import holes
from stream.adapters.kafka_topics import require_topics
from stream.adapters.lexical_index import LexicalIndex
from stream.adapters.redis_client import Client
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.adapters.redis_ledger import RedisReleaseLedger, released_signals
from stream.adapters.redis_marks import RedisMarkStore
from stream.adapters.redis_signals import RedisSignalStore
from stream.adapters.redis_state import RedisStateStore
from stream.adapters.redis_workers import RedisWorkerReports
from stream.adapters.rule_files import read_rules
from stream.adapters.triton_cross_encoder import TritonCrossEncoder
from stream.adapters.triton_models import NewBreaker, Version
from stream.adapters.triton_repository import TritonRepository
from stream.adapters.usearch_index import UsearchIndex
from stream.agents import BatchAgent, build_app
from stream.catalog.product_fit import FitReader
from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.config import Config
from stream.errors import Unavailable
from stream.healing.marked_commits import MarkedCommits
from stream.healing.marks import Marks
from stream.healing.passed_over import PassedOver
from stream.lists.attribution import Attributor
from stream.lists.explaining import Explainer
from stream.lists.list_log import ListLog
from stream.lists.list_maker import Deadlines, ListMaker
from stream.lists.pair_scores import BackgroundPairs, PairScores
from stream.lists.recommender import Recommender
from stream.lists.republisher import Republisher
from stream.lists.rules import LiveRules
from stream.lists.shown_lists import ShownLists
from stream.lists.standing_lists import StandingLists
from stream.models.version_control import VersionControl, read_vectors
from stream.privacy.pseudonyms import told
from stream.process.endings import Ending
from stream.process.life import (
    listen,
    log_unhandled,
    run_until_closed,
    set_up_log,
    stop_on_signals,
    until_there,
    watch,
)
from stream.process.progress import Progress, Work
from stream.signals.item_signals import SignalFolder
from stream.signals.learnt import LearntItems
from stream.signals.releasing import show_budget
from stream.telemetry.metrics import StatusServer, Telemetry
from stream.telemetry.tracing import NOT_TRACED, Traces

log = logging.getLogger(__name__)

REFRESH_S = 1.0
HEAL_S = 1.0
FIT_S = 5.0
BACKGROUND_S = 0.5
CLOCK_S = 0.5
CORRECT_S = 0.05
PIN_S = 5.0
REPORT_S = 1.0
MEMORY_S = 10.0
MARKS_S = 2.0
DRAIN_S = 8.0
CLOSE_S = 2.0
GATHER_S = 0.2
"""What was learnt is folded so much later: lists read rows that are up to `learnt.ROW_AGE_S` old anyway."""
FLUSH_S = 1.5


def run_worker(config: Config) -> int:
    """Run a worker until SIGTERM or SIGINT; return the exit code, an `Ending`."""
    set_up_log(config.telemetry, "aiokafka", "faust", "mode")
    code = uvloop.new_event_loop().run_until_complete(Worker(config).run())
    logging.shutdown()
    os._exit(code)  # a task or a thread that still waits for what is away must not hold the process


class Worker:
    """All parts of one worker process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._written = read_rules(config.rules.file)
        self._traces = _traces(config.telemetry.traces_url)
        self._telemetry = Telemetry(self._traces)
        self._progress = Progress(time.monotonic, config.telemetry.stalled_s)
        self._works: list[Callable[[], Work]] = []
        self._starting = "starting"
        self._agents: list[BatchAgent] = []
        self._apps: list[faust.App] = []
        self._marked: list[MarkedCommits] = []
        self._forgotten = asyncio.Event()
        self._joined = False

    async def run(self) -> Ending:
        """Start the parts, work until told to stop, then drain."""
        asyncio.get_running_loop().set_exception_handler(log_unhandled)
        parts = AsyncExitStack()
        try:
            return await self._run(parts)
        finally:
            await _close(parts)

    async def _run(self, parts: AsyncExitStack) -> Ending:
        config = self._config
        stop = stop_on_signals()
        parts.push_async_callback(self._send_traces)
        status = StatusServer(self._telemetry, self._missing, self._progress)
        at = config.telemetry
        if not await listen(parts, status, at.host, at.port, "telemetry.port"):
            return Ending.NO_PORT
        run_until_closed(parts, watch(self._progress, self._works))
        starting = asyncio.ensure_future(self._start(parts, status))
        stopping = asyncio.ensure_future(stop.wait())
        forgetting = asyncio.ensure_future(self._forgotten.wait())
        await asyncio.wait({starting, stopping, forgetting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=CLOSE_S)
            return Ending.DRAINED if stop.is_set() else Ending.FORGOTTEN
        try:
            starting.result()
        except KafkaError as error:
            log.error("Kafka went away while its groups were joined: %s", told(error))
            return Ending.GAVE_UP
        gave_up = [asyncio.ensure_future(app.wait_until_stopped()) for app in self._apps]
        await asyncio.wait({stopping, forgetting, *gave_up}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return await self._drain()
        if self._forgotten.is_set():  # what is being worked on cannot end well
            return Ending.FORGOTTEN
        reasons = [told(app.crash_reason) for app in self._apps if app.crash_reason is not None]
        log.error("Faust gave up: %s", "; ".join(reasons) or "it does not say why")
        return Ending.GAVE_UP

    async def _start(self, parts: AsyncExitStack, status: StatusServer) -> None:
        """Make the parts and start them, each when what it needs is there; waits for what is away."""
        config, telemetry = self._config, self._telemetry
        publisher = KafkaPublisher(config, self._traces)
        parts.push_async_callback(publisher.stop)
        await until_there("Kafka", publisher.start, self._say)
        await until_there("the topics", partial(require_topics, config), self._say)

        redis = redis_client.connect(config.redis, failed=telemetry.count_redis_error)
        parts.push_async_callback(redis.aclose)
        triton = triton_servers.connect(config.triton)
        parts.push_async_callback(triton.close)
        view = CatalogView(UsearchIndex, LexicalIndex(), telemetry, config.policy, collecting=True)
        control = VersionControl(
            config,
            view,
            TritonRepository(triton, config.triton),
            RedisWorkerReports(redis, config.redis.key_prefix),
            telemetry.count_skipped,
        )

        def model(name: str) -> tuple[triton_servers.Servers, str, NewBreaker, Version]:
            return triton, name, _breaker(config), partial(control.versions.active, name)

        encoder = triton_models.TritonEncoder(*model(config.triton.encoder))
        reranker = triton_models.TritonReranker(*model(config.triton.reranker))
        cross_encoder = TritonCrossEncoder(*model(config.triton.cross_encoder))
        # Circuits of their own: what is too slow for a shopper's search is not for the background.
        patient_encoder = triton_models.TritonEncoder(*model(config.triton.encoder))
        patient_reranker = triton_models.TritonReranker(*model(config.triton.reranker))
        patient_cross_encoder = TritonCrossEncoder(*model(config.triton.cross_encoder))

        shown = ShownLists(config.worker.shown_lists, view.items.offers, time.monotonic, telemetry)
        rules = LiveRules(view.items, self._written, shown, _now_ms, telemetry)
        signals = RedisSignalStore(redis, config.redis.key_prefix)
        released = released_signals(redis, config.redis.key_prefix)
        listed = released if config.policy.release.epsilon else signals
        learnt = LearntItems(listed, view.items, time.monotonic, config.policy.min_shoppers, telemetry)

        def follow(changes: Changes) -> None:
            decoded = read_vectors(changes, lambda: telemetry.count_skipped(config.topics.item_vectors))
            view.apply(decoded)
            for item_id, made in decoded:
                if made is not None:
                    learnt.place(item_id)
            rules.recheck(item_id for item_id, _ in decoded)

        self._starting = "reading which versions serve"
        self._works.append(control.records.work)
        run_until_closed(parts, control.records.run())
        await control.records.caught_up.wait()
        with suppress(Unavailable):  # tried again below
            await control.pin()
        self._starting = "reading the rules"
        rules_follower = TopicFollower(
            config.kafka, config.topics.rules, rules.apply, telemetry.count_skipped
        )
        self._works.append(rules_follower.work)
        run_until_closed(parts, rules_follower.run())
        await rules_follower.caught_up.wait()
        self._starting = "reading the catalogue"
        follower = control.follow_items(follow)
        self._works.append(follower.work)
        run_until_closed(parts, follower.run())
        await follower.caught_up.wait()
        view.settle()
        rules.book.catch_up()
        run_until_closed(parts, view.index())
        await until_there("Redis", learnt.refresh, self._say)

        pair_scores = PairScores(cross_encoder, config.triton.cross_encode_deadline_ms / 1000, telemetry)
        control.listen(config.triton.cross_encoder, pair_scores.keep_only)
        background = BackgroundPairs(pair_scores, patient_cross_encoder, telemetry)
        states = RedisStateStore(
            redis, config.redis.key_prefix, config.redis.user_ttl_days, config.redis.newcomer_ttl_days
        )
        attributor = Attributor(
            RedisKeptLists(redis, config.policy.attribution_hours, config.redis.key_prefix),
            publisher,
            config.policy,
            telemetry,
        )
        in_order = asyncio.Lock()
        republisher = Republisher(
            shown=shown,
            states=states,
            publisher=publisher,
            remember=attributor.remember,
            items=view.items,
            rules=rules,
            policy=config.policy,
            in_order=in_order,
            now_ms=_now_ms,
            telemetry=telemetry,
        )
        list_log = ListLog(publisher, config.trainer.list_share)
        lists = ListMaker(
            encoder=encoder,
            reranker=reranker,
            pair_scores=pair_scores,
            background=background,
            read_best=config.triton.cross_encoder_best,
            list_log=list_log,
            catalog=view,
            learnt=learnt,
            rules=rules,
            policy=config.policy,
            deadlines=Deadlines(
                encode_s=config.triton.encode_deadline_ms / 1000,
                rerank_s=config.triton.rerank_deadline_ms / 1000,
            ),
            now_ms=_now_ms,
            telemetry=telemetry,
        )
        group = config.kafka.group
        background_group = f"{group}-background"
        # Two consumer groups, so that loading a catalogue never stands before a shopper's event.
        events_app, background_app = build_app(config, group), build_app(config, background_group)
        topics = config.topics

        def marked(app: faust.App, name: str, saved_as: str, *topics: str) -> Marks:
            store = RedisMarkStore(redis, name, config.redis.key_prefix, saved_as)
            reread = partial(read_again, config.kafka)
            marks = Marks(store, telemetry, _now_ms, reread, holes)
            passed_over = PassedOver(reread, telemetry, marks.stale)
            self._marked.append(MarkedCommits(app, marks, passed_over, config, name, *topics))
            run_until_closed(parts, self._tell_when_forgotten(marks))
            return marks

        event_marks = marked(events_app, group, "u", topics.clicks, topics.searches)
        signal_marks = marked(background_app, background_group, "i", topics.item_signals)
        recommender = Recommender(
            states=states,
            lists=lists,
            background=background,
            publisher=publisher,
            attributor=attributor,
            list_log=list_log,
            shown=shown,
            in_order=in_order,
            policy=config.policy,
            searches_topic=config.topics.searches,
            now_ms=_now_ms,
            telemetry=telemetry,
            marks=event_marks,
        )
        explainer = Explainer(
            states=states,
            lists=lists,
            reranker=patient_reranker,
            catalog=view,
            policy=config.policy,
        )

        async def explain(user_id: str, item_id: str, placement: str | None) -> bytes:
            return msgspec.json.encode(await explainer.explain(user_id, item_id, placement))

        status.explain = explain
        owns = _ownership(background_app, view)
        writer = CatalogWriter(view, patient_encoder, publisher, telemetry, owns, config.policy)
        fits = FitReader(
            view,
            writer,
            TritonCrossEncoder(*model(config.triton.cross_encoder)),
            partial(control.versions.active, config.triton.cross_encoder),
            owns,
            background.quiet,
            config.policy,
            telemetry,
        )
        folder = SignalFolder(signals, publisher, telemetry, signal_marks)
        of_events = (topics.clicks, topics.searches)
        for app, name, handle, marks, read, gather_s in (
            (events_app, "events", recommender.handle, event_marks, of_events, 0.0),
            (background_app, "items", writer.handle, None, (topics.items,), 0.0),
            (background_app, "signals", folder.handle, signal_marks, (topics.item_signals,), GATHER_S),
        ):
            saved, whole = (marks.advance, marks.whole) if marks else (None, None)
            batch_max = config.worker.batch_max
            agent = BatchAgent(name, handle, publisher, telemetry, batch_max, saved, gather_s, whole)
            agent.attach(app, *read)
            self._agents.append(agent)

        standing = StandingLists(config, shown)
        parts.push_async_callback(standing.stop)
        events_app.on_partitions_assigned.connect(standing.take_over)
        events_app.on_partitions_assigned.connect(self._note_joined)
        self._starting = "joining the consumer group"
        self._apps = [events_app, background_app]
        await asyncio.gather(*(app.start() for app in self._apps))
        self._works += [agent.work for agent in self._agents]
        run_until_closed(parts, _every(REFRESH_S, "popularity", learnt.refresh))
        run_until_closed(parts, _every(BACKGROUND_S, "pairs of items", background.work_off))
        run_until_closed(parts, _every(HEAL_S, "items without vectors", _at_half_speed(writer.heal)))
        run_until_closed(parts, _every(FIT_S, "categories and texts of items", fits.work_off))
        run_until_closed(parts, _every(CORRECT_S, "lists to be corrected", republisher.work_off))
        run_until_closed(parts, _every(CLOCK_S, "schedules of rules", rules.look_at_the_clock))
        run_until_closed(parts, _every(PIN_S, "versions that serve", control.pin))
        run_until_closed(parts, _every(REPORT_S, "this worker's report", control.report))
        run_until_closed(parts, _every(MEMORY_S, "the memory of Redis", _shown(redis, telemetry)))
        if config.policy.release.epsilon:
            ledger = RedisReleaseLedger(redis, config.redis.key_prefix)
            show = partial(show_budget, ledger, config.policy.release, _now_ms, telemetry)
            run_until_closed(parts, _every(MEMORY_S, "the ledger of releases", show))
        for commits in self._marked:
            run_until_closed(parts, _every(MARKS_S, "marks", commits.check))
        gc.freeze()
        self._starting = ""

    async def _drain(self) -> Ending:
        """Stop fetching, finish and commit what was begun."""
        log.info("draining")
        stops = [asyncio.ensure_future(app.stop()) for app in self._apps]
        # Not a timeout that cancels: Faust goes on waiting for a batch that cannot end.
        _, late = await asyncio.wait(stops, timeout=DRAIN_S)
        if late:
            log.warning("not drained in %.0f s: what was not committed will be delivered again", DRAIN_S)
            return Ending.CUT_SHORT
        log.info("drained")
        return Ending.DRAINED

    async def _send_traces(self) -> None:
        """Send what is traced and not sent yet, where the collector is there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await asyncio.to_thread(self._traces.close)

    def _missing(self) -> list[str]:
        """What keeps this worker from making lists, as sentences."""
        if self._starting:
            return [self._starting]
        missing = [] if self._joined else ["joining the consumer group"]
        return missing + [
            f"{name}: {waiting_for}"
            for name, waiting_for in (
                *(("marks", commits.waiting_for) for commits in self._marked),
                *((agent.name, agent.waiting_for) for agent in self._agents),
            )
            if waiting_for
        ]

    async def _tell_when_forgotten(self, marks: Marks) -> None:
        await marks.stale.wait()
        self._forgotten.set()

    async def _note_joined(self, *_: object, **__: object) -> None:
        self._joined = True

    def _say(self, starting: str) -> None:
        self._starting = starting


async def _close(parts: AsyncExitStack) -> None:
    """Close parts; those that do not end in time end with the process."""
    closing = asyncio.ensure_future(parts.aclose())
    _, late = await asyncio.wait({closing}, timeout=CLOSE_S)
    if late:
        log.warning("not all parts closed in %.0f s: they end with the process", CLOSE_S)
    else:
        closing.result()


def _traces(url: str) -> Traces:
    """What traces, where the settings say so.

    Raises:
        ConfigError: what sends traces is not installed.
    """
    if not url:
        return NOT_TRACED
    from stream.adapters.otlp_traces import connect  # of an extra

    return connect(url)


async def _every(pause_s: float, what: str, call: Callable[[], Awaitable[object]]) -> None:
    """Call again and again; a part that is away is tried again, with one line in the log."""
    away, task = False, asyncio.current_task()
    while True:
        try:
            await call()
        except asyncio.CancelledError:
            if task is None or task.cancelling():
                raise
            # Faust and aiokafka cancel what others wait for, where they change hands or end.
            log.info("%s: what it waited for was cancelled, going on", what)
        except Unavailable as error:
            if not away:
                log.warning("%s: %s", what, error)
            away = True
        except Exception:
            log.exception("%s: failed, going on", what)
        else:
            away = False
        await asyncio.sleep(pause_s)


def _at_half_speed(work: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[None]]:
    """Do all there is to do, and rest as long as each part of it took: events come first."""

    async def work_off() -> None:
        began_s = time.monotonic()
        while await work():
            await asyncio.sleep(time.monotonic() - began_s)
            began_s = time.monotonic()

    return work_off


def _shown(redis: Client, telemetry: Telemetry) -> Callable[[], Awaitable[None]]:
    """Read what Redis says of its memory, for the metrics."""

    async def show() -> None:
        telemetry.show_redis(await redis_client.memory(redis))

    return show


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _breaker(config: Config) -> NewBreaker:
    """Make breakers as they are configured."""
    failures, pause_s = config.triton.breaker_failures, config.triton.breaker_wait_ms / 1000
    return lambda: CircuitBreaker(time.monotonic, failures, pause_s)


def _ownership(app: faust.App, view: CatalogView) -> Callable[[str], bool]:
    """Say whether this process consumes the partition that an item's message lies in."""

    def owns(item_id: str) -> bool:
        source = view.source_of(item_id)
        return source is not None and TP(source.topic, source.partition) in app.consumer.assignment()

    return owns
