"""How a stack's supervisor is spoken to: JSON lines over a Unix socket in the stack's folder.

A request is one line; the answer is any number of `Told` lines and then one `Done` or `Failed`.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from stream.errors import LocalStackError
from stream.local.server import Endpoints, Server

SOCKET = "control.sock"


class Start(msgspec.Struct, frozen=True, tag=True):
    """Start these servers together and wait until all are ready."""

    servers: list[Server]
    endpoints: Endpoints


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Stop one server and keep it in mind for `Again`."""

    name: str


class Again(msgspec.Struct, frozen=True, tag=True):
    """Start one server that has stopped or died, as it was started before."""

    name: str


class Check(msgspec.Struct, frozen=True, tag=True):
    """Ask every running server its question again, and write down what it lacks."""


class Keep(msgspec.Struct, frozen=True, tag=True):
    """Go on when the process that brought the stack up ends."""


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Stop everything and end; `now` kills instead of asking."""

    now: bool = False


Request = Start | Stop | Again | Check | Keep | Shutdown


class Told(msgspec.Struct, frozen=True, tag=True):
    """A server became ready."""

    server: str
    after_s: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """The request was carried out."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request was not carried out; the message is for people."""

    message: str


Answer = Told | Done | Failed


class Control:
    """One conversation with a supervisor."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    @classmethod
    def connect(cls, folder: Path) -> Self:
        """Call the supervisor of the stack in `folder`.

        Raises:
            OSError: nobody answers there.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            with short_path(folder) as short:
                connection.connect(f"{short}/{SOCKET}")
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def ask(
        self,
        request: Request,
        timeout_s: float | None = None,
        told: Callable[[Told], None] = lambda _: None,
    ) -> None:
        """Send a request and wait until it is carried out.

        Raises:
            LocalStackError: it failed, the supervisor ended, or it did not answer in time.
        """
        self._connection.settimeout(timeout_s)
        try:
            self._connection.sendall(msgspec.json.encode(request) + b"\n")
            for line in self._lines:
                answer = msgspec.json.decode(line, type=Answer)
                match answer:
                    case Told():
                        told(answer)
                    case Done():
                        return
                    case Failed(message):
                        raise LocalStackError(message)
        except OSError as error:
            raise LocalStackError(f"the supervisor of the stack does not answer: {error}") from error
        raise LocalStackError("the supervisor of the stack ended; was the stack taken down?")

    def close(self) -> None:
        """Hang up; a supervisor that was not told to `Keep` then stops its servers."""
        self._lines.close()
        self._connection.close()


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Give a short name for a folder: a Unix socket's path may have 107 bytes only."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
