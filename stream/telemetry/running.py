"""How a running cluster fares, from what its workers' metrics were at two times.

Counters are compared worker by worker, so that one that began anew between the two counts from zero, and
summed after that. Quantiles are of what was observed between the two, by buckets: as exact as their bounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

FRESHNESS = "streamrec_freshness_seconds"

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the name of a sample and its labels."""


class Told(NamedTuple):
    """What a worker told at a time; `series` is empty, and `problem` says why, where it told nothing."""

    at_s: float
    series: Series
    problem: str = ""


class Freshness(msgspec.Struct, frozen=True):
    """Quantiles of the time from an event's append to its list's acknowledgement, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Standing(msgspec.Struct, frozen=True):
    """How one worker fares, or all together; None is what nothing was observed of."""

    lists_per_s: float
    events_per_s: float
    freshness: Freshness | None
    batch_messages: float | None
    messages_left: int
    unmoved_s: float
    retries_per_s: float
    dead_letters_per_s: float


class WorkerStanding(msgspec.Struct, frozen=True):
    """One worker. Where it does not answer, `problem` says why and `standing` is None."""

    url: str
    ready: bool
    problem: str
    standing: Standing | None


class Redis(msgspec.Struct, frozen=True):
    """What Redis told the workers; None is what it did not tell. `max_bytes` is 0 where there is no bound."""

    used_bytes: int | None
    max_bytes: int | None
    errors_per_s: float


class Cluster(msgspec.Struct, frozen=True):
    """All workers together, over `seconds`.

    `degraded` is the share of lists without a part, `dead_letters` counts by code, `found` is the share of
    what a cache was asked for and had, `index` the items with a vector of each version of the encoder,
    `serving` the versions that lists are made from, `items` the catalogue.
    """

    seconds: float
    workers: list[WorkerStanding]
    together: Standing
    stages_ms: dict[str, float]
    messages_left: dict[str, int]
    degraded: dict[str, float]
    dead_letters: dict[str, float]
    found: dict[str, float]
    model_failures_per_s: dict[str, float]
    index: dict[str, int]
    serving: list[str]
    items: int
    redis: Redis


def read(text: str) -> Series:
    """Read what a `/metrics` answered.

    Raises:
        ValueError: it is not in Prometheus' text format.
    """
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def compare(before: Mapping[str, Told], after: Mapping[str, Told]) -> Cluster:
    """Say how the workers of `after` fared since `before`, by URL; one that is not in both did nothing."""
    grown = {
        url: _grown(before[url], now) if url in before else _Grown(0.0, {}) for url, now in after.items()
    }
    seconds = max((one.seconds for one in grown.values()), default=0.0)
    everything = _Grown(seconds, _summed([one.series for one in grown.values()]))
    lists = everything.sum("streamrec_lists_total")
    wanted = everything.by("streamrec_cache_lookups_total", "cache")
    hits = everything.by("streamrec_cache_lookups_total", "cache", result="hit")
    rounds = everything.by("streamrec_stage_seconds_count", "stage")
    spent_s = everything.by("streamrec_stage_seconds_sum", "stage")
    gauges = [told.series for told in after.values()]
    used, most = (
        max(
            (value for series in gauges for value in _by(series, f"streamrec_redis_{what}_bytes").values()),
            default=math.nan,
        )
        for what in ("used", "max")
    )
    return Cluster(
        seconds=seconds,
        workers=[
            WorkerStanding(
                url,
                ready=sum(_by(told.series, "streamrec_ready").values()) == 1,
                problem=told.problem,
                standing=None if told.problem else _standing(grown[url], [told.series]),
            )
            for url, told in after.items()
        ],
        together=_standing(everything, gauges),
        stages_ms={stage: 1000 * spent_s[stage] / count for stage, count in rounds.items() if count},
        messages_left={
            topic: int(count)
            for topic, count in _by(_summed(gauges), "streamrec_messages_left", "topic").items()
        },
        degraded={
            part: count / lists
            for part, count in everything.by("streamrec_degraded_lists_total", "part").items()
            if lists
        },
        dead_letters=everything.by("streamrec_dead_letters_total", "code"),
        found={cache: hits.get(cache, 0.0) / count for cache, count in wanted.items() if count},
        model_failures_per_s={
            model: everything.rate(count)
            for model, count in everything.by("streamrec_model_failures_total", "model").items()
        },
        index={
            version: int(
                max(_by(series, "streamrec_index_vectors", "version").get(version, 0.0) for series in gauges)
            )
            for version in _by(_summed(gauges), "streamrec_index_vectors", "version")
        },
        serving=[
            version
            for version, count in _by(_summed(gauges), "streamrec_index_serves", "version").items()
            if count
        ],
        items=int(
            max((sum(_by(series, "streamrec_catalogue_items").values()) for series in gauges), default=0.0)
        ),
        redis=Redis(
            None if math.isnan(used) else int(used),
            None if math.isnan(most) else int(most),
            everything.rate(everything.sum("streamrec_redis_errors_total")),
        ),
    )


class _Grown(NamedTuple):
    """What counters grew by."""

    seconds: float
    series: Series

    def by(self, name: str, label: str = "", **labels: str) -> dict[str, float]:
        return _by(self.series, name, label, **labels)

    def sum(self, name: str) -> float:
        return sum(self.by(name).values())

    def rate(self, count: float) -> float:
        return count / self.seconds if self.seconds else 0.0


def _grown(before: Told, now: Told) -> _Grown:
    if before.problem or now.problem:
        return _Grown(0.0, {})
    # A counter that is lower than it was belongs to a worker that began anew.
    series = {
        key: value - earlier if (earlier := before.series.get(key, 0.0)) <= value else value
        for key, value in now.series.items()
    }
    return _Grown(now.at_s - before.at_s, series)


def _summed(some: Sequence[Series]) -> Series:
    total: defaultdict[tuple[str, frozenset[tuple[str, str]]], float] = defaultdict(float)
    for series in some:
        for key, value in series.items():
            total[key] += value
    return total


def _by(series: Series, name: str, label: str = "", **labels: str) -> dict[str, float]:
    """The sums of the samples of a name that have `labels`, by the values of one label."""
    found: defaultdict[str, float] = defaultdict(float)
    for (sample, pairs), value in series.items():
        if sample == name and pairs >= labels.items():
            found[dict(pairs).get(label, "")] += value
    return dict(found)


def _standing(grown: _Grown, gauges: Sequence[Series]) -> Standing:
    batches = grown.sum("streamrec_batch_messages_count")
    return Standing(
        lists_per_s=grown.rate(grown.sum("streamrec_lists_total")),
        events_per_s=grown.rate(grown.sum("streamrec_events_total")),
        freshness=_freshness(grown),
        batch_messages=grown.sum("streamrec_batch_messages_sum") / batches if batches else None,
        messages_left=int(sum(sum(_by(series, "streamrec_messages_left").values()) for series in gauges)),
        unmoved_s=max(
            (sum(_by(series, "streamrec_unmoved_seconds").values()) for series in gauges), default=0.0
        ),
        retries_per_s=grown.rate(grown.sum("streamrec_retries_total")),
        dead_letters_per_s=grown.rate(grown.sum("streamrec_dead_letters_total")),
    )


def _freshness(grown: _Grown) -> Freshness | None:
    bounds = sorted((float(le), count) for le, count in grown.by(f"{FRESHNESS}_bucket", "le").items())
    if not bounds or not bounds[-1][1]:
        return None
    return Freshness(*(1000 * quantile(bounds, share) for share in (0.5, 0.95, 0.99)))


def quantile(bounds: Sequence[tuple[float, float]], share: float) -> float:
    """The value that a share of what was observed is not above, evenly spread within each bucket.

    Args:
        bounds: upper bound and count up to it of every bucket, ascending; the last bound is infinite.

    Returns:
        What lies above the last finite bound counts as that.
    """
    rank = share * bounds[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in bounds:
        if count >= rank and count > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = (lower if math.isinf(upper) else upper), count
    return lower
