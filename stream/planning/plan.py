"""Demand and costs to partitions, workers, memory, GPUs and money."""

from __future__ import annotations

import math

import msgspec

from stream.errors import DoesNotFit
from stream.planning.costs import WORKER, Costs

MOST_PARTITIONS = 10_000
"""What `kafka.partitions` takes."""
PARTITIONS_A_WORKER = 2
"""So that twice the workers can share them: more partitions later would move shoppers' events."""
DAY_S = 86_400


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    shoppers: int
    events_per_s: float
    items: int
    interactions: int
    """Of a shopper, on average, that are remembered."""
    shoppers_a_day: int
    """Who come within a day: lists of theirs are kept to join events to."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the machines are like and what they cost, as the user says; None is not known."""

    busy: float
    """The share of what it can do that anything does at this rate: the rest is for bursts and failures."""
    worker_gb: float
    """The most memory that one worker can have."""
    triton_cores: float
    """CPU cores of one Triton."""
    redis_shard_gb: float
    """Memory of one Redis."""
    start_minutes: float
    """How long a worker may take to be ready."""
    gpu_lists_per_s: float | None = None
    """Lists a second that one GPU's Triton serves at most, as you measured it."""
    core_price: float | None = None
    """Of a core for an hour."""
    gb_price: float | None = None
    """Of a GB of memory for an hour."""
    gpu_price: float | None = None
    """Of a GPU for an hour."""


class Limit(msgspec.Struct, frozen=True):
    """Something that more machines of the same kind do not cure: by which factor the demand fits in."""

    what: str
    need: str
    have: str
    room: float
    """1 is just enough, less is too little."""
    grows_with: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything."""

    lists_per_s: float
    workers: int
    events_per_s_a_worker: float
    """That it is planned to take: `busy` of the most that it can."""
    worker_cpu_ms_a_list: float
    mean_batch: float
    wait_p50_ms: float
    wait_p99_ms: float
    """From an event's arrival at a worker to the end of its batch, by CPU time alone."""
    partitions: int
    worker_gb: float
    worker_start_minutes: float
    redis_gb: float
    redis_states_gb: float
    redis_kept_lists_gb: float
    redis_items_gb: float
    redis_shards: int
    redis_cores: float
    kafka_cores: float
    tritons: int
    triton_cores: float
    triton_because: str
    """What the number of Tritons is for."""
    gpus: int | None
    cores: float
    memory_gb: float
    shares: dict[str, float]
    """Of all CPU time, by server."""
    cost_a_million_lists: float | None
    limits: tuple[Limit, ...]
    """The one with the least room first."""
    notes: tuple[str, ...]


def make_plan(demand: Demand, given: Given, costs: Costs) -> Plan:
    """Work out what a demand needs.

    Load is taken to be even over partitions, and a Triton of several to be as well used as one.

    Raises:
        DoesNotFit: a worker has no time for events.
    """
    rate = given.busy * costs.worker_rate()
    if rate <= 0:
        raise DoesNotFit(
            f"a worker that keeps the catalogue up to date has no time for events: it is busy for "
            f"{costs.servers[WORKER].idle:.2f} of its time without any"
        )
    workers = math.ceil(demand.events_per_s / rate)
    queue = costs.queue(demand.events_per_s / workers)
    batches = demand.events_per_s / queue.mean_batch
    cpu = {
        name: cost.of(workers if name == WORKER else 1, batches, demand.events_per_s)
        for name, cost in costs.servers.items()
    }
    lists_per_s = demand.events_per_s * costs.lists_per_event
    models = {name.partition("/")[2]: used for name, used in cpu.items() if name.startswith("triton/")}
    triton_cores = sum(used for name, used in cpu.items() if name.split("/")[0] == "triton") / given.busy
    tritons, because = _tritons(models, triton_cores, given, costs)
    gpus = (
        None if given.gpu_lists_per_s is None else math.ceil(lists_per_s / given.gpu_lists_per_s / given.busy)
    )
    states = demand.shoppers * (costs.state_bytes + demand.interactions * costs.interaction_bytes) / 1e9
    kept = demand.shoppers_a_day * costs.kept_lists_bytes / 1e9
    rows = demand.items * costs.item_row_bytes / 1e9
    redis_gb = (states + kept + rows) / given.busy
    redis_cores = cpu.get("redis", 0.0) / given.busy
    worker_gb = costs.worker_bytes / 1e9
    kafka_cores = cpu.get("kafka", 0.0) / given.busy
    cores = workers + redis_cores + kafka_cores + (triton_cores if gpus is None else 0.0)
    memory_gb = workers * worker_gb + redis_gb
    partitions = workers * PARTITIONS_A_WORKER
    return Plan(
        lists_per_s=lists_per_s,
        workers=workers,
        events_per_s_a_worker=rate,
        worker_cpu_ms_a_list=1000 * cpu[WORKER] / lists_per_s,
        mean_batch=queue.mean_batch,
        wait_p50_ms=1000 * queue.p50_s,
        wait_p99_ms=1000 * queue.p99_s,
        partitions=partitions,
        worker_gb=worker_gb,
        worker_start_minutes=costs.worker_start_s / 60,
        redis_gb=redis_gb,
        redis_states_gb=states,
        redis_kept_lists_gb=kept,
        redis_items_gb=rows,
        redis_shards=max(math.ceil(redis_gb / given.redis_shard_gb), math.ceil(redis_cores)),
        redis_cores=redis_cores,
        kafka_cores=kafka_cores,
        tritons=gpus if gpus is not None else tritons,
        triton_cores=0.0 if gpus is not None else triton_cores,
        triton_because="lists a GPU serves, as given" if gpus is not None else because,
        gpus=gpus,
        cores=cores,
        memory_gb=memory_gb,
        shares={
            name: used / sum(cpu.values()) for name, used in sorted(cpu.items(), key=lambda one: -one[1])
        },
        cost_a_million_lists=_price(cores, memory_gb, gpus, lists_per_s, given),
        limits=_limits(demand, given, costs, partitions, worker_gb),
        notes=_notes(demand, given, costs, gpus),
    )


