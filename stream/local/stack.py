"""One stack on this machine: up, status, logs, down.

A stack lives in one folder: its data, its logs, the ports it keeps from start to start, and the
state that its supervisor writes. Two stacks are two folders.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from stream.errors import LocalStackError
from stream.local import cache, kafka, ports, redis, triton
from stream.local.control import Again, Check, Control, Keep, Shutdown, Start, Stop
from stream.local.fetching import Fetching, Progress
from stream.local.processes import STACK_MARK, kill_marked, memory_bytes
from stream.local.server import Endpoints, Server, StackState, last_lines, log_path
from stream.local.workers import worker, worker_settings

_PORTS = (*kafka.PORTS, *redis.PORTS, *triton.PORTS)


class AlreadyUp(LocalStackError):
    """The stack runs already; `endpoints` says where."""

    def __init__(self, message: str, endpoints: Endpoints) -> None:
        super().__init__(message)
        self.endpoints = endpoints


class ServerStatus(msgspec.Struct, frozen=True):
    """How one server fares; `last_lines` of its log only if it died."""

    name: str
    state: str
    ports: dict[str, int]
    pid: int | None
    memory_bytes: int | None
    ready_after_s: float | None
    exit: str | None
    lacks: str | None
    log: str
    last_lines: list[str]


class Status(msgspec.Struct, frozen=True):
    """How a stack fares: `up`, `degraded` when a server died or does not answer, or `down`."""

    state: str
    folder: str
    started_at: str | None = None
    endpoints: Endpoints | None = None
    servers: list[ServerStatus] = []


def default_folder() -> Path:
    """Return `STREAMREC_HOME`, or `streamrec` in the user's data folder."""
    if home := os.environ.get("STREAMREC_HOME"):
        return Path(home).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "streamrec"


