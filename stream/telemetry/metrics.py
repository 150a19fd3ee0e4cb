"""What the worker tells of itself: Prometheus metrics, and `/live`, `/ready` and `/metrics` over HTTP.

Stages of a batch, as labels of `streamrec_stage_seconds`: wait (from the broker's append of the batch's first
event until the batch is begun), decode, load, encode, retrieve, rerank, cross_encode (beside rerank, where
pairs of a search were not known yet), save, publish. Freshness runs from the broker's append time of the
triggering event to the moment in which the broker's acknowledgement of the list has come.

Histograms have classic buckets: the Prometheus library for Python cannot observe into native ones.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from math import nan
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stream.errors import Unavailable
from stream.process.progress import Progress
from stream.telemetry.tracing import NOT_TRACED, Traces

FRESHNESS_BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08),
    *(0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""1 ms to 10 s; what a list may take (docs/metrics.md) is a bound among them, so that shares are exact."""
STAGE_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Decoding a batch of one takes 0.1 ms, and a stage that waits for a part its timeout."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 256, 1024)
"""64 is the default of `worker.batch_max`."""

RULES_TOLD_APART = 100


class StoreMemory(NamedTuple):
    """What the store says of its memory: bytes, 0 for no bound, and keys that it gave up for want of it."""

    used_bytes: int
    max_bytes: int
    evicted: int


