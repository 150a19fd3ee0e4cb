"""What every suite shares: the real servers, started once for the whole run."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

with suppress(ImportError):  # of the extra `evaluate`
    # Before anything loads usearch: that opens its library to all, and onnxruntime then dies as it is loaded.
    import onnxruntime  # noqa: F401

from redis_masters import Masters, three_masters

from stream.local.processes import marked
from stream.local.stack import Stack

# A run that was started in the background ignores Ctrl-C, and so would the commands that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SERVERS_TIMEOUT_S = 900
"""A test with real servers hangs after this long: many times what it takes on a machine of its own."""


LOOK_FOR_LOSS = {
    "test_crashes",
    "test_faults",
    "test_outages",
    "test_poison",
    "test_redis_cluster",
    "test_redis_forgets",
    "test_two_workers",
}
"""Tests that fail where something was lost or came twice, be it once in a hundred runs: never tried again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real servers, so that `-m "not servers"` leaves it out, and give it time.

    Kafka, Redis, Triton and workers share the machine with the tests, and one stall too many fails what is
    sound. So a test on servers that fails is tried once more, and pytest's summary names it (R).
    """
    for item in items:
        if {"stack", "masters"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)
        if item.get_closest_marker("servers") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SERVERS_TIMEOUT_S))
        if item.get_closest_marker("servers") and item.path.stem not in LOOK_FOR_LOSS:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Kafka, Redis and Triton; they end with the test run, however that ends.

    `stack.endpoints` says where they are and `stack.environment` tells it to streamrec's commands.
    Faults: `kill`, `pause`, `resume`, `stop` and `start` of one server by name. A test that leaves a
    server down or frozen must put it right again.
    """
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.up(owned=True)
        yield stack


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    """A real Redis Cluster of three masters. A test that kills one must start it again."""
    with three_masters(tmp_path_factory.mktemp("masters")) as masters:
        yield masters


@pytest.fixture
def revive(stack: Stack) -> Callable[[], None]:
    """Start Triton again where it died; does nothing where it lives.

    Release 2.51 may die when it goes on after a freeze that outlasted the patience of clients: of requests
    that were given up just when they were answered (SIGSEGV in its gRPC front end, a known fault).
    """

    def start() -> None:
        if any((server.name, server.state) == ("triton", "died") for server in stack.status().servers):
            stack.start("triton")

    return start


@pytest.fixture
def kill_model(stack: Stack) -> Callable[[str], int]:
    """Kill the processes of one model of this stack's Triton with -9, and return how many there were."""

    def kill(model: str) -> int:
        killed = 0
        for pid in marked(stack.folder):
            with suppress(OSError):
                if re.search(rf"/{model}/\d+/model\.py", Path(f"/proc/{pid}/cmdline").read_text()):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return killed

    return kill
