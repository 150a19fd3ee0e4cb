"""What a measurement found, and on which machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import msgspec

from stream.errors import WrongFile


class Machine(msgspec.Struct, frozen=True):
    """Where figures were measured; `cores` are shared by all servers and whatever else ran."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str

    @classmethod
    def here(cls) -> Machine:
        """Describe this one."""
        names = [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model name"))
        ]
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        system = os.uname()
        return cls(
            names[0] if names else system.machine,
            len(os.sched_getaffinity(0)),
            round(memory_bytes / 1e9, 1),
            f"{system.sysname} {system.release} {system.machine}",
        )

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB, {self.kernel}"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch under one rate of events.

    `rate` is 0 where nothing was sent, and None for a backlog that was worked off as fast as it went.
    `cpu_s` is by server: `worker` (all together), `kafka`, `redis`, `triton` without its models, and
    `triton/MODEL`.
    """

    rate: float | None
    seconds: float
    events: int
    lists: int
    batches: int
    cpu_s: dict[str, float]
    others_cpu_s: float
    """What everything else on the machine used, the sender of the events among it."""


class StatesReading(msgspec.Struct, frozen=True):
    """What the states of so many shoppers, with so many interactions each, took in Redis."""

    shoppers: int
    interactions: int
    bytes: int


class CatalogueReading(msgspec.Struct, frozen=True):
    """What so many items took of a worker: resident memory, and CPU time to read them."""

    items: int
    bytes: int
    cpu_s: float


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    measured_at: str
    machine: Machine
    release: str
    items: int
    workers: int
    batch_max: int
    readings: tuple[Reading, ...]
    states: tuple[StatesReading, ...]
    catalogue: tuple[CatalogueReading, ...]
    worker_bytes: int
    """Resident memory of a worker, the largest where there are several."""
    worker_start_s: float
    """From the command to the first list that could be made, with all items to be read anew."""
    kept_lists_bytes: float
    """In Redis, of the lists that are kept of a shopper to join events to, on average."""
    item_row_bytes: float
    """In Redis, of what was learnt of an item that had events, on average."""
    model_processes: dict[str, int]
    """Processes of a version of each model in one Triton."""


def now() -> str:
    """This moment, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def read_runs(path: Path | None) -> tuple[Run, ...]:
    """Read a file of one run or of several; None reads those that come with the package.

    Raises:
        WrongFile: it is missing or holds something else.
    """
    if path is None:
        data = files("stream.planning").joinpath("measured.json").read_bytes()
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WrongFile(f"{path}: cannot be read ({error.strerror})") from None
    try:
        read = msgspec.json.decode(data, type=Run | tuple[Run, ...])
    except msgspec.DecodeError as error:
        raise WrongFile(f"{path}: not a measurement of `streamrec plan measure`: {error}") from None
    if not read:
        raise WrongFile(f"{path}: holds no measurement: `streamrec plan measure` makes one")
    return read if isinstance(read, tuple) else (read,)


def write_run(path: Path, run: Run) -> None:
    """Write one run.

    Raises:
        WrongFile: it cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    except OSError as error:
        raise WrongFile(f"{path}: cannot be written ({error.strerror})") from None
