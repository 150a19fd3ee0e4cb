"""The life of a process that works until it is told to stop: its log, its signals, its port, its tasks."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack

from stream.telemetry import StatusServer

log = logging.getLogger(__name__)


def set_up_log(level: str, *quiet: str) -> None:
    """Log on stderr from a level on, and what `quiet` libraries say from warnings on."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def stop_on_signals() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def listen(parts: AsyncExitStack, status: StatusServer, host: str, port: int, setting: str) -> bool:
    """Let a status server listen until `parts` close; False where it cannot, which the log explains.

    Args:
        setting: the setting that `port` is.
    """
    try:
        await status.start(host, port)
    except OSError as error:
        said = "cannot listen on %s:%d (%s): set %s to a free port, or to 0 for any"
        log.error(said, host, port, error.strerror, setting)
        return False
    parts.push_async_callback(status.stop)
    return True


def run_until_closed(parts: AsyncExitStack, work: Coroutine[object, object, None]) -> None:
    """Run a task that ends when `parts` close."""
    task = asyncio.ensure_future(work)

    async def cancel() -> None:
        task.cancel()
        await asyncio.wait({task})

    parts.push_async_callback(cancel)
