"""What surrounds a run: the workers' lag, CPU, memory and files of processes, and Prometheus metrics."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from stream.adapters.kafka_clients import admin, consumer
from stream.config import Config
from stream.errors import Unavailable
from traffic.figures import scaled, slope
from traffic.result import Batches, Sample, Stage, Use

EVERY_S = 1.0
FAMILY_EVERY = 10
"""Every so many samples it is looked for new children of a process."""
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
GROWTH_S = 120.0
"""What memory grows by an hour is not told of shorter runs."""
OWN = "load"
COUNTERS = (
    *("streamrec_events", "streamrec_lists", "streamrec_degraded_lists", "streamrec_dead_letters"),
    *("streamrec_retries", "streamrec_state_conflicts", "streamrec_model_failures"),
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watcher:
    """Look once a second while a run goes on.

    Args:
        metrics: URLs of workers' and Triton's Prometheus metrics.

    `samples` begin when the warm-up is over. `notes` says what could not be seen.
    """

    def __init__(self, config: Config, metrics: Sequence[str]) -> None:
        self._config = config
        self._metrics = metrics
        found, missing = processes_here(config, metrics)
        self._processes = {**found, OWN: psutil.Process()}
        self._families: dict[str, list[psutil.Process]] = {}
        self._first_cpu_s: dict[str, float] = {}
        self._last_cpu_s: dict[str, float] = {}
        self._last_s = 0.0
        self._before: Samples = {}
        self._after: Samples = {}
        self._began_s = 0.0
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        if missing:
            self.notes.append(
                f"not on this machine, or not ours to see: CPU and memory of {', '.join(missing)}"
            )

    async def run(self, began_s: float) -> None:
        """Look until cancelled.

        Args:
            began_s: when the warm-up is over, `time.monotonic()`.
        """
        self._began_s = began_s
        async with AsyncExitStack() as opened:
            lag = await opened.enter_async_context(Lag(self._config))
            http = await opened.enter_async_context(aiohttp.ClientSession(timeout=HTTP_TIMEOUT))
            await asyncio.sleep(max(0.0, began_s - time.monotonic()))
            self._before = await self._scrape(http)
            self._first_cpu_s = self._last_cpu_s = self._cpu_s()
            self._last_s = time.monotonic()
            try:
                while True:
                    await asyncio.sleep(
                        max(0.0, began_s + (len(self.samples) + 1) * EVERY_S - time.monotonic())
                    )
                    self.samples.append(await self._look(lag))
            finally:
                with suppress(asyncio.CancelledError):
                    self._after = await self._scrape(http)
                self._last_cpu_s = self._cpu_s()

    def used(self, lists: int) -> dict[str, Use]:
        """What each process used, all in all."""
        found = {}
        for name, first_s in self._first_cpu_s.items():
            cpu_s = max(0.0, self._last_cpu_s.get(name, first_s) - first_s)
            points = [(one.at_s, one.memory_mb[name]) for one in self.samples if name in one.memory_mb]
            long = bool(points) and points[-1][0] - points[0][0] >= GROWTH_S
            growth = slope([at_s for at_s, _ in points], [mb for _, mb in points]) if long else None
            found[name] = Use(
                cpu_s,
                cpu_s * 1_000 / lists if lists else None,
                max((mb for _, mb in points), default=0.0),
                None if growth is None else scaled(growth, 3600.0),
                round(max((one.open_files.get(name, 0.0) for one in self.samples), default=0.0)),
            )
        return found

    def stages(self) -> dict[str, Stage]:
        """Times of the workers' stages, and of freshness as they see it."""
        since = self._since()
        found = {}
        names = {labels["stage"] for (name, _), labels in _labelled(since, "streamrec_stage_seconds_count")}
        for stage in sorted(names):
            told = _stage(since, "streamrec_stage_seconds", {"stage": stage})
            if told is not None:
                found[stage] = told
        whole = _stage(since, "streamrec_freshness_seconds", {})
        if whole is not None:
            found["freshness"] = whole
        return found

    def batches(self) -> dict[str, Batches]:
        """Batches of the workers' agents and of Triton's models."""
        since = self._since()
        found = {}
        for key, labels in _labelled(since, "streamrec_batch_messages_count"):
            agent, count = labels.get("agent", ""), since[key]
            if count:
                total = _total(since, "streamrec_batch_messages_sum", {"agent": agent})
                found[f"worker: {agent}"] = Batches(int(count), total / count)
        for model in sorted(
            {labels["model"] for _, labels in _labelled(since, "nv_inference_exec_count_total")}
        ):
            asked = {"model": model}
            executions = _total(since, "nv_inference_exec_count_total", asked)
            requests = _total(since, "nv_inference_request_success_total", asked)
            if executions and requests:
                found[f"Triton: {model}"] = Batches(
                    int(executions),
                    _total(since, "nv_inference_count_total", asked) / executions,
                    _total(since, "nv_inference_queue_duration_us_total", asked) / requests / 1_000,
                    _total(since, "nv_inference_compute_infer_duration_us_total", asked) / requests / 1_000,
                )
        return found

    def counters(self) -> dict[str, float]:
        """What the workers counted."""
        since = self._since()
        return {
            name: _total(since, f"{name}_total", {})
            for name in COUNTERS
            if any(found == f"{name}_total" for found, _ in since)
        }

    def _since(self) -> Samples:
        return {key: value - self._before.get(key, 0.0) for key, value in self._after.items()}

    async def _look(self, lag: Lag) -> Sample:
        waiting = await lag()
        now_s, cpu_s = time.monotonic(), self._cpu_s()
        passed_s = max(1e-6, now_s - self._last_s)
        cpu = {
            name: max(0.0, spent - self._last_cpu_s.get(name, spent)) / passed_s
            for name, spent in cpu_s.items()
        }
        self._last_s, self._last_cpu_s = now_s, cpu_s
        memory_mb = self._sums(lambda member: member.memory_info().rss / 2**20)
        open_files = self._sums(psutil.Process.num_fds)
        return Sample(round(now_s - self._began_s, 3), waiting, cpu, memory_mb, open_files)

    def _cpu_s(self) -> dict[str, float]:
        if len(self.samples) % FAMILY_EVERY == 0:
            for name, process in self._processes.items():
                with suppress(psutil.Error):
                    self._families[name] = [process, *process.children(recursive=True)]
        return self._sums(lambda member: sum(member.cpu_times()[:2]))  # user and system

    def _sums(self, of: Callable[[psutil.Process], float]) -> dict[str, float]:
        """What a figure comes to by name, over a process and its children."""
        found: dict[str, float] = {}
        for name, family in self._families.items():
            for member in family:
                with suppress(psutil.Error):
                    found[name] = found.get(name, 0.0) + of(member)
        return found

    async def _scrape(self, http: aiohttp.ClientSession) -> Samples:
        found: Samples = {}
        for url in self._metrics:
            try:
                async with http.get(url) as answer:
                    answer.raise_for_status()
                    text = await answer.text()
                for family in text_string_to_metric_families(text):
                    for one in family.samples:
                        key = (one.name, frozenset(one.labels.items()))
                        found[key] = found.get(key, 0.0) + one.value
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                note = f"no metrics from {url}: {error or type(error).__name__}"
                if note not in self.notes:
                    self.notes.append(note)
        return found


