"""`streamrec local`: Kafka, Redis and Triton on this machine, without Docker."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from stream.errors import LocalStackError
from stream.local.fetching import Step
from stream.local.server import Endpoints
from stream.local.stack import AlreadyUp, Stack, Status

app = typer.Typer(
    no_args_is_help=True,
    help="Kafka, Redis and Triton on this machine, without Docker.\n\n"
    "The stack lives in the folder named by STREAMREC_HOME (default: ~/.local/share/streamrec); "
    "another folder is another stack, and both can run side by side.",
)

_said = Console(stderr=True, highlight=False)

Folder = Annotated[
    Path | None,
    typer.Option("--home", envvar="STREAMREC_HOME", help="The folder of the stack.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def up(
    home: Folder = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Workers to start as well.")] = 0,
    models: Annotated[
        Path | None, typer.Option(help="Model repository for Triton.", show_default=False)
    ] = None,
    port: Annotated[
        list[str] | None, typer.Option(help="A port of your choice, as kafka=9092; 0 is any free one.")
    ] = None,
    foreground: Annotated[bool, typer.Option(help="Stay, and stop everything on Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the stack; comes back when it is ready, with workers when lists would be made.

    Example: streamrec local up --workers 1
    """
    stack = Stack(home, models)
    _end_on_signals()
    try:
        with Bars() as bars:
            endpoints = stack.up(
                workers,
                wanted_ports=_ports(port or []),
                owned=foreground,
                progress=bars,
                told=_said.print,
            )
    except AlreadyUp as told:
        _said.print(str(told), style="yellow")
        endpoints = told.endpoints
        foreground = False
    _print_endpoints(endpoints, as_json)
    if foreground:
        _said.print("Ctrl-C stops it.")
        try:
            signal.pause()
        finally:
            stack.down()


@app.command()
def status(home: Folder = None, as_json: AsJson = False) -> None:
    """Show how each server fares, with the last log lines of one that died.

    Exit code 0 when all are well, 3 when the stack is down, 1 when a server died.

    Example: streamrec local status --json
    """
    found = Stack(home).status()
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _print_status(found)
    raise typer.Exit({"up": 0, "down": 3}.get(found.state, 1))


@app.command()
def logs(
    server: Annotated[
        str | None,
        typer.Argument(help="kafka, redis, triton, worker-0, ... or supervisor; all if left out."),
    ] = None,
    home: Folder = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are added.")] = False,
) -> None:
    """Show the log of one server, or of all.

    Example: streamrec local logs triton -n 100 -f
    """
    paths = Stack(home).logs(server)
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, paths)])


@app.command()
def down(
    home: Folder = None,
    now: Annotated[bool, typer.Option(help="Kill instead of asking to end.")] = False,
) -> None:
    """Stop everything of the stack; its data stays for the next `up`.

    Example: streamrec local down
    """
    stack = Stack(home)
    stopped = stack.down(now=now)
    _said.print(f"Stopped the stack in {stack.folder}." if stopped else f"No stack runs in {stack.folder}.")


class Bars:
    """Progress bars on stderr, shown from the first step on."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Parts(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=_said,
        )

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, what: str, total: int | None = None) -> Step:
        """Begin a bar."""
        self._progress.start()
        return _Bar(self._progress, self._progress.add_task(what, total=total, note=""))


class _Parts(ProgressColumn):
    """How many parts are done, where their number is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self) -> None:
        self._progress.advance(self._task)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text[:60].replace("[", r"\["))

    def done(self) -> None:
        self._progress.update(self._task, total=1, completed=1, note="")


def _end_on_signals() -> None:
    """Have SIGTERM and SIGHUP unwind the program, so that what was begun is stopped."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def _ports(given: list[str]) -> dict[str, int]:
    """Read `NAME=PORT` options."""
    ports = {}
    for text in given:
        name, _, number = text.partition("=")
        if not number.isdigit() or not 0 <= int(number) <= 65535:
            raise LocalStackError(f"--port {text}: give a name and a number, as kafka=9092.")
        ports[name] = int(number)
    return ports


def _print_endpoints(endpoints: Endpoints, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(endpoints).decode())
        return
    for name, place in msgspec.to_builtins(endpoints).items():
        typer.echo(f"{name:<12} {place}")


def _print_status(status: Status) -> None:
    typer.echo(f"{status.state}  {status.folder}")
    for server in status.servers:
        facts = [
            f"{server.state} ({server.exit})" if server.exit else server.state,
            f"but {server.lacks}" if server.lacks else "",
            f"pid {server.pid}" if server.pid else "",
            f"{server.memory_bytes / 2**20:.0f} MB" if server.memory_bytes else "",
            f"ready after {server.ready_after_s:.1f} s" if server.ready_after_s is not None else "",
            " ".join(f"{name}={port}" for name, port in server.ports.items()),
        ]
        typer.echo(f"{server.name:<10} {'  '.join(filter(None, facts))}")
    for server in status.servers:
        if server.last_lines:
            typer.echo(f"\nlast lines of {server.log}")
            for line in server.last_lines:
                typer.echo(f"  {line}")