class Stack:
    """The stack in `folder`.

    Args:
        folder: where its data, logs and state are; made when it first comes up.
        models: the model repository for Triton; None for the checkout's.
    """

    def __init__(self, folder: Path | None = None, models: Path | None = None) -> None:
        self.folder = (folder or default_folder()).absolute()
        self._models = models
        self._owned: Control | None = None

    def up(
        self,
        workers: int = 0,
        *,
        wanted_ports: Mapping[str, int] = {},
        owned: bool = False,
        progress: Progress | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> Endpoints:
        """Start Kafka, Redis and Triton, and workers, and return when all are ready.

        Args:
            workers: how many `streamrec worker` processes; for these the topics are created.
            wanted_ports: ports to listen on instead of kept or free ones, by name.
            owned: the stack ends with this process, however that ends.
            progress: where fetching is shown.
            told: is given a sentence for each server that became ready.

        Raises:
            AlreadyUp: it is.
            LocalStackError: it could not be brought up; nothing of it is left running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        try:
            with cache.locked(self.folder / "up.lock"):
                return self._up(workers, wanted_ports, owned, Fetching(progress), told)
        except BlockingIOError:
            raise LocalStackError(f"Another `up` is under way for {self.folder}.") from None

    def _up(
        self,
        workers: int,
        wanted_ports: Mapping[str, int],
        owned: bool,
        fetching: Fetching,
        told: Callable[[str], None],
    ) -> Endpoints:
        self._refuse_if_running(workers)
        kill_marked(self.folder)  # what a stack whose supervisor was killed may have left
        at = self._ports(wanted_ports, workers)
        endpoints = _endpoints(self.folder, at)
        servers = self._servers(at, fetching)
        control, supervisor = self._supervise()
        try:
            control.ask(
                Start(servers, endpoints),
                told=lambda ready: told(f"{ready.server} is ready after {ready.after_s:.1f} s"),
            )
            if workers:
                env = {**self._environment(), **worker_settings(endpoints)}
                _create_topics(env)
                control.ask(
                    Start([worker(n, at[f"worker-{n}"], env) for n in range(workers)], endpoints),
                    told=lambda ready: told(f"{ready.server} is ready after {ready.after_s:.1f} s"),
                )
            if owned:
                self._owned = control
            else:
                control.ask(Keep())
                control.close()
        except BaseException:
            control.close()
            with suppress(subprocess.TimeoutExpired):
                supervisor.wait(20)
            kill_marked(self.folder)
            raise
        return endpoints

    @property
    def endpoints(self) -> Endpoints:
        """Where the running stack is reached.

        Raises:
            LocalStackError: it is not up.
        """
        state = self._state()
        if state is None or not self.is_running():
            raise LocalStackError(f"The stack in {self.folder} is down: `streamrec local up`.")
        return state.endpoints

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point streamrec's own commands at this stack."""
        return worker_settings(self.endpoints)

    def is_running(self) -> bool:
        """Tell whether a supervisor holds the stack."""
        try:
            with (self.folder / "supervisor.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def status(self) -> Status:
        """Return how the stack fares, with the last log lines of servers that died.

        Each running server is asked for a piece of its work: one may live and yet not answer.
        """
        running = self.is_running()
        if running:
            with suppress(LocalStackError):
                self._ask(Check(), timeout_s=15.0)
        state = self._state()
        if state is None:
            return Status("up" if running else "down", str(self.folder))
        servers = []
        for server in state.servers.values():
            died = server.state == "died"
            if not running and server.state in ("ready", "starting"):
                died = True
            path = log_path(self.folder, server.name)
            servers.append(
                ServerStatus(
                    name=server.name,
                    state="died" if died else server.state,
                    ports=server.ports,
                    pid=server.pid if running and server.state in ("ready", "starting") else None,
                    memory_bytes=memory_bytes(server.pid) if running and server.pid else None,
                    ready_after_s=server.ready_after_s,
                    exit=server.exit or ("its supervisor was killed" if died else None),
                    lacks=server.lacks if running and server.state == "ready" else None,
                    log=str(path),
                    last_lines=last_lines(path) if died else [],
                )
            )
        well = all(server.state == "ready" and server.lacks is None for server in servers)
        return Status(
            state=("up" if well else "degraded") if running else "down",
            folder=str(self.folder),
            started_at=state.started_at if running else None,
            endpoints=state.endpoints if running else None,
            servers=servers,
        )

    def down(self, *, now: bool = False, timeout_s: float = 40.0) -> bool:
        """Stop everything of the stack; return whether there was anything to stop.

        Args:
            now: kill instead of asking to end; for stacks whose data is thrown away.
            timeout_s: then whatever is left is killed.
        """
        state = self._state()
        running = self.is_running()
        if running:
            with suppress(OSError, LocalStackError):
                control = Control.connect(self.folder)
                control.ask(Shutdown(now), timeout_s=5.0)
                control.close()
            with suppress(LocalStackError):
                self._await(lambda: not self.is_running(), "the stack to end", timeout_s)
        if self._owned is not None:
            self._owned.close()
            self._owned = None
        if state is not None and self.is_running():
            with suppress(ProcessLookupError):
                os.kill(state.supervisor_pid, signal.SIGKILL)
        # An `up` that has begun meanwhile clears what is left itself, and is not to be hurt.
        with suppress(BlockingIOError, FileNotFoundError), cache.locked(self.folder / "up.lock"):
            return kill_marked(self.folder) > 0 or running
        return running

    def logs(self, name: str | None = None) -> list[Path]:
        """Return the log file of a server or of the `supervisor`, or all of them.

        Raises:
            LocalStackError: there is none of that name.
        """
        found = {path.stem: path for path in sorted(self.folder.glob("logs/*.log"))}
        if not found or (name and name not in found):
            names = ", ".join(found) or "none"
            raise LocalStackError(f"{self.folder} has no log of {name or 'anything'}; it has: {names}.")
        return [found[name]] if name else list(found.values())

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one server, as a fault would, and wait until a deadly one has worked."""
        os.kill(self.pid(name), number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._await(lambda: self._server_state(name) == "died", f"{name} to die")

    def pid(self, name: str) -> int:
        """The process of one server.

        Raises:
            LocalStackError: it does not run.
        """
        state = self._state()
        server = state.servers.get(name) if state else None
        if server is None or server.pid is None or server.state not in ("ready", "starting"):
            raise LocalStackError(f"{name} does not run")
        return server.pid

    def pause(self, name: str) -> None:
        """Freeze one server: it keeps its connections and answers nothing."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid(name), signal.SIGCONT)

    def stop(self, name: str) -> None:
        """Stop one server in good order."""
        self._ask(Stop(name))

    def start(self, name: str) -> None:
        """Start one server that was stopped or died; return when it is ready."""
        self._ask(Again(name))

    def wait_until_well(self, timeout_s: float = 30.0) -> None:
        """Wait until every server runs and answers, after faults were put right."""
        self._await(lambda: self.status().state == "up", f"the stack in {self.folder} to be well", timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down(now=True)

    def _ask(self, request: Stop | Again | Check, timeout_s: float = 330.0) -> None:
        try:
            control = Control.connect(self.folder)
        except OSError:
            raise LocalStackError(f"The stack in {self.folder} is down.") from None
        try:
            control.ask(request, timeout_s=timeout_s)
        finally:
            control.close()

    def _server_state(self, name: str) -> str | None:
        state = self._state()
        return state.servers[name].state if state and name in state.servers else None

    def _await(self, condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise LocalStackError(f"waited {timeout_s:.0f} s for {what}")
            time.sleep(0.02)

    def _state(self) -> StackState | None:
        try:
            return msgspec.json.decode((self.folder / "state.json").read_bytes(), type=StackState)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _refuse_if_running(self, workers: int) -> None:
        if (state := self._state()) and state.ending:
            self._await(lambda: not self.is_running(), f"the stack in {self.folder} to end", 40.0)
        if not self.is_running():
            return
        status = self.status()
        if status.endpoints is None:
            raise LocalStackError(f"The stack in {self.folder} has only begun to start.")
        ill = [server.name for server in status.servers if server.state != "ready" or server.lacks]
        if ill:
            raise LocalStackError(
                f"The stack in {self.folder} is up, but not well: {', '.join(ill)}. See "
                "`streamrec local status`; `streamrec local down` and `up` start it anew."
            )
        running = sum(server.name.startswith("worker-") for server in status.servers)
        if workers > running:
            raise LocalStackError(
                f"The stack in {self.folder} is up already, with {running} of {workers} workers: "
                "`streamrec local down` and `up` start it anew."
            )
        raise AlreadyUp(
            f"The stack in {self.folder} is up already, since {status.started_at}.",
            status.endpoints,
        )

    def _ports(self, wanted: Mapping[str, int], workers: int) -> dict[str, int]:
        """Return the ports to listen on: those wanted, else those kept, else free ones."""
        names = [*_PORTS, *(f"worker-{n}" for n in range(workers))]
        if unknown := wanted.keys() - set(names):
            raise LocalStackError(
                f"There is no port called {', '.join(sorted(unknown))}; there are: {', '.join(names)}."
            )
        kept_in = self.folder / "ports.json"
        kept: dict[str, int] = {}
        with suppress(FileNotFoundError, msgspec.DecodeError):
            kept = msgspec.json.decode(kept_in.read_bytes(), type=dict[str, int])
        at = {name: port for name, port in {**kept, **wanted}.items() if port != 0}
        _require_free({name: at[name] for name in names if name in at})
        at |= ports.choose([name for name in names if name not in at], taken=at.values())
        kept_in.write_bytes(msgspec.json.format(msgspec.json.encode(at)) + b"\n")
        return at

    def _servers(self, at: Mapping[str, int], fetching: Fetching) -> list[Server]:
        """Fetch what is missing and return how the three servers are started."""
        found_redis = redis.find()
        with ThreadPoolExecutor(2, thread_name_prefix="fetch") as threads:
            fetched_triton = threads.submit(triton.fetch, self._models, fetching)
            fetched_kafka = threads.submit(kafka.fetch, fetching)
            both: list[Future[Any]] = [fetched_triton, fetched_kafka]
            try:
                for fetched in as_completed(both):
                    fetched.result()
            except BaseException:
                fetching.cancel()
                raise
        env = self._environment()
        return [
            fetched_kafka.result().server(self.folder / "kafka", at, env),
            found_redis.server(self.folder / "redis", at, env),
            fetched_triton.result().server(self.folder / "triton", at, env),
        ]

    def _environment(self) -> dict[str, str]:
        """Return the environment of every process of this stack."""
        bends_python = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if name not in bends_python}
        return {**kept, STACK_MARK: str(self.folder)}

    def _supervise(self) -> tuple[Control, "subprocess.Popen[bytes]"]:
        """Start the supervisor, in a session of its own, and return the line to it."""
        ours, theirs = socket.socketpair()
        with theirs, log_path(self.folder, "supervisor").open("ab") as log:
            supervisor = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "stream.local.supervisor",
                    str(self.folder),
                    str(theirs.fileno()),
                ],
                env=self._environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        return Control(ours), supervisor


def _endpoints(folder: Path, at: Mapping[str, int]) -> Endpoints:
    return Endpoints(
        kafka=f"127.0.0.1:{at['kafka']}",
        redis=f"redis://127.0.0.1:{at['redis']}/0",
        triton_grpc=f"127.0.0.1:{at['triton-grpc']}",
        triton_http=f"http://127.0.0.1:{at['triton-http']}",
        metrics=f"http://127.0.0.1:{at['triton-metrics']}/metrics",
        folder=str(folder),
    )


def _require_free(at: Mapping[str, int]) -> None:
    """Refuse ports that another program holds.

    Raises:
        LocalStackError: names port, holder and cure.
    """
    for name, port in at.items():
        if not ports.is_free(port):
            by = ports.holder(port) or "another program"
            raise LocalStackError(
                f"Port {port}, which this stack keeps for {name}, is taken by {by}. Stop that, "
                f"or give another one: `streamrec local up --port {name}=PORT` (0 for any)."
            )


def _create_topics(env: Mapping[str, str]) -> None:
    """Create the topics that workers with this environment read and write."""
    import asyncio

    from stream.adapters.kafka_topics import create_topics
    from stream.config import load_config

    asyncio.run(create_topics(load_config(env=env)))
