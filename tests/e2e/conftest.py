"""An engine of its own for every end-to-end test: topics, group and keys apart, on the shared servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from stream.adapters import redis_client
from stream.adapters.kafka_clients import admin
from stream.adapters.kafka_topics import create_topics
from stream.adapters.redis_state import RedisStateStore
from stream.config import Config, load_config
from stream.core.state import UserState
from stream.errors import Unavailable

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240.0
"""Says that something hangs, not that it is slow: many times what a machine needs that runs everything."""


async def eventually(condition: Callable[[], Any], within_s: float = DEADLINE_S, what: str = "") -> Any:
    """Wait until `condition()` (or what it awaits) is true and return it; fail after a deadline."""
    end = time.monotonic() + within_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what or condition}")
        await asyncio.sleep(0.02)


class WorkerProcess:
    """One worker, started as an operator starts it, or by a script that breaks it on purpose."""

    def __init__(self, env: dict[str, str], log: Path, script: list[str] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        command = script or [str(Path(sys.executable).with_name("streamrec")), "worker"]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **env, "STREAMREC_TELEMETRY__PORT": str(self.port)},
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )

    def status(self, path: str = "/ready") -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def ready(self) -> WorkerProcess:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return self.status()[0] == 200

        await eventually(is_ready, what=f"worker ready: {self.log}")
        return self

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry all of `labels`."""
        total = 0.0
        for line in self.status("/metrics")[1].splitlines():
            if line.startswith((name + "{", name + " ")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rpartition(" ")[2])
        return total

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)