def processes_here(config: Config, metrics: Sequence[str]) -> tuple[dict[str, psutil.Process], list[str]]:
    """The servers and workers that listen on this machine and that we may see, and those that do not."""
    own = {address.address for several in psutil.net_if_addrs().values() for address in several}
    ports: dict[int, int] = {}
    with suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.pid is not None:
                ports[one.laddr.port] = one.pid
    found: dict[str, psutil.Process] = {}
    missing = []
    for name, (host, port) in _places(config, metrics).items():
        try:
            process = psutil.Process(ports[port]) if socket.gethostbyname(host) in own else None
        except (OSError, KeyError, psutil.Error):
            process = None
        if process is None:
            missing.append(name)
        elif process not in found.values():  # Triton's metrics come from a port of its own
            found[name] = process
    return found, missing


def _places(config: Config, metrics: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Host and port by name: the servers of the settings, and what gives metrics."""
    given = {
        f"kafka {at}" if at else "kafka": one.strip()
        for at, one in enumerate(config.kafka.bootstrap.split(","))
    }
    given["triton"] = config.triton.url
    redis = urlsplit(config.redis.url)
    found = {}
    if redis.hostname:
        found["redis"] = (redis.hostname, redis.port or 6379)
    for name, address in given.items():
        host, _, port = address.rpartition(":")
        if port.isdigit():
            found[name] = (host.strip("[]"), int(port))
    for url in metrics:
        place = urlsplit(url)
        found[f"worker {place.netloc}"] = (place.hostname or "", place.port or 80)
    return found


class Lag:
    """Asks how many messages of shoppers' topics are not committed; None where Kafka does not say."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Lag:
        kafka = self._config.kafka
        self._admin = await self._open.enter_async_context(admin(kafka))
        topics = (self._config.topics.clicks, self._config.topics.searches)
        self._reader = await self._open.enter_async_context(consumer(kafka, *topics))
        self._partitions: list[TopicPartition] = sorted(self._reader.assignment())
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._open.aclose()

    async def __call__(self) -> int | None:
        try:
            committed: Mapping[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(
                self._config.kafka.group
            )
            ends = await self._reader.end_offsets(self._partitions)
        except (KafkaError, Unavailable, OSError, TimeoutError):
            return None
        if not any(at in committed for at in self._partitions):
            return None
        # A partition that nothing was ever committed of has no lag that could be told.
        behind: list[int] = [ends[at] - committed[at].offset for at in self._partitions if at in committed]
        return sum(max(0, one) for one in behind)


def _labelled(
    found: Samples, name: str
) -> list[tuple[tuple[str, frozenset[tuple[str, str]]], dict[str, str]]]:
    return [(key, dict(key[1])) for key in found if key[0] == name]


def _total(found: Samples, name: str, labels: Mapping[str, str]) -> float:
    return sum(
        value for key, value in found.items() if key[0] == name and labels.items() <= dict(key[1]).items()
    )


def _stage(found: Samples, name: str, labels: Mapping[str, str]) -> Stage | None:
    """A Prometheus histogram as percentiles; None where it counted nothing."""
    bounds: dict[float, float] = {}
    for key, told in _labelled(found, f"{name}_bucket"):
        if labels.items() <= told.items():
            bound = float(told["le"])
            bounds[bound] = bounds.get(bound, 0.0) + found[key]
    count = _total(found, f"{name}_count", labels)
    if not count or not bounds:
        return None
    mean_ms = _total(found, f"{name}_sum", labels) / count * 1_000
    return Stage(int(count), mean_ms, *(quantile(bounds, share) * 1_000 for share in (0.5, 0.95, 0.99)))


def quantile(bounds: Mapping[float, float], share: float) -> float:
    """A quantile of cumulated counts by upper bound, as Prometheus' `histogram_quantile` finds it.

    Within a bucket values count as evenly spread; in the last, which has no bound, the one before it stands.
    """
    below, low = 0.0, 0.0
    wanted = share * max(bounds.values())
    for bound, cumulated in sorted(bounds.items()):
        if cumulated >= wanted and cumulated > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (cumulated - below)
        below, low = cumulated, bound
    return low


def machine_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
