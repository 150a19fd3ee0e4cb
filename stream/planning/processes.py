"""CPU time of the servers of a stack, from the kernel's own books (Linux)."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from stream.local.stack import Stack

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """CPU seconds since each server started and since the machine did; processes of a version of a model."""

    by_server: dict[str, float]
    machine_s: float
    model_processes: dict[str, int]


def spent(stack: Stack) -> Spent:
    """Read the books; workers count together, and models apart from the Triton that they serve."""
    by_server: defaultdict[str, float] = defaultdict(float)
    versions: Counter[tuple[str, str]] = Counter()
    for server in stack.status().servers:
        if server.pid is None:
            continue
        name = "worker" if server.name.startswith("worker-") else server.name
        for pid in _with_descendants(server.pid):
            model, version = _model(pid)
            if model:
                versions[model, version] += 1
            by_server[f"{name}/{model}" if model else name] += _cpu_s(pid)
    of_model: dict[str, int] = {}
    for (model, _), count in versions.items():
        of_model[model] = max(count, of_model.get(model, 0))
    return Spent(dict(by_server), _machine_s(), of_model)


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += _with_descendants(int(child))
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _model(pid: int) -> tuple[str, str]:
    """The model and the version whose process of Triton's this is, "" for another."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "", ""
    if "triton_python_backend_stub" not in command:
        return "", ""
    named = re.search(r"/([^/\0]+)/(\d+)/model\.py", command)
    return (named[1], named[2]) if named else ("", "")


def _machine_s() -> float:
    """What all processes used, and what other machines on the same hardware took from it."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) * TICK_S
