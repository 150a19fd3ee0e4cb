"""The life of a process that works until it is told to stop: its log, its signals, its port, its tasks."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from stream.config import Telemetry
from stream.errors import Unavailable
from stream.privacy.pseudonyms import JsonLogFormatter, LogFormatter, told, use_key
from stream.process.progress import Progress, Work
from stream.process.seldom import Seldom
from stream.telemetry.metrics import StatusServer

log = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 1.0

T = TypeVar("T")


def set_up_log(telemetry: Telemetry, *quiet: str) -> None:
    """Log on stderr as the settings say, and what `quiet` libraries say from warnings on, a few times a
    minute.

    Names in the log are hashed with the key of the settings; without one, with one of this process.
    """
    key = telemetry.hash_key
    use_key(key)
    handler = logging.StreamHandler()
    text = LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLogFormatter() if telemetry.log_format == "json" else text)
    handler.addFilter(Seldom(quiet))
    logging.basicConfig(level=telemetry.log_level.upper(), handlers=[handler])
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
    if not key:
        log.info("ids are hashed with a key of this process: set telemetry.hash_key_file for lasting names")


def log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what no task waited for, as an event loop's exception handler, without the error's text."""
    error = context.get("exception")
    log.error("%s: %s", context.get("message"), told(error) if error is not None else "no exception")


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
    """Run a task that ends when `parts` close; one that fails before says so."""
    task = asyncio.ensure_future(work)

    def say(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception():
            reason = None if task.cancelled() else task.exception()
            log.error("%s ended by itself", getattr(work, "__qualname__", work), exc_info=reason)

    task.add_done_callback(say)

    async def cancel() -> None:
        task.remove_done_callback(say)
        task.cancel()
        await asyncio.wait({task})

    parts.push_async_callback(cancel)


async def watch(progress: Progress, works: Sequence[Callable[[], Work]]) -> None:
    """Look at the work of the process once a second, for ever; `works` may grow."""
    while True:
        try:
            progress.look([work() for work in works])
        except Exception:
            log.exception("looking at the progress failed, going on")
        await asyncio.sleep(LOOK_S)


async def until_there(what: str, attempt: Callable[[], Awaitable[T]], say: Callable[[str], None]) -> T:
    """Try once a second until a part is there, and return what the attempt gives.

    Args:
        what: the part, for people.
        say: told what is waited for and why whenever that changes; it is logged too.
    """
    said = ""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if said != (said := f"waiting for {what}: {error}"):
                say(said)
                log.warning("%s", said)
            await asyncio.sleep(RETRY_S)