class Engine:
    """Topics, workers and clients of one test."""

    def __init__(self, stack: Any, folder: Path, env: dict[str, str]) -> None:
        self.stack = stack
        self.folder = folder
        self.name = uuid.uuid4().hex[:8]
        self.env = {
            "STREAMREC_KAFKA__BOOTSTRAP": stack.endpoints.kafka,
            "STREAMREC_KAFKA__GROUP": f"group-{self.name}",
            "STREAMREC_KAFKA__PARTITIONS": "4",
            "STREAMREC_KAFKA__SESSION_TIMEOUT_S": "30",
            "STREAMREC_REDIS__URL": stack.endpoints.redis,
            "STREAMREC_REDIS__KEY_PREFIX": f"{self.name}:",
            "STREAMREC_TRITON__URL": stack.endpoints.triton_grpc,
            # A machine that runs all servers and the tests at once answers late now and then.
            "STREAMREC_TRITON__RERANK_DEADLINE_MS": "20000",
            "STREAMREC_TRITON__ENCODE_DEADLINE_MS": "20000",
            "STREAMREC_TRITON__CROSS_ENCODE_DEADLINE_MS": "20000",
            "STREAMREC_TRITON__CROSS_ENCODER_BEST": "10",
            **{
                f"STREAMREC_TOPICS__{topic.upper()}": f"{topic.replace('_', '-')}-{self.name}"
                for topic in (
                    *("clicks", "searches", "items", "recommendations", "attributions", "rules"),
                    *("dead_letters", "item_vectors", "item_signals", "list_log", "model_versions"),
                )
            },
            **env,
        }
        self.config: Config = load_config(env=self.env)
        self.workers: list[WorkerProcess] = []
        self._event_times_ms = itertools.count(time.time_ns() // 1_000_000 - 60_000)
        self._followers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await create_topics(self.config)
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.config.kafka.bootstrap, acks="all", max_request_size=3_000_000
        )
        await self.producer.start()
        self.redis = redis_client.connect(self.config.redis)
        self.states = RedisStateStore(self.redis, self.config.redis.key_prefix)
        self.lists = await self.follow(self.config.topics.recommendations)
        self.dead_letters = await self.follow(self.config.topics.dead_letters)

    async def stop(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
            print(f"--- {worker.log.name}\n{worker.log.read_text()[-4000:]}")  # shown where a test fails
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self.producer.stop()
        await self.redis.aclose()
        # So that a broker which a later test kills has few logs to recover.
        with suppress(Unavailable):
            async with admin(self.config.kafka) as client:
                await client.delete_topics(list(msgspec.structs.asdict(self.config.topics).values()))

    def worker(self, *script: str, **env: str) -> WorkerProcess:
        """Start a worker; `script` takes the place of `streamrec worker`."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        started = WorkerProcess({**self.env, **env}, log, list(script) or None)
        self.workers.append(started)
        return started

    async def follow(self, topic: str) -> list[ConsumerRecord]:
        """Read a topic from its beginning into a list that grows."""
        records: list[ConsumerRecord] = []
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.config.kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()

        async def read() -> None:
            try:
                async for record in consumer:
                    records.append(record)
            finally:
                await consumer.stop()

        self._followers.append(asyncio.ensure_future(read()))
        return records

    async def send(self, topic: str, key: str | bytes | None, value: Any) -> Any:
        """Publish one message and return where the broker put it."""
        data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        return await self.producer.send_and_wait(
            topic, data, key=key.encode() if isinstance(key, str) else key
        )

    async def click(self, user: str, item: str, kind: str = "view_item", **more: Any) -> dict[str, Any]:
        event = {
            "event_id": uuid.uuid4().hex,
            "event_type": kind,
            "event_time": next(self._event_times_ms),
            "user_id": user,
            "item_id": item,
            **more,
        }
        await self.send(self.config.topics.clicks, user, event)
        return event

    async def search(self, user: str, query: str, **more: Any) -> dict[str, Any]:
        event = {
            "event_id": uuid.uuid4().hex,
            "event_time": next(self._event_times_ms),
            "user_id": user,
            "search_query": query,
            **more,
        }
        await self.send(self.config.topics.searches, user, event)
        return event

    async def load(self, *items: dict[str, Any]) -> None:
        """Publish items to the catalogue."""
        for item in items:
            await self.send(self.config.topics.items, item["item_id"], item)

    async def load_shop(self, size: int = 60) -> list[str]:
        """Load a small shop, wait until a running worker follows all of it, and return the ids."""
        kinds = ["mug", "lantern", "cushion", "kettle", "clock", "frame"]
        colours = ["red", "blue", "green", "white", "pink", "black", "grey", "yellow", "teal", "ivory"]
        items = [
            {
                "item_id": f"item-{number:03d}",
                "title": f"{colours[number // 6 % 10]} {kinds[number % 6]} no {number}",
                "category": ["home", kinds[number % 6]],
                "price": 5.0 + number,
            }
            for number in range(size)
        ]
        await self.load(*items)
        await eventually(
            lambda: self.workers[-1].metric("streamrec_catalogue_items") >= size,
            what="the catalogue is followed",
        )
        return [item["item_id"] for item in items]

    def lists_of(self, user: str) -> list[dict[str, Any]]:
        """The lists published for a user so far, in the order of the topic."""
        return [
            json.loads(record.value)
            for record in self.lists
            if record.key == user.encode() and record.value is not None
        ]

    async def list_for(self, event: dict[str, Any], within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The first list whose trigger is the event."""

        def found() -> dict[str, Any] | None:
            for made in self.lists_of(event["user_id"]):
                if made["trigger"]["event_id"] == event["event_id"]:
                    return made
            return None

        return await eventually(found, within_s, f"a list for {event}")

    async def state(self, user: str) -> UserState:
        return (await self.states.load([user]))[user]


@pytest.fixture
def run(stack: Any, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Run an async test body with an engine of its own, whose settings may be given as variables."""

    def go(body: Callable[[Engine], Awaitable[None]], **env: str) -> None:
        async def with_engine() -> None:
            engine = Engine(stack, tmp_path, env)
            await engine.start()
            try:
                await body(engine)
            finally:
                await engine.stop()

        asyncio.run(with_engine())

    return go


@pytest.fixture
def quick_death() -> dict[str, str]:
    """For a worker that a test kills: the least that a broker allows before others have its partitions."""
    return {"STREAMREC_KAFKA__SESSION_TIMEOUT_S": "6"}


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[Any]]:
    """`eventually`, for test modules."""
    return eventually
