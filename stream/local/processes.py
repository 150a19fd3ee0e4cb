"""Processes that die with their parent, and how those that did not are found again.

Every process of a stack carries the stack's folder in its environment, and so do its children
(Triton's stubs): a stack can be searched for and cleared even when nobody remembers its pids.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STACK_MARK = "_STREAMREC_STACK"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None]:
    """Return a `preexec_fn` that has the kernel kill the child when this process is gone."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


def marked(folder: Path) -> Iterator[int]:
    """Yield the pids of every live process that belongs to the stack in `folder`, but not our own."""
    mark = f"{STACK_MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or it is somebody else's
            continue
        if mark in environment:
            yield int(entry.name)


def kill_marked(folder: Path, timeout_s: float = 5.0) -> int:
    """Kill what is left of the stack in `folder` and wait until it is gone; return how many were."""
    found: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while left := set(marked(folder)):
        found |= left
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return len(found)


def memory_bytes(pid: int) -> int | None:
    """Return the resident memory of a process and its descendants in bytes, None if it is gone."""
    total = _resident_bytes(pid)
    if total is None:
        return None
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                children += (task / "children").read_text().split()
    except OSError:
        children = []
    return total + sum(memory_bytes(int(child)) or 0 for child in children)


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