class Few:
    """The first few values of a label, up to `most`; what comes after them counts as `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, value: str) -> str:
        """Give the value to count under."""
        if value not in self._known:
            if len(self._known) == self._most:
                return "other"
            self._known.add(value)
        return value


class ProcessTelemetry:
    """The metrics of every process, in a registry of their own; docs/metrics.md lists all.

    Args:
        ready: what being ready means.
    """

    def __init__(self, ready: str) -> None:
        self.registry = CollectorRegistry()
        self.ready = Gauge("streamrec_ready", ready, registry=self.registry)
        self.messages_left = Gauge(
            "streamrec_messages_left",
            "Messages of the partitions that this process owns or follows which are not done",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.unmoved = Gauge(
            "streamrec_unmoved_seconds",
            "The longest that a partition with messages left has not moved",
            registry=self.registry,
        )
        self.skipped = Counter(
            "streamrec_skipped_records",
            "Records of followed topics that this process cannot read or that crash their reader",
            ["topic"],
            registry=self.registry,
        )

    def count_skipped(self, topic: str) -> None:
        """Count a record that is left out."""
        self.skipped.labels(topic).inc()

    def show(self, progress: Progress) -> None:
        """Take over how far the work is."""
        self.messages_left.clear()
        for at, count in progress.left().items():
            self.messages_left.labels(at.topic, str(at.partition)).set(count)
        self.unmoved.set(progress.unmoved_s)


class Telemetry(ProcessTelemetry):
    """The metrics of one worker.

    Args:
        traces: what is told of batches, stages and lists besides.
    """

    def __init__(self, traces: Traces = NOT_TRACED) -> None:
        super().__init__("1 while lists can be made")
        self.traces = traces
        self.events = Counter("streamrec_events", "Valid events consumed", ["topic"], registry=self.registry)
        self.lists = Counter("streamrec_lists", "Lists acknowledged by the broker", registry=self.registry)
        self.dead_letters = Counter(
            "streamrec_dead_letters", "Messages set aside", ["topic", "code"], registry=self.registry
        )
        self.degraded = Counter(
            "streamrec_degraded_lists", "Lists made without a part", ["part"], registry=self.registry
        )
        self.attributed = Counter(
            "streamrec_attributed_items",
            "Items of lists that came into view, were clicked, put in the cart or bought",
            ["outcome", "source", "position"],
            registry=self.registry,
        )
        self.attributed_by_list = Counter(
            "streamrec_attributed_items_by_list",
            "The same items by the kind of their list",
            ["outcome", "placement", "policy", "reranker"],
            registry=self.registry,
        )
        self.unattributed = Counter(
            "streamrec_unattributed_events",
            "Events that could tell of a list and belong to none",
            ["outcome"],
            registry=self.registry,
        )
        self.automated = Counter(
            "streamrec_automated_events",
            "Events at a rate that no person reaches: they teach nothing about items",
            ["sign"],
            registry=self.registry,
        )
        self.reused_ids = Counter(
            "streamrec_reused_event_ids",
            "Events with the id of another event of the same shopper, and other content",
            ["topic"],
            registry=self.registry,
        )
        self.erased = Counter(
            "streamrec_erased_events",
            "Events that came again, or late, of a shopper who was erased after them: nothing is done",
            registry=self.registry,
        )
        self.model_failures = Counter(
            "streamrec_model_failures",
            "Calls of a model that gave nothing",
            ["model", "reason"],
            registry=self.registry,
        )
        self.cache_lookups = Counter(
            "streamrec_cache_lookups",
            "What lists wanted of what is remembered, known already (hit) or not (miss)",
            ["cache", "result"],
            registry=self.registry,
        )
        self.pairs_waiting = Gauge(
            "streamrec_pairs_waiting",
            "Pairs of items to be scored when there is nothing else to do",
            registry=self.registry,
        )
        self.pairs_dropped = Counter(
            "streamrec_pairs_dropped",
            "Pairs of items that were not scored since too many waited",
            registry=self.registry,
        )
        self.rules = Gauge("streamrec_rules", "Rules for lists, from file and topic", registry=self.registry)
        self.rules_skipped = Counter(
            "streamrec_rules_skipped",
            "Messages of the rules' topic that cannot be read",
            registry=self.registry,
        )
        self.rule_warnings = Counter(
            "streamrec_rule_warnings", "Lists that could not keep a rule", ["rule"], registry=self.registry
        )
        self.shown_lists = Gauge(
            "streamrec_shown_lists", "Shoppers whose newest list is remembered", registry=self.registry
        )
        self.shown_lists_forgotten = Counter(
            "streamrec_shown_lists_forgotten",
            "Lists no longer remembered, since there are too many",
            registry=self.registry,
        )
        self.republished = Counter(
            "streamrec_lists_republished",
            "Lists published anew without an item that was withdrawn or is kept out",
            registry=self.registry,
        )
        self.republish = Histogram(
            "streamrec_republish_seconds",
            "This worker learnt of the change to the corrected list acknowledged",
            buckets=FRESHNESS_BUCKETS_S,
            registry=self.registry,
        )
        self.conflicts = Counter(
            "streamrec_state_conflicts", "Saves that another worker came before", registry=self.registry
        )
        self.retries = Counter(
            "streamrec_retries",
            "Batches tried again because a part was away",
            ["agent", "error"],
            registry=self.registry,
        )
        self.rewinds = Counter(
            "streamrec_rewinds",
            "Partitions not simply gone on with: Redis forgot, the topic was made anew, and the like",
            ["topic", "cause"],
            registry=self.registry,
        )
        self.missing_messages = Counter(
            "streamrec_missing_messages",
            "Messages that are in no state and no longer in their topic",
            ["topic"],
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "streamrec_batch_messages",
            "Messages in a batch",
            ["agent"],
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "streamrec_stage_seconds",
            "Time of a batch by stage",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.freshness = Histogram(
            "streamrec_freshness_seconds",
            "Event appended to list acknowledged",
            buckets=FRESHNESS_BUCKETS_S,
            registry=self.registry,
        )
        self.catalogue_items = Gauge("streamrec_catalogue_items", "Items followed", registry=self.registry)
        self.catalogue_held_back = Gauge(
            "streamrec_catalogue_held_back",
            "Items held back from lists, by what is wrong with their text",
            ["finding"],
            registry=self.registry,
        )
        self.catalogue_without_vector = Gauge(
            "streamrec_catalogue_items_without_vector",
            "Items the encoder has not seen yet",
            registry=self.registry,
        )
        self.index_vectors = Gauge(
            "streamrec_index_vectors",
            "Items that have a vector of a version of the encoder",
            ["version"],
            registry=self.registry,
        )
        self.index_serves = Gauge(
            "streamrec_index_serves",
            "1 of the version of the encoder that lists are made from, 0 of those kept beside it",
            ["version"],
            registry=self.registry,
        )
        self.redis_used = Gauge(
            "streamrec_redis_used_bytes",
            "Memory that Redis uses, of a cluster its fullest master; NaN until it told",
            registry=self.registry,
        )
        self.redis_most = Gauge(
            "streamrec_redis_max_bytes",
            "Memory that Redis may use, 0 for no bound, of a cluster its fullest master; NaN until it told",
            registry=self.registry,
        )
        self.redis_evicted = Gauge(
            "streamrec_redis_evicted_keys",
            "Keys that Redis, or all masters of a cluster, gave up for want of memory since they started; "
            "NaN until told",
            registry=self.registry,
        )
        self.release_spent = Gauge(
            "streamrec_release_epsilon_spent",
            "Epsilon of the releases that count in the budget; NaN where lists read none, or until known",
            registry=self.registry,
        )
        self.release_allowed = Gauge(
            "streamrec_release_epsilon_allowed",
            "Epsilon that the budget has; NaN where lists read no releases, or until known",
            registry=self.registry,
        )
        self.release_ended = Gauge(
            "streamrec_release_end_timestamp_seconds",
            "End of the last period that lists read a release of; NaN where there is none",
            registry=self.registry,
        )
        for gauge in (
            *(self.redis_used, self.redis_most, self.redis_evicted),
            *(self.release_spent, self.release_allowed, self.release_ended),
        ):
            gauge.set(nan)
        self.redis_errors = Counter(
            "streamrec_redis_errors",
            "Answers of Redis that were errors or did not come, each attempt by itself",
            ["error"],
            registry=self.registry,
        )
        self.last_progress = Gauge(
            "streamrec_last_progress_timestamp_seconds",
            "When a batch was last acknowledged",
            registry=self.registry,
        )

        self._rules_told_apart = Few(RULES_TOLD_APART)

    def count_lookups(self, cache: str, wanted: int, missed: int) -> None:
        """Count what was looked for in a cache, and what of it was not there."""
        self.cache_lookups.labels(cache, "hit").inc(wanted - missed)
        self.cache_lookups.labels(cache, "miss").inc(missed)

    def count_redis_error(self, error: str) -> None:
        """Count an answer of Redis that was an error or did not come."""
        self.redis_errors.labels(error).inc()

    def show_redis(self, memory: StoreMemory) -> None:
        """Take over what Redis says of its memory."""
        self.redis_used.set(memory.used_bytes)
        self.redis_most.set(memory.max_bytes)
        self.redis_evicted.set(memory.evicted)

    def show_releases(self, spent: float, allowed: float, ended_ms: int | None) -> None:
        """Take over what releases cost and may cost, and when the period of the newest ended, if any."""
        self.release_spent.set(spent)
        self.release_allowed.set(allowed)
        if ended_ms is not None:
            self.release_ended.set(ended_ms / 1000)

    def show_index(self, vectors: Mapping[str, int], serving: str) -> None:
        """Take over how many items have a vector of each version, and which one lists are made from."""
        self.index_vectors.clear()
        self.index_serves.clear()
        for version, count in vectors.items():
            self.index_vectors.labels(version).set(count)
            self.index_serves.labels(version).set(version == serving)

    def count_rule_warning(self, rule: str) -> None:
        """Count a list that could not keep a rule."""
        self.rule_warnings.labels(self._rules_told_apart.label(rule)).inc()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Observe how long a stage takes."""
        began_s = time.perf_counter()
        try:
            with self.traces.stage(stage):
                yield
        finally:
            self.stage.labels(stage).observe(time.perf_counter() - began_s)


