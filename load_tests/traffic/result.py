"""What comes of a run or of a search for the highest rate, as it is written to a file and read again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stream.errors import WrongFile
from traffic.figures import Histogram, Interval

VERSION = 1
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


class Settings(msgspec.Struct, frozen=True):
    """What was asked for, and of which cluster."""

    profile: str
    rate: float
    seconds: float
    warm_up_s: float
    patience_s: float
    seed: int
    shoppers: int
    shopper_skew: float
    item_skew: float
    processes: int
    products: int
    bootstrap: str
    topics: list[str]


class Machine(msgspec.Struct, frozen=True):
    """The machine that the generators ran on."""

    cores: int
    processor: str
    memory_mb: int
    system: str
    python: str


class Times(msgspec.Struct, frozen=True):
    """Times in milliseconds. `percentiles` have bounds, `histogram` is HdrHistogram's own text."""

    count: int
    mean_ms: float
    most_ms: float
    percentiles: dict[str, Interval]
    histogram: str


class Slice(msgspec.Struct, frozen=True):
    """One interval of the run: events by when they were meant to be sent, lists by when they were read."""

    at_s: float
    sent: int
    lists: int
    degraded: int
    unanswered: int
    latency: str
    freshness: str


class Sample(msgspec.Struct, frozen=True):
    """What surrounded the run at a time. CPU is in cores since the sample before, memory is resident.

    `open_files` counts file descriptors, sockets included, of processes that are ours to see.
    """

    at_s: float
    lag: int | None
    cpu: dict[str, float]
    memory_mb: dict[str, float]
    open_files: dict[str, float] = {}


class Use(msgspec.Struct, frozen=True):
    """What one process and its children used while it was measured."""

    cpu_s: float
    cpu_ms_per_list: float | None
    most_memory_mb: float
    memory_growth_mb_an_hour: Interval | None
    most_open_files: int = 0


class Stage(msgspec.Struct, frozen=True):
    """Times of a worker's stage, a batch, by its own histogram and interpolated within its buckets."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Batches(msgspec.Struct, frozen=True):
    """Batches of a worker's agent or a Triton model; of Triton's also mean times of a request."""

    count: int
    mean: float
    queue_ms: float | None = None
    compute_ms: float | None = None


class Check(msgspec.Struct, frozen=True):
    """One demand of the SLO: `found` must not exceed `limit`; None where there was nothing to judge."""

    name: str
    said: str
    limit: float
    found: Interval | None
    held: bool


class Run(msgspec.Struct, frozen=True, tag="run", tag_field="kind"):
    """One run under load."""

    version: int
    began_ms: int
    settings: Settings
    machine: Machine
    counts: dict[str, int]
    clocks: list[str]
    interval_s: float
    slices: list[Slice]
    latency: Times
    freshness: Times
    late: Times
    acknowledge: Times
    lag_slope: Interval | None
    samples: list[Sample]
    used: dict[str, Use]
    stages: dict[str, Stage]
    batches: dict[str, Batches]
    workers: dict[str, float]
    notes: list[str]
    checks: list[Check]

    @property
    def held(self) -> bool:
        """Whether the SLO was held."""
        return all(check.held for check in self.checks)

    def share(self, name: str) -> float:
        """So many of the sent events."""
        return self.counts.get(name, 0) / self.counts["sent"] if self.counts.get("sent") else 0.0


class Probe(msgspec.Struct, frozen=True):
    """One run of the search for the highest rate."""

    rate: float
    held: bool
    latency_p99_ms: Interval
    lag_slope: Interval | None
    why: str


class Saturation(msgspec.Struct, frozen=True, tag="saturation", tag_field="kind"):
    """The highest rate that holds the SLO, events a second, and how it was found."""

    version: int
    began_ms: int
    settings: Settings
    machine: Machine
    highest: Interval
    confidence: float
    bounded: bool
    probes: list[Probe]
    best: Run | None
    """The probe of the highest rate that held."""


Result = Run | Saturation
_decoder = msgspec.json.Decoder(Result)


def read(path: Path) -> Result:
    """Read a file that `run` or `saturate` wrote.

    Raises:
        WrongFile: it cannot be read, or is of another kind or version.
    """
    try:
        found: Result = _decoder.decode(path.read_bytes())
        if found.version != VERSION:
            raise WrongFile(f"{path}: is of version {found.version}, not {VERSION}: make it anew")
        for part in found.slices if isinstance(found, Run) else ():
            Histogram.of(part.latency)
    except OSError as error:
        raise WrongFile(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise WrongFile(f"{path}: is not what `python -m load_tests run --json` writes ({error})") from None
    return found


def write(found: Result, path: Path) -> None:
    """Write a result. Raises `WrongFile` where that cannot be done."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as error:
        raise WrongFile(f"{path}: cannot be written ({error.strerror})") from None
