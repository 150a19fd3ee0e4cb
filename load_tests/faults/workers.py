"""Worker processes that faults kill, freeze, add and take away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stream.local import ports
from stream.local.processes import die_with_parent

READY_S = 300.0
"""Says that a worker hangs, not that it is slow."""
DRAIN_S = 30.0
POLL_S = 0.1


class Ended(NamedTuple):
    """A worker that ended and was not made to, epoch milliseconds."""

    name: str
    code: int
    started_ms: int
    ended_ms: int


class WorkerProcess:
    """One worker, started as an operator starts it, or by a command that breaks it on purpose."""

    def __init__(self, number: int, env: Mapping[str, str], folder: Path, command: Sequence[str]) -> None:
        self.name = f"worker-{number}"
        self.port = ports.choose([self.name])[self.name]
        self.log = folder / f"{self.name}.log"
        self.frozen = False
        self.started_ms = time.time_ns() // 1_000_000
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **env, "STREAMREC_TELEMETRY__PORT": str(self.port)},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                preexec_fn=die_with_parent(),
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def freeze(self) -> None:
        """Stop its clock: SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on: SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    async def end(self) -> None:
        """Ask it to drain and end; kill it where it does not."""
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, DRAIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    async def over(self) -> None:
        """Wait until it has ended."""
        while self.alive:  # noqa: ASYNC110, a process sets no event
            await asyncio.sleep(POLL_S)

    async def ready(self) -> None:
        """Wait until it says that it makes lists, or died.

        Raises:
            TimeoutError: it did not become ready.
        """
        deadline = time.monotonic() + READY_S
        while self.alive and await asyncio.to_thread(self._status) != 200:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} was not ready within {READY_S:.0f} s: see {self.log}")
            await asyncio.sleep(POLL_S)

    def _status(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=10) as answer:
                return int(answer.status)
        except OSError:  # HTTPError, of a worker that is not ready, is one
            return 0


class Workers:
    """The workers of one engine. One that dies by itself is started again, and remembered."""

    def __init__(self, env: Mapping[str, str], folder: Path, command: Sequence[str] | None = None) -> None:
        self._env = env
        self._folder = folder
        self._command = command or [str(Path(sys.executable).with_name("streamrec")), "worker"]
        self._started = 0
        self.running: list[WorkerProcess] = []
        self.ended: list[Ended] = []

    def start(self, command: Sequence[str] | None = None) -> WorkerProcess:
        """Start one more, by another command where one is given.

        To be called in the main thread, whose end is the worker's too.
        """
        worker = WorkerProcess(self._started, self._env, self._folder, command or self._command)
        self._started += 1
        self.running.append(worker)
        return worker

    def chosen(self, pick: float) -> WorkerProcess:
        """One of those that run."""
        return self.running[int(pick * len(self.running))]

    def forget(self, worker: WorkerProcess) -> None:
        """Take a worker off the list before it is made to end."""
        self.running.remove(worker)

    def replace_dead(self) -> None:
        """Start a worker for each that ended and was not made to."""
        for worker in [one for one in self.running if not one.alive]:
            self.forget(worker)
            now_ms = time.time_ns() // 1_000_000
            self.ended.append(Ended(worker.name, worker.process.returncode, worker.started_ms, now_ms))
            self.start()

    async def watch(self) -> None:
        """Replace dead ones for ever."""
        while True:
            self.replace_dead()
            await asyncio.sleep(1.0)

    def kill_all(self) -> None:
        """End them all, frozen ones too."""
        for worker in self.running:
            worker.kill()
        self.running.clear()
