"""The supervisor of a local stack starts again what asks for it, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stream.local import ports
from stream.local.control import Control, Start
from stream.local.ready import WorkerReady
from stream.local.server import Endpoints, Server, StackState
from stream.local.workers import worker
from stream.process.endings import START_AGAIN, Ending

DEADLINE_S = 60.0
SERVER = """\
import http.server, os, pathlib, sys

port, endings = int(sys.argv[1]), pathlib.Path(sys.argv[2])

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/end":
            code, *left = endings.read_text().split()
            endings.write_text(" ".join(left))
            os._exit(int(code))

with http.server.HTTPServer(("127.0.0.1", port), Ready) as server:
    server.serve_forever()
"""
"""Is ready at once, and ends with the next code of a file when asked to."""


class Supervised:
    """A supervisor with one server."""

    def __init__(self, folder: Path, endings: str) -> None:
        self.folder = folder
        (folder / "logs").mkdir()
        (folder / "endings").write_text(endings)
        self._port = ports.choose(["worker-0"])["worker-0"]
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stream.local.supervisor", str(folder), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        server = Server(
            name="worker-0",
            argv=[sys.executable, "-c", SERVER, str(self._port), str(folder / "endings")],
            env=dict(os.environ),
            cwd=str(folder),
            ports={"telemetry": self._port},
            ready=WorkerReady(port=self._port),
            again_after=[*START_AGAIN],
        )
        nowhere = Endpoints("", "", "", "", "", str(folder))
        self.control = Control(ours)
        self.control.ask(Start([server], nowhere), timeout_s=DEADLINE_S)

    def end_the_server(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(b"GET /end HTTP/1.0\r\n\r\n")
            while connection.recv(1024):
                pass

    def wait_for(self, condition: Callable[[StackState], bool]) -> StackState:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            state = msgspec.json.decode((self.folder / "state.json").read_bytes(), type=StackState)
            if condition(state):
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.02)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    it = Supervised(tmp_path, f"{Ending.FORGOTTEN} {Ending.CUT_SHORT}")
    yield it
    it.control.close()
    it.process.wait(DEADLINE_S)


def test_a_worker_that_asks_to_be_started_again_is_and_one_that_fails_is_not(supervised: Supervised) -> None:
    first = supervised.wait_for(lambda state: state.servers["worker-0"].state == "ready")
    supervised.end_the_server()
    again = supervised.wait_for(
        lambda state: (
            state.servers["worker-0"].state == "ready"
            and state.servers["worker-0"].pid != first.servers["worker-0"].pid
        )
    )
    supervised.end_the_server()
    died = supervised.wait_for(lambda state: state.servers["worker-0"].state == "died")
    assert died.servers["worker-0"].pid == again.servers["worker-0"].pid
    assert died.servers["worker-0"].exit == "exit code 1"


def test_a_local_worker_is_started_again_after_what_asks_for_it() -> None:
    assert worker(0, 1, {}).again_after == [Ending.GAVE_UP, Ending.FORGOTTEN]
