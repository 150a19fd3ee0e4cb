"""The course of the demo: stack up, catalogue in, events in, lists out, summary, stack down."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer
from rich.console import Console

from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_sender import Sender
from stream.cli.local import Bars
from stream.config import Config, load_config
from stream.core.events import ClickMessage, RecommendationList, SearchMessage
from stream.demo.data import DemoData, built_in, composed
from stream.demo.measure import Measurements
from stream.demo.view import REFRESH_PER_S, Figures, LiveView, PlainView, View, summary
from stream.errors import LocalStackError
from stream.importers.replay import Pace
from stream.local.stack import Stack, default_folder

MAX_UNACKNOWLEDGED = 500
LAST_LISTS_WAIT_S = 60.0
ENCODING_WAIT_S = 180.0
POLL_S = 0.1
TRITON_POLL_S = 1.0
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


class Options(NamedTuple):
    """What the command line asks for; `rate` is in events a second."""

    seconds: float
    json_file: Path | None
    keep: bool
    data: Path | None
    rate: float
    seed: int
    workers: int


class Batches(NamedTuple):
    """Inferences and executions of each Triton model, as counted since it started."""

    inferences: dict[str, float]
    executions: dict[str, float]

    def mean_since(self, before: Batches) -> dict[str, float]:
        """The mean batch by model, for those that were asked since."""
        means = {}
        for model, executions in self.executions.items():
            done = executions - before.executions.get(model, 0.0)
            if done > 0:
                asked = self.inferences.get(model, 0.0) - before.inferences.get(model, 0.0)
                means[model] = round(asked / done, 3)
        return means

    def overall_since(self, before: Batches) -> float | None:
        """The mean batch over all models, None where nothing was asked."""
        executions = sum(self.executions.values()) - sum(before.executions.values())
        inferences = sum(self.inferences.values()) - sum(before.inferences.values())
        return round(inferences / executions, 3) if executions > 0 else None


def run_demo(options: Options) -> int:
    """Run it whole and return the exit code; what was started is stopped however it ends.

    Raises:
        LocalStackError: the stack could not be started.
        WrongFile: the data are not there.
    """
    began_s = time.monotonic()
    console = Console()
    own_folder = not options.keep and "STREAMREC_HOME" not in os.environ
    folder = _demo_folder(own_folder)
    stack = Stack(folder)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="data") as thread:
            reading = thread.submit(_data, options)
            with Bars() as bars:
                stack.up(
                    options.workers,
                    owned=not options.keep,
                    progress=bars,
                    told=lambda sentence: console.print(sentence, style="dim", highlight=False),
                )
            data = reading.result()
        demo = _Demo(options, stack, data, console, began_s)
        code = asyncio.run(demo.run())
    except BaseException:
        stack.down(now=True)
        raise
    else:
        if options.keep:
            _say_how_to_talk(stack, console, demo.a_shopper)
        else:
            stack.down()
        return code
    finally:
        if own_folder:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """One run on a stack that is up."""

    def __init__(
        self, options: Options, stack: Stack, data: DemoData, console: Console, began_s: float
    ) -> None:
        self._options = options
        self._stack = stack
        self._data = data
        self._console = console
        self._began_s = began_s
        self._config: Config = load_config(env={**os.environ, **stack.environment})
        titles = {item.item_id: item.title for item in data.items}
        self._view: View = (
            LiveView(console, titles, data.label) if console.is_terminal else PlainView(console, titles)
        )
        self._measured = Measurements()
        self._ended = asyncio.Event()
        self._first_list_s: float | None = None
        self._batches_before = self._batches = Batches({}, {})
        self._started_s = time.monotonic()
        self._stopped_s: float | None = None

    async def run(self) -> int:
        """Load, send, follow, sum up; 1 where not one list was made."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        kafka = self._config.kafka
        topics = self._config.topics
        self._console.print(f"Data: {self._data.label}", style="bold", highlight=False, soft_wrap=True)
        async with (
            producer(kafka, linger_ms=0) as client,
            consumer(kafka, topics.recommendations) as lists,
            consumer(kafka, topics.dead_letters) as letters,
            aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http,
        ):
            # Positions are fixed before anything is sent, so that no list is missed.
            for reader in (lists, letters):
                for partition in reader.assignment():
                    await reader.position(partition)
            sender = Sender(client, topics)
            await self._load(sender, http)
            await self._read_batches(http)
            self._batches_before = self._batches
            self._started_s = time.monotonic()
            self._view.start()
            try:
                async with _background(
                    self._follow_lists(lists), self._follow_letters(letters), self._show(http)
                ):
                    await self._send(sender)
                    self._stopped_s = time.monotonic()
                    await self._wait_for_last_lists()
                await self._read_batches(http)
            finally:
                self._view.stop()
        return self._conclude()

    @property
    def a_shopper(self) -> str:
        """One who has a list."""
        return next(iter(self._measured.last_lists))

    async def _load(self, sender: Sender, http: aiohttp.ClientSession) -> None:
        """Publish the catalogue and wait until the workers have its vectors."""
        for item in self._data.items:
            await sender.send(item)
        await sender.flush()
        ports = [
            server.ports["telemetry"]
            for server in self._stack.status().servers
            if server.name.startswith("worker-")
        ]
        wanted = len(self._data.items)
        deadline_s = time.monotonic() + ENCODING_WAIT_S
        with Bars() as bars:
            bar = bars.step(f"encoding {wanted} products in Triton", wanted)
            shown = 0
            while not self._ended.is_set():
                encoded = min([await _encoded(http, port) for port in ports], default=0)
                for _ in range(encoded - shown):
                    bar.advance()
                shown = max(shown, encoded)
                if encoded >= wanted:
                    break
                if time.monotonic() > deadline_s:
                    self._console.print(
                        f"only {encoded} of {wanted} products are encoded after {ENCODING_WAIT_S:.0f} s; "
                        "going on without the rest",
                        style="yellow",
                    )
                    break
                await asyncio.sleep(POLL_S)

    async def _send(self, sender: Sender) -> None:
        """Send events at the rate until the time is over, they end, or Ctrl-C."""
        pace = Pace(rate=self._options.rate)
        slots = asyncio.Semaphore(MAX_UNACKNOWLEDGED)
        end_s = self._started_s + self._options.seconds
        last_ms = 0
        async with asyncio.TaskGroup() as tasks:
            for event in self._data.events:
                with suppress(TimeoutError):
                    wait_s = min(max(0.0, pace.wait_s(0)), max(0.0, end_s - time.monotonic()))
                    await asyncio.wait_for(self._ended.wait(), wait_s)
                if self._ended.is_set() or time.monotonic() >= end_s:
                    break
                last_ms = max(int(time.time() * 1000), last_ms + 1)
                stamped = msgspec.structs.replace(event, event_time=last_ms)
                await slots.acquire()
                tasks.create_task(self._send_one(sender, stamped, slots))

    async def _send_one(
        self, sender: Sender, event: ClickMessage | SearchMessage, slots: asyncio.Semaphore
    ) -> None:
        try:
            refresh = self._measured.event(event, await sender.send_and_wait(event))
        finally:
            slots.release()
        if refresh is not None:
            self._view.refresh(refresh)

    async def _follow_lists(self, reader: AIOKafkaConsumer) -> None:
        decoder = msgspec.json.Decoder(RecommendationList)
        async for message in reader:
            if message.value is None:
                continue
            if self._first_list_s is None:
                self._first_list_s = time.monotonic() - self._began_s
            refresh = self._measured.list(decoder.decode(message.value), message.timestamp)
            if refresh is not None:
                self._view.refresh(refresh)

    async def _follow_letters(self, reader: AIOKafkaConsumer) -> None:
        async for _ in reader:
            self._measured.dead_letters += 1

    async def _show(self, http: aiohttp.ClientSession) -> None:
        read_s = 0.0
        while True:
            if time.monotonic() - read_s > TRITON_POLL_S:
                read_s = time.monotonic()
                await self._read_batches(http)
            self._view.figures(self._figures())
            await asyncio.sleep(1 / REFRESH_PER_S)

    async def _wait_for_last_lists(self) -> None:
        for _ in range(int(LAST_LISTS_WAIT_S / POLL_S)):
            if not self._measured.unanswered:
                return
            await asyncio.sleep(POLL_S)

    async def _read_batches(self, http: aiohttp.ClientSession) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(self._stack.endpoints.metrics) as answer:
                text = await answer.text()
            self._batches = Batches(
                _by_model(text, "nv_inference_count"), _by_model(text, "nv_inference_exec_count")
            )

    def _figures(self) -> Figures:
        measured = self._measured
        elapsed_s = (self._stopped_s or time.monotonic()) - self._started_s
        return Figures(
            elapsed_s=elapsed_s,
            total_s=self._options.seconds,
            events=measured.events,
            users=measured.users,
            lists=measured.lists,
            lists_per_s=measured.lists / elapsed_s if elapsed_s > 0 else 0.0,
            freshness_ms=measured.freshness_ms(),
            mean_batch=self._batches.overall_since(self._batches_before),
            degraded=dict(measured.degraded),
            dead_letters=measured.dead_letters,
        )

    def _conclude(self) -> int:
        figures = self._figures()
        first_s = self._first_list_s
        self._console.rule("summary")
        self._console.print(f"Data: {self._data.label}", style="bold", highlight=False, soft_wrap=True)
        self._console.print(summary(figures), highlight=False, soft_wrap=True)
        if first_s is not None:
            self._console.print(f"the first list came {first_s:.1f} s after the start", highlight=False)
        if self._measured.unanswered:
            self._console.print(
                f"{self._measured.unanswered} events had no list {LAST_LISTS_WAIT_S:.0f} s after the last",
                style="yellow",
            )
        if self._options.json_file is not None:
            self._options.json_file.write_bytes(
                msgspec.json.format(msgspec.json.encode(self._report(figures)), indent=2) + b"\n"
            )
        if not figures.lists:
            raise LocalStackError(
                f"not one list was made in {figures.elapsed_s:.0f} s; `streamrec local logs worker-0` tells "
                "more after a run with --keep"
            )
        return 0

    def _report(self, figures: Figures) -> dict[str, Any]:
        return {
            "events": figures.events,
            "users": figures.users,
            "lists": figures.lists,
            "dead_letters": figures.dead_letters,
            "freshness_ms": figures.freshness_ms,
            "triton": {
                "mean_batch": figures.mean_batch,
                "by_model": self._batches.mean_since(self._batches_before),
            },
            "degraded": figures.degraded,
            "data": self._data.label,
            "seconds": round(figures.elapsed_s, 3),
            "lists_per_s": round(figures.lists_per_s, 1),
            "unanswered": self._measured.unanswered,
            "first_list_after_s": None if self._first_list_s is None else round(self._first_list_s, 1),
        }


