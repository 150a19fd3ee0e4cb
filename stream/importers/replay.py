"""Send recorded or invented events again at a chosen speed, so that it can be broken off and taken up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from stream.adapters.kafka_sender import Sender
from stream.core.events import ClickMessage, SearchMessage
from stream.errors import WrongFile

CHECKPOINT_EVERY_S = 1.0
SHORTEST_SLEEP_S = 0.002
"""Shorter waits are made up for by the next longer one."""


class Recorded(NamedTuple):
    """An event, its place in its source from 1, and when it happened in epoch ms."""

    row: int
    at_ms: int
    message: ClickMessage | SearchMessage


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replay has come; `source` names what is replayed, so that two are not mixed up."""

    source: str
    row: int

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, source: str) -> int:
        """The row to go on after, 0 where there is no checkpoint.

        Raises:
            WrongFile: it is one of another source, or no checkpoint.
        """
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.DecodeError) as error:
            raise WrongFile(f"{path}: not a checkpoint ({error}); delete it to begin anew") from error
        if found.source != source:
            raise WrongFile(f"{path}: a checkpoint of {found.source}, not of {source}")
        return found.row


class Pace:
    """When the next event is due.

    Args:
        speed: a factor of real time, None for as fast as it goes.
        rate: events a second, instead of a factor.
    """

    def __init__(self, speed: float | None = None, rate: float | None = None) -> None:
        self._speed = speed
        self._rate = rate
        self._began_s = time.monotonic()
        self._first_ms: int | None = None
        self._count = 0

    def wait_s(self, at_ms: int) -> float:
        """How long the event that happened at `at_ms` has to wait, negative where it is late."""
        if self._first_ms is None:
            self._first_ms = at_ms
        if self._rate is not None:
            due_s = self._count / self._rate
        elif self._speed is not None:
            due_s = (at_ms - self._first_ms) / 1000 / self._speed
        else:
            return 0.0
        self._count += 1
        return self._began_s + due_s - time.monotonic()


async def replay(
    events: Iterable[Recorded],
    sender: Sender,
    pace: Pace,
    *,
    limit: int | None,
    stamp_now: bool,
    on_progress: Callable[[Recorded], None],
    checkpoint: Callable[[int], None],
) -> None:
    """Send events until they end or `limit` is reached.

    Args:
        stamp_now: each event happens when it is sent, instead of at its own time.
        on_progress: is told each event that was sent.
        checkpoint: is given the row up to which all is acknowledged: about every second, and at the
            end, which may be an error or Ctrl-C.
    """
    row = 0
    saved_s = time.monotonic()
    last_ms = 0
    try:
        for count, event in enumerate(events, 1):
            if (wait_s := pace.wait_s(event.at_ms)) > SHORTEST_SLEEP_S:
                await asyncio.sleep(wait_s)
            message = event.message
            if stamp_now:
                last_ms = max(int(time.time() * 1000), last_ms + 1)
                message = msgspec.structs.replace(message, event_time=last_ms)
            await sender.send(message)
            row = event.row
            on_progress(event)
            if time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
                await sender.flush()
                checkpoint(row)
                saved_s = time.monotonic()
            if count == limit:
                break
    finally:
        if row:
            await sender.flush()
            checkpoint(row)