class TrainerTelemetry(ProcessTelemetry):
    """The metrics of one trainer."""

    def __init__(self) -> None:
        super().__init__("1 while the trainer follows the stream")
        self.lists = Gauge(
            "streamrec_trainer_lists", "Lists whose session has ended", ["outcome"], registry=self.registry
        )
        self.hit_rate = Gauge(
            "streamrec_trainer_hr_at_20",
            "HR@20 on the newest lists, before they were learnt from",
            ["version"],
            registry=self.registry,
        )
        self.reciprocal_rank = Gauge(
            "streamrec_trainer_mrr_at_20",
            "MRR@20 on the newest lists, before they were learnt from",
            ["version"],
            registry=self.registry,
        )
        self.versions = Counter(
            "streamrec_trainer_versions",
            "Versions that took over, were refused or were taken back",
            ["outcome"],
            registry=self.registry,
        )


Explain = Callable[[str, str, str | None], Awaitable[bytes]]
"""Why an item is in a shopper's list of a placement, or why not, as JSON."""


class StatusServer:
    """`/live` (what there is to do moves; else 503 and what does not), `/ready`, `/metrics`.

    `/live` stays 200 while a part is waited for, and says which; whoever starts the process anew where it
    fails needs nothing else. `/ready` is 503, and says why, while no lists can be made.
    Of a worker also `/explain?user=ID&item=ID`. It tells of a shopper, so only this machine may ask.

    Args:
        telemetry: what `/metrics` shows.
        missing: what keeps the worker from making lists, as sentences; empty when ready.
        progress: how the work of the process moves.
    """

    explain: Explain | None = None
    """Answers `/explain`; None until lists can be made."""

    def __init__(
        self, telemetry: ProcessTelemetry, missing: Callable[[], list[str]], progress: Progress
    ) -> None:
        self._telemetry = telemetry
        self._missing = missing
        self._progress = progress
        application = web.Application()
        application.add_routes(
            [
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/explain", self._explain),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        if dead := self._progress.dead():
            return web.Response(status=503, text=_lines(dead))
        return web.Response(text=_lines(["alive", *(self._progress.waiting() or self._missing())]))

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._missing()
        self._telemetry.ready.set(not missing)
        if missing:
            return web.Response(status=503, text=_lines(missing))
        return web.Response(text="ready\n")

    async def _explain(self, request: web.Request) -> web.Response:
        if not ip_address(request.remote or "0.0.0.0").is_loopback:
            return web.Response(status=403, text="ask on the worker's own machine: this tells of a shopper\n")
        asked = request.query
        if not asked.get("user") or not asked.get("item"):
            return web.Response(status=400, text="name both: /explain?user=ID&item=ID\n")
        if self.explain is None:
            reasons = self._missing() or ["this process makes no lists"]
            return web.Response(status=503, text=_lines(reasons))
        try:
            found = await self.explain(asked["user"], asked["item"], asked.get("placement") or None)
        except Unavailable as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(body=found, content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        self._telemetry.ready.set(not self._missing())
        self._telemetry.show(self._progress)
        return web.Response(
            body=generate_latest(self._telemetry.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def _lines(sentences: list[str]) -> str:
    return "".join(f"{sentence}\n" for sentence in sentences)