def _data(options: Options) -> DemoData:
    return built_in(options.seed) if options.data is None else composed(options.data, options.seed)


def _demo_folder(own: bool) -> Path:
    """A folder of its own, gone afterwards; else the stack's usual one."""
    return Path(tempfile.mkdtemp(prefix="streamrec-demo-")) if own else default_folder()


async def _encoded(http: aiohttp.ClientSession, port: int) -> int:
    """How many products a worker has with their vectors; 0 while it does not say."""
    try:
        async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0
    values = dict(
        line.split(" ")[:2] for line in text.splitlines() if line.startswith("streamrec_catalogue_items")
    )
    return int(
        float(values.get("streamrec_catalogue_items", 0))
        - float(values.get("streamrec_catalogue_items_without_vector", 0))
    )


def _by_model(text: str, metric: str) -> dict[str, float]:
    """A Triton counter by model, summed over its versions and devices."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(f"{metric}{{"):
            labels, _, value = line.rpartition(" ")
            model = labels.partition('model="')[2].partition('"')[0]
            found[model] = found.get(model, 0.0) + float(value)
    return found


@asynccontextmanager
async def _background(*coroutines: Any) -> AsyncIterator[None]:
    """Run coroutines while the block runs; one that fails ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


def _say_how_to_talk(stack: Stack, console: Console, shopper: str) -> None:
    lines = [f"export STREAMREC_HOME={stack.folder}"]
    lines += [f"export {name}={value}" for name, value in stack.environment.items()]
    lines += ["streamrec watch", f"streamrec user show {shopper}", "streamrec local down"]
    console.print("The stack stays up. To talk to it (with .venv/bin on the PATH):", style="bold")
    for line in lines:
        console.out(f"  {line}", highlight=False)