def _tritons(models: dict[str, float], cores: float, given: Given, costs: Costs) -> tuple[int, str]:
    """By cores, or by the model whose processes, of one core each, are full first."""
    by = {f"{given.triton_cores:g} cores each": cores / given.triton_cores}
    for model, used in models.items():
        by[f"the processes of {model}"] = used / given.busy / costs.model_processes.get(model, 1)
    because, need = max(by.items(), key=lambda one: one[1])
    return max(1, math.ceil(need)), because


def _price(
    cores: float, memory_gb: float, gpus: int | None, lists_per_s: float, given: Given
) -> float | None:
    """Of a million lists; None where a price is not known."""
    if given.core_price is None or given.gb_price is None or (gpus and given.gpu_price is None):
        return None
    an_hour = cores * given.core_price + memory_gb * given.gb_price + (gpus or 0) * (given.gpu_price or 0.0)
    return an_hour / (lists_per_s * 3600) * 1e6


def _limits(
    demand: Demand, given: Given, costs: Costs, partitions: int, worker_gb: float
) -> tuple[Limit, ...]:
    start_minutes = costs.worker_start_s / 60
    limits = [
        Limit(
            "memory of a worker, which holds the whole catalogue",
            f"{worker_gb:,.1f} GB",
            f"{given.worker_gb:,.0f} GB",
            given.worker_gb / worker_gb,
            "items",
        ),
        Limit(
            "start of a worker, which reads the whole catalogue",
            f"{start_minutes:,.1f} minutes",
            f"{given.start_minutes:,.0f} minutes",
            given.start_minutes / start_minutes,
            "items",
        ),
        Limit(
            "partitions",
            f"{partitions:,}",
            f"{MOST_PARTITIONS:,}",
            MOST_PARTITIONS / partitions,
            "events a second",
        ),
    ]
    return tuple(sorted(limits, key=lambda limit: limit.room))


def _notes(demand: Demand, given: Given, costs: Costs, gpus: int | None) -> tuple[str, ...]:
    notes = []
    for measured, what in (
        (costs.items_measured, "an event's CPU is that of servers"),
        (costs.items_read, "a worker's memory and start are drawn on from a catalogue"),
    ):
        if demand.items > measured:
            notes.append(
                f"{what} with {measured:,} items at most, {demand.items / measured:,.0f} times fewer"
            )
    if gpus is None:
        notes.append(
            "Triton is on CPUs, since no GPU was measured; to plan with GPUs say what one serves "
            "(--gpu-lists-per-s)"
        )
    if given.core_price is None or given.gb_price is None:
        notes.append("no cost: give --core-price and --gb-price (and --gpu-price), an hour each")
    elif gpus and given.gpu_price is None:
        notes.append("no cost: give --gpu-price, an hour")
    return tuple(notes)
