"""A real Redis Cluster of three masters without replicas, on this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError

from stream.config import Redis as RedisSettings
from stream.local import ports, redis
from stream.local.processes import die_with_parent

FAKE_AND_REAL = [
    "fake",
    pytest.param("real", marks=pytest.mark.servers),
    pytest.param("cluster", marks=pytest.mark.servers),
]
"""On what a suite runs that every store has to pass."""
DEADLINE_S = 120.0
SLOTS = 16384
BUS = 10_000
"""What a node adds to its port, to speak to other nodes."""


class Masters:
    """Three masters with equal ranges of slots; `url` names the first two. Number 3 may be a replica."""

    def __init__(self, folder: Path, announced: Sequence[int]) -> None:
        self._folder = folder
        self._announced = announced
        self.ports: list[int] = []
        while len(self.ports) < 4:
            (port,) = ports.choose(["redis"], self.ports).values()
            if ports.is_free(port + BUS):
                self.ports.append(port)
        self.url = f"redis://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> None:
        """Start a master, with the data that it left."""
        folder = self._folder / f"master-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.ports[number]),
            "dir": str(folder),
            "cluster-enabled": "yes",
            "cluster-announce-ip": "127.0.0.1",
            "cluster-node-timeout": "2000",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        if self._announced:
            settings["cluster-announce-port"] = str(self._announced[number])
            settings["cluster-announce-bus-port"] = str(self.ports[number] + BUS)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    str(redis.find().program),
                    *(word for key, value in settings.items() for word in (f"--{key}", value)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),
            )
        self.processes[number:] = [process, *self.processes[number + 1 :]]

    def kill(self, number: int) -> None:
        """Kill a master with -9."""
        self.processes[number].kill()
        self.processes[number].wait()

    def empty(self, number: int) -> None:
        """Take all data from a master that was killed; what it knows of the cluster stays."""
        for left in (self._folder / f"master-{number}").iterdir():
            if left.name.startswith("appendonly"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def ask(self, number: int, *command: str | int | bytes) -> object:
        """Send a command to one master."""
        with Redis(port=self.ports[number], socket_timeout=30) as client:
            return client.execute_command(*command)

    def join(self) -> None:
        """Give each master its slots and make them know one another."""
        for number, port in enumerate(self.ports[:3]):
            self._until(number, partial(self.ask, number, "PING"))
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            self.ask(number, "CLUSTER", "ADDSLOTS", *slots)
            self.ask(0, "CLUSTER", "MEET", "127.0.0.1", port)
        self.settle()

    def join_replica(self, master: int) -> None:
        """Start one node more, and wait until it has what a master has."""
        self.start(3)
        self._until(3, partial(self.ask, 3, "PING"))
        self.ask(3, "CLUSTER", "MEET", "127.0.0.1", self.ports[master])
        name = cast(bytes, self.ask(master, "CLUSTER", "MYID"))
        self._until(3, partial(self.ask, 3, "CLUSTER", "REPLICATE", name))
        self._until(3, lambda: self._replication(3).get("master_link_status") == "up")
        for number in range(3):  # who does not know it does not vote for it
            self._until(number, partial(self._knows_replica, number))

    def _knows_replica(self, number: int) -> bool:
        return "slave" in str(self.ask(number, "CLUSTER", "NODES"))

    def wait_for_replica(self, master: int) -> None:
        """Wait until the replica has all that was written to its master."""
        written = self._replication(master)["master_repl_offset"]
        self._until(3, lambda: self._replication(3)["slave_repl_offset"] >= written)

    def _replication(self, number: int) -> dict[str, Any]:
        return cast(dict[str, Any], self.ask(number, "INFO", "replication"))

    def settle(self) -> None:
        """Wait until every master says that all slots are served."""
        for number in range(3):
            self._until(number, partial(self._is_whole, number))

    def _is_whole(self, number: int) -> bool:
        said = cast(dict[str, str], self.ask(number, "CLUSTER INFO"))
        return (said["cluster_state"], said["cluster_known_nodes"]) == ("ok", "3")

    def _until(self, number: int, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                if condition():
                    return
            except RedisError:
                pass
            log = self._folder / f"master-{number}" / "log"
            assert self.processes[number].poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end_s, log.read_text()[-3000:]
            time.sleep(0.02)


@contextmanager
def three_masters(folder: Path, announced: Sequence[int] = ()) -> Iterator[Masters]:
    """Start a cluster, and stop it at the end.

    Args:
        announced: ports where clients reach the masters, if not their own.
    """
    masters = Masters(folder, announced)
    try:
        for number in range(3):
            masters.start(number)
        masters.join()
        yield masters
    finally:
        for process in masters.processes:
            process.kill()
            process.wait()


def redis_of(request: pytest.FixtureRequest, timeout_ms: int = 5_000) -> RedisSettings:
    """How the real Redis, or cluster, is reached that a test is to run on."""
    if request.param == "cluster":
        url = request.getfixturevalue("masters").url
        return RedisSettings(url=url, timeout_ms=timeout_ms, cluster=True)
    return RedisSettings(url=request.getfixturevalue("stack").endpoints.redis, timeout_ms=timeout_ms)
