"""What several commands share: their options, and how they run and print."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings; else $STREAMREC_CONFIG, else ./streamrec.toml.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; what aiokafka says of a broker that is away is said once, by our own error."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(coroutine)


def print_json(value: Any, *, lines: bool = False) -> None:
    """Print a value as JSON: indented, or as one line of JSON lines, which is flushed."""
    text = msgspec.json.encode(value)
    sys.stdout.write((text if lines else msgspec.json.format(text, indent=2)).decode() + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """Print a note for people on stderr, so that stdout stays data."""
    print(message, file=sys.stderr)


def time_ms(text: str | None, option: str) -> int | None:
    """Read the time that an option gives, in epoch milliseconds; None where it was not given."""
    from stream.evaluation.log import parse_time

    if text is None:
        return None
    at_ms = parse_time(text)
    if at_ms is None:
        raise typer.BadParameter(
            f"{text!r} is not a time, such as 2026-01-31 or 2026-01-31T08:30", param_hint=option
        )
    return at_ms
