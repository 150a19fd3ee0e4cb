"""`streamrec publish`: JSON lines to a topic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from io import FileIO
from typing import Annotated, Any

import msgspec
import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import Config, load_config

LINES_AHEAD = 1_000
CHUNK_BYTES = 65_536
STDIN = "-"


class Kind(StrEnum):
    """What the lines are."""

    CLICKS = "clicks"
    SEARCHES = "searches"
    ITEMS = "items"


class Rejected(msgspec.Struct, frozen=True):
    """A line that was not sent, and why."""

    line: int
    code: str
    message: str


def publish(
    topic: Annotated[Kind, typer.Argument(help="What the lines are.")],
    file: Annotated[str, typer.Argument(help="JSON lines; - reads from stdin.")] = STDIN,
    raw: Annotated[bool, typer.Option("--raw", help="Send invalid lines too, as they are.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Publish JSON lines; the key is taken from user_id or item_id.

    A line that the engine could not use is named with its number and not sent; the exit code is then 1.

    \b
    Examples:
      streamrec publish clicks events.jsonl
      echo '{"item_id": "x1", "title": "Red mug"}' | streamrec publish items
    """
    settings = load_config(config)
    try:
        stream = open(0 if file == STDIN else file, "rb", buffering=0)  # noqa: PTH123, SIM115
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
    sent, rejected = run(_publish(settings, topic, stream, raw=raw))
    if json:
        print_json({"sent": sent, "rejected": rejected})
    else:
        for bad in rejected:
            say(f"line {bad.line}: {bad.code}: {bad.message}")
        say(
            f"sent {sent} to {getattr(settings.topics, topic)}"
            + f", rejected {len(rejected)}" * bool(rejected)
        )
    if rejected:
        raise typer.Exit(1)


async def _publish(config: Config, kind: Kind, stream: FileIO, *, raw: bool) -> tuple[int, list[Rejected]]:
    from stream.adapters.kafka_clients import producer
    from stream.adapters.kafka_sender import Sender

    rejected = []
    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        number = 0
        async for line in _lines(stream):
            number += 1
            if not line:
                continue
            key = _key(kind, line)
            problem = _problem(kind, key, line)
            if problem is not None and not raw:
                rejected.append(Rejected(number, *problem))
                continue
            await sender.send_raw(getattr(config.topics, kind), key, line)
        await sender.flush()
        return sender.acknowledged, rejected


async def _lines(stream: FileIO) -> AsyncIterator[bytes]:
    """The lines of a stream, each as soon as it is there, without blocking the sender."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(LINES_AHEAD)
    loop = asyncio.get_running_loop()

    def put(line: bytes | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

    def read() -> None:
        try:
            rest = b""
            while chunk := stream.read(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    put(line.strip())
            put(rest.strip())
        finally:
            put(None)

    # A daemon on an unbuffered stream: Ctrl-C must not wait for a terminal's next line.
    threading.Thread(target=read, daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


def _key(kind: Kind, line: bytes) -> bytes | None:
    """The id that is the key, None where the line has none."""
    try:
        message: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    found = message.get("item_id" if kind is Kind.ITEMS else "user_id") if isinstance(message, dict) else None
    return found.encode() if isinstance(found, str) else None


def _problem(kind: Kind, key: bytes | None, line: bytes) -> tuple[str, str] | None:
    """Code and message of what the engine would dead-letter, None where it would not."""
    from stream.core.events import Source, decode_click, decode_item, decode_search
    from stream.errors import InvalidMessage

    source = Source(kind, 0, 0, int(time.time() * 1000))
    try:
        if kind is Kind.CLICKS:
            decode_click(source, key, line)
        elif kind is Kind.SEARCHES:
            decode_search(source, key, line)
        else:
            decode_item(key, line)
    except InvalidMessage as error:
        return error.code, error.message
    return None
