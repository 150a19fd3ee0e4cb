"""`scripts/demo`: watch shoppers' lists change within milliseconds of what they do."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from stream.errors import StreamrecError


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long events are sent.")] = 60.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack up, and say how to talk to it.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Real data instead of the built-in synthetic shop.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Events a second.")] = 25.0,
    seed: Annotated[int, typer.Option("--seed", help="Which shoppers.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, max=8, help="Workers to share them.")] = 1,
) -> None:
    """Start Kafka, Redis and Triton, let shoppers loose, and watch their lists change.

    Ends after --seconds or at Ctrl-C, stops everything it started, and prints a summary.

    \b
    Examples:
      scripts/demo
      scripts/demo --seconds 20 --json figures.json
      scripts/demo --data ../shared/data --rate 100
    """
    # Loaded here, so that Ctrl-C while the libraries load ends without a trace too.
    from stream.demo.run import Options, run_demo

    raise typer.Exit(run_demo(Options(seconds, json_file, keep, data, rate, seed, workers)))


def main() -> None:
    """Run it; a user's mistake is one message on stderr and exit code 1."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(demo)
    try:
        app(prog_name="scripts/demo")
    except StreamrecError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
