"""What a server is: a command, its ports, and the question that shows it is ready."""

from pathlib import Path

import msgspec

from stream.local.ready import Ready

_TAIL_BYTES = 32 * 1024
_UNTELLING = ("\tat ", "\t... ", "+-", "|")


class Once(msgspec.Struct, frozen=True):
    """A command to run to its end before the server, unless `unless_exists` is there."""

    argv: list[str]
    unless_exists: str

    @property
    def done(self) -> bool:
        """Tell whether it was run before."""
        return Path(self.unless_exists).exists()


class Server(msgspec.Struct, frozen=True):
    """One server of a stack, as the supervisor gets it.

    Args:
        name: short and unique in the stack: `kafka`, `worker-0`.
        env: its whole environment.
        ports: what it listens on, by purpose.
        scratch: a glob pattern of files that outlive a killed server and mean nothing then.
        again_after: the exit codes by which it asks to be started again.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    ports: dict[str, int]
    ready: Ready
    before: Once | None = None
    scratch: str | None = None
    again_after: list[int] = []
    start_timeout_s: float = 300.0
    stop_timeout_s: float = 10.0


class Endpoints(msgspec.Struct, frozen=True):
    """Where a stack is reached."""

    kafka: str
    redis: str
    triton_grpc: str
    triton_http: str
    metrics: str
    folder: str


class ServerState(msgspec.Struct):
    """How a server fares: `starting`, `ready`, `stopped` on request, or `died`.

    A server that is ready, but did not answer rightly when last asked, `lacks` something.
    """

    name: str
    state: str
    ports: dict[str, int]
    pid: int | None = None
    ready_after_s: float | None = None
    exit: str | None = None
    lacks: str | None = None


class StackState(msgspec.Struct):
    """What the supervisor writes into `state.json` at each change."""

    supervisor_pid: int
    started_at: str
    endpoints: Endpoints
    servers: dict[str, ServerState] = {}
    ending: bool = False


def log_path(folder: Path, name: str) -> Path:
    """Return where the output of a server goes."""
    return folder / "logs" / f"{name}.log"


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last telling lines of a log: no frames of a Java trace, no drawn tables."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip() and not line.startswith(_UNTELLING)][-count:]
