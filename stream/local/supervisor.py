"""The process that owns the servers of one stack: `python -m stream.local.supervisor FOLDER FD`.

It is in a session of its own, so a Ctrl-C in the terminal does not reach it or the servers. The
servers die with it (the kernel sees to that), and it stops them when the process that began the
stack goes away before it said `Keep`: the other end of the socket FD then closes.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stream.errors import LocalStackError
from stream.local import cache, control
from stream.local.processes import die_with_parent
from stream.local.server import Endpoints, Server, ServerState, StackState, last_lines, log_path

_LARGEST_LOG_BYTES = 8 * 1024 * 1024
_POLL_S = 0.05
_AGAIN_S = 1.0
"""Between the end of a server that asks to be started again, and its start."""
_ANSWER_S = 8.0


class Unit:
    """One server, its process and how it fares."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.state = ServerState(name=server.name, state="starting", ports=server.ports)
        self.process: asyncio.subprocess.Process | None = None
        self.ended = asyncio.Event()

    @property
    def returncode(self) -> int | None:
        """Return the exit code, negative for a signal, None while it runs."""
        return self.process.returncode if self.process else None

    @property
    def ending(self) -> str:
        """Say how the process ended."""
        code = self.returncode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"


class Supervisor:
    """Start, watch and stop the servers of the stack in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._units: dict[str, Unit] = {}
        self._endpoints: Endpoints | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._over = asyncio.Event()
        self._now = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, owner: socket.socket) -> None:
        """Serve requests until asked to end or left by an owner who never said `Keep`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.end)
        with control.short_path(self._folder) as short:
            path = f"{short}/{control.SOCKET}"
            listening = await asyncio.start_unix_server(self._serve_caller, path)
        reader, writer = await asyncio.open_connection(sock=owner)
        self._spawn(self._serve_owner(reader, writer))
        await self._over.wait()
        listening.close()
        await self._stop_all()
        for task in self._tasks:
            task.cancel()

    def end(self, *, now: bool = False) -> None:
        """Begin to stop everything; `now` kills instead of asking."""
        self._now = self._now or now
        self._over.set()

    async def _serve_caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer)

    async def _serve_owner(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the process that began the stack, and end with it unless told to keep on."""
        kept = await self._serve(reader, writer)
        if not kept:
            self._log("the process that began the stack is gone")
            self.end(now=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry out the requests of one connection; return whether it said `Keep`."""
        kept = False
        work: asyncio.Task[None] | None = None
        with suppress(ConnectionError, msgspec.DecodeError):
            while line := await reader.readline():
                request = msgspec.json.decode(line, type=control.Request)
                kept = kept or isinstance(request, control.Keep)
                work = self._spawn(self._answer(request, writer))
        if work and not kept:
            work.cancel()
        writer.close()
        return kept

    async def _answer(self, request: control.Request, writer: asyncio.StreamWriter) -> None:
        def tell(answer: control.Answer) -> None:
            writer.write(msgspec.json.encode(answer) + b"\n")

        try:
            match request:
                case control.Start(servers, endpoints):
                    self._endpoints = endpoints
                    await self._start(servers, tell)
                case control.Stop(name):
                    await self._stop(self._unit(name))
                case control.Again(name):
                    unit = self._unit(name)
                    if unit.process and not unit.ended.is_set():
                        raise LocalStackError(f"{name} is running")
                    await self._start([unit.server], tell)
                case control.Check():
                    await asyncio.gather(*(self._check(unit) for unit in self._units.values()))
                    self._save()
                case control.Shutdown(now):
                    self.end(now=now)
                case control.Keep():
                    pass
            tell(control.Done())
        except LocalStackError as error:
            tell(control.Failed(str(error)))
        except Exception as error:
            traceback.print_exc()
            tell(control.Failed(f"the supervisor failed: {error!r}"))
        with suppress(ConnectionError):
            await writer.drain()

    async def _check(self, unit: Unit) -> None:
        """Ask a running server its question again."""
        if unit.process is not None and unit.state.state == "ready":
            unit.state.lacks = await _lacks(unit.server, unit.process.pid)

    def _unit(self, name: str) -> Unit:
        if name not in self._units:
            raise LocalStackError(f"there is no {name}; there are: {', '.join(self._units)}")
        return self._units[name]

    async def _start(self, servers: list[Server], tell: Callable[[control.Answer], None]) -> None:
        """Start servers together; the first that fails ends the attempt."""
        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(self._start_one(server, tell))
        except* LocalStackError as failures:
            raise failures.exceptions[0] from None

    async def _start_one(self, server: Server, tell: Callable[[control.Answer], None]) -> None:
        unit = self._units[server.name] = Unit(server)
        self._save()
        began = time.monotonic()
        try:
            await self._launch(unit)
            await self._until_ready(unit, began)
        except LocalStackError:
            await self._stop(unit, now=True, state="died")
            if self._over.is_set():
                raise LocalStackError("The stack was taken down while it started.") from None
            raise
        unit.state.ready_after_s = round(time.monotonic() - began, 2)
        self._note(unit, "ready")
        tell(control.Told(server.name, unit.state.ready_after_s))

    async def _launch(self, unit: Unit) -> None:
        """Start the process of a server, after what has to run once before it."""
        server = unit.server
        path = log_path(self._folder, server.name)
        with suppress(FileNotFoundError):
            if path.stat().st_size > _LARGEST_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
        _sweep(server)
        if server.before and not server.before.done:
            await self._execute(unit, server.before.argv)
            await unit.ended.wait()
            if unit.returncode != 0:
                raise LocalStackError(self._obituary(unit, "could not be prepared"))
        await self._execute(unit, server.argv)

    async def _execute(self, unit: Unit, argv: list[str]) -> None:
        server = unit.server
        with log_path(self._folder, server.name).open("ab") as log:
            try:
                unit.process = await asyncio.create_subprocess_exec(
                    *argv,
                    env=server.env,
                    cwd=server.cwd,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_parent(),
                )
            except OSError as error:
                message = f"{server.name} could not be started: {argv[0]}: {error.strerror}"
                raise LocalStackError(message) from error
        unit.ended = asyncio.Event()
        unit.state.pid = unit.process.pid
        self._save()
        self._spawn(self._watch(unit, unit.process, unit.ended))

    async def _watch(self, unit: Unit, process: asyncio.subprocess.Process, ended: asyncio.Event) -> None:
        """Wait for the end of a process, take its children with it and write down how it went."""
        await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _sweep(unit.server)
        ended.set()
        if unit.state.state != "ready":
            return
        if unit.returncode in unit.server.again_after:
            await self._start_again(unit)
        else:
            self._note(unit, "died")

    async def _start_again(self, unit: Unit) -> None:
        """Start a server that asked for it by how it ended, until it is ready or dies in another way."""
        while unit.returncode in unit.server.again_after:
            self._note(unit, "starting")
            await asyncio.sleep(_AGAIN_S)
            if not self._is_starting(unit):
                return
            began = time.monotonic()
            try:
                await self._launch(unit)
                if not self._is_starting(unit):  # stopped while there was nothing to stop
                    await self._stop(unit, now=True, state=unit.state.state)
                    return
                await self._until_ready(unit, began)
            except LocalStackError as error:
                self._log(str(error))
                if not self._is_starting(unit):
                    return
            else:
                if self._is_starting(unit):
                    unit.state.ready_after_s = round(time.monotonic() - began, 2)
                    self._note(unit, "ready")
                return
        await self._stop(unit, now=True, state="died")

    def _is_starting(self, unit: Unit) -> bool:
        """Whether nobody stopped or started it meanwhile."""
        return self._units[unit.server.name] is unit and unit.state.state == "starting"

    async def _until_ready(self, unit: Unit, began: float) -> None:
        process = unit.process
        assert process is not None
        lacks: str | None = ""
        while lacks is not None:
            await asyncio.sleep(_POLL_S)
            lacks = await _lacks(unit.server, process.pid)
            if unit.ended.is_set():
                raise LocalStackError(self._obituary(unit, "did not start"))
            if lacks is not None and time.monotonic() - began > unit.server.start_timeout_s:
                what = f"was not ready after {unit.server.start_timeout_s:.0f} s ({lacks})"
                raise LocalStackError(self._obituary(unit, what))

    async def _stop(self, unit: Unit, *, now: bool = False, state: str = "stopped") -> None:
        """Ask a server to end, kill it and its children if it does not in time."""
        self._note(unit, state)
        if unit.process is None:
            return
        if not unit.ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(unit.process.pid, signal.SIGKILL if now else signal.SIGTERM)
                os.kill(unit.process.pid, signal.SIGCONT)
            try:
                async with asyncio.timeout(unit.server.stop_timeout_s):
                    await unit.ended.wait()
            except TimeoutError:
                self._log(f"{unit.server.name} did not end when asked: killed")
                with suppress(ProcessLookupError):
                    os.killpg(unit.process.pid, signal.SIGKILL)
                await unit.ended.wait()
        self._save()

    async def _stop_all(self) -> None:
        """Stop the workers, which still write, and then the servers."""
        workers = {name for name in self._units if name.startswith("worker-")}
        for names in (workers, self._units.keys() - workers):
            units = [self._units[name] for name in names]
            await asyncio.gather(*(self._stop(unit, now=self._now) for unit in units))

    def _obituary(self, unit: Unit, what: str) -> str:
        """Say what became of a server, with the last lines of its log."""
        path = log_path(self._folder, unit.server.name)
        how = f": it ended with {unit.ending}" if unit.ended.is_set() else ""
        lines = "\n".join(f"  {line}" for line in last_lines(path)) or "  (it wrote nothing)"
        return f"{unit.server.name} {what}{how}. Last lines of {path}:\n{lines}"

    def _note(self, unit: Unit, state: str) -> None:
        if unit.state.state != "died" or state != "stopped":
            unit.state.state = state
        unit.state.exit = unit.ending if unit.ended.is_set() else None
        self._log(f"{unit.server.name} {state} {unit.state.exit or ''}".rstrip())
        self._save()

    def _save(self) -> None:
        """Write the state of the stack, whole or not at all."""
        assert self._endpoints is not None
        state = StackState(
            supervisor_pid=os.getpid(),
            started_at=self._started_at,
            ending=self._over.is_set(),
            endpoints=self._endpoints,
            servers={name: unit.state for name, unit in self._units.items()},
        )
        partial = self._folder / "state.json.partial"
        with suppress(FileNotFoundError):  # the folder was removed under a running stack
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
            partial.replace(self._folder / "state.json")

    def _log(self, text: str) -> None:
        print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}", flush=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _lacks(server: Server, pid: int) -> str | None:
    """Ask a server its question, for a few seconds at most."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await server.ready.lacks(pid)
    except TimeoutError:
        return f"no answer within {_ANSWER_S:.0f} s"


def _sweep(server: Server) -> None:
    """Remove what a killed server leaves outside of the stack's folder."""
    for pattern in filter(None, [server.scratch]):
        for path in Path("/").glob(pattern.lstrip("/")):
            path.unlink(missing_ok=True)


def main() -> None:
    """Supervise the stack in the folder named first, for the owner at the socket named second."""
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    # aiokafka complains about every question that comes too early, which here is no fault.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Somebody may be looking at the lock just now; no other supervisor holds it.
    with (
        cache.locked(folder / "supervisor.lock", meanwhile=lambda: None),
        socket.socket(fileno=descriptor) as owner,
    ):
        asyncio.run(Supervisor(folder).run(owner))


if __name__ == "__main__":
    main()
