"""An engine of its own to break: topics, keys, proxies and workers, on the servers of a local stack."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from redis.asyncio import Redis
from redis.exceptions import RedisError

from faults.lives import Former
from faults.proxy import Proxy
from faults.publisher import ShopPublisher
from faults.shoppers import Shoppers, catalogue
from faults.workers import Workers
from stream.adapters.kafka_clients import admin, consumer, producer
from stream.adapters.kafka_topics import create_topics
from stream.adapters.redis_marks import RedisMarkStore
from stream.config import Config, load_config
from stream.core.marks import Mark
from stream.errors import LocalStackError, Unavailable
from stream.local import ports
from stream.local.stack import Stack
from stream.ports import Place

PARTITIONS = 4
SESSION_TIMEOUT_S = 6
"""The least that a broker allows before others have a dead worker's partitions."""
WELL_S = 120.0
POLL_S = 0.2
REDIS_TRIES = 10
BEHIND_PROXY = "# The last word on each counts.\n"
TOPICS = (
    *("clicks", "searches", "items", "recommendations", "attributions", "rules"),
    *("dead_letters", "item_vectors", "item_signals", "list_log", "model_versions"),
)


class BrokenEngine:
    """What faults act on.

    Workers reach Kafka, Redis and Triton through proxies; what publishes, reads and judges does not.

    Args:
        command: what is started in the place of `streamrec worker`.
    """

    def __init__(self, stack: Stack, folder: Path, command: Sequence[str] | None = None) -> None:
        self.stack = stack
        self.folder = folder
        self.former: list[Former] = []
        self._name = uuid.uuid4().hex[:8]
        self._command = command
        redis = urlsplit(stack.endpoints.redis)
        host, _, port = stack.endpoints.triton_grpc.rpartition(":")
        listener = ports.choose(["kafka"])["kafka"]
        self.proxies = {
            "kafka": Proxy(ports.HOST, listener),
            "redis": Proxy(str(redis.hostname), int(redis.port or 6379)),
            "triton": Proxy(host, int(port)),
        }

    async def start(self, workers: int, items: int) -> None:
        """Bring up topics, a catalogue and workers, and wait until all of it is in use."""
        for proxy in self.proxies.values():
            await proxy.open()
        await asyncio.to_thread(self._listen_behind, self.proxies["kafka"])
        env = self._env()
        self.config: Config = load_config(env={**env, **self._straight()})
        self.redis = Redis.from_url(self.stack.endpoints.redis)
        await create_topics(self.config)
        await self.redis_remembers()
        async with producer(self.config.kafka) as to_kafka:
            for item in catalogue(items):
                await to_kafka.send(
                    self.config.topics.items, json.dumps(item).encode(), key=item["item_id"].encode()
                )
        self.workers = Workers(env, self.folder, self._command)
        for _ in range(workers):
            self.workers.start()
        await asyncio.gather(*(worker.ready() for worker in self.workers.running))

    async def stop(self) -> None:
        """Kill the workers and throw the topics away."""
        self.workers.kill_all()
        for proxy in self.proxies.values():
            await proxy.close()
        with suppress(RedisError):
            await self.redis.config_set("appendfsync", "everysec")
        await self.redis.aclose()
        with suppress(Unavailable, KafkaError):
            async with admin(self.config.kafka) as client:
                await client.delete_topics(list(msgspec.structs.asdict(self.config.topics).values()))

    def open_shop(self, shoppers: Shoppers, events_a_second: float) -> ShopPublisher:
        """Make what publishes to this engine, for faults to act on."""
        self.shop = ShopPublisher(self.config, shoppers, events_a_second)
        return self.shop

    async def redis_remembers(self) -> None:
        """Have Redis write before it answers, so that a killed one comes back with all it said it had.

        One that forgets a second is another matter than a crash, and not judged here.
        """
        for _ in range(REDIS_TRIES):  # connections of before a restart are found dead by their first use
            with suppress(RedisError):
                await self.redis.config_set("appendfsync", "always")
                return
        raise Unavailable("Redis is up and does not take its setting `appendfsync`")

    async def start_server(self, name: str) -> None:
        """Start a server of the stack again where it does not run."""
        with suppress(LocalStackError):
            await asyncio.to_thread(self.stack.start, name)
        if name == "redis":
            await self.redis_remembers()

    async def make_well(self, workers: int) -> None:
        """Put right what is still broken, and wait until all servers and at least one worker are ready.

        Raises:
            LocalStackError: a server does not come back.
            TimeoutError: a worker does not.
        """
        status = await asyncio.to_thread(self.stack.status)
        for server in status.servers:
            if server.state == "died":
                await self.start_server(server.name)
        await asyncio.to_thread(self.stack.wait_until_well, WELL_S)
        for worker in self.workers.running:
            if worker.frozen:
                worker.thaw()
        self.workers.replace_dead()
        while len(self.workers.running) < workers:
            self.workers.start()
        await asyncio.gather(*(worker.ready() for worker in self.workers.running))

    async def committed(self) -> dict[tuple[str, int], int]:
        """The offsets that the workers' groups committed.

        Raises:
            Unavailable: Kafka did not answer.
        """
        group = self.config.kafka.group
        found: dict[tuple[str, int], int] = {}
        async with admin(self.config.kafka) as client:
            for name in (group, f"{group}-background"):
                for at, what in (await client.list_consumer_group_offsets(name)).items():
                    found[at.topic, at.partition] = what.offset
        return found

    async def ends(self) -> dict[tuple[str, int], int]:
        """The offset that the next message of each partition that workers read will have."""
        topics = self.config.topics
        read = [topics.clicks, topics.searches, topics.items, topics.item_signals]
        wanted = [TopicPartition(topic, partition) for topic in read for partition in range(PARTITIONS)]
        async with consumer(self.config.kafka) as reader:
            found = await reader.end_offsets(wanted)
        return {(at.topic, at.partition): end for at, end in found.items()}

    async def behind(self) -> dict[tuple[str, int], int]:
        """How many messages of each partition are not committed; those with none are left out."""
        ends = await self.ends()
        committed = await self.committed()
        left = {at: end - committed.get(at, 0) for at, end in ends.items()}
        return {at: count for at, count in left.items() if count > 0}

    async def marks(self) -> dict[Place, Mark]:
        """How far the partitions of `clicks` and `searches` are saved, as Redis has it.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        topics = (self.config.topics.clicks, self.config.topics.searches)
        places = [(topic, partition) for topic in topics for partition in range(PARTITIONS)]
        store = RedisMarkStore(self.redis, self.config.kafka.group, self.config.redis.key_prefix)
        return await store.read(places)

    async def caught_up(self, within_s: float) -> None:
        """Wait until all that lies in the topics now is committed, or the deadline is over."""
        deadline = time.monotonic() + within_s
        wanted: dict[tuple[str, int], int] | None = None
        while time.monotonic() < deadline:
            with suppress(Unavailable, KafkaError):
                wanted = await self.ends() if wanted is None else wanted
                committed = await self.committed()
                if all(committed.get(at, 0) >= end for at, end in wanted.items()):
                    return
            await asyncio.sleep(POLL_S)

    async def drained(self, within_s: float) -> dict[tuple[str, int], int]:
        """Wait until all that was published is committed; what is left at the deadline."""
        deadline = time.monotonic() + within_s
        left: dict[tuple[str, int], int] = {("nothing could be asked", 0): 1}
        # Twice in a row: what the events teach is published before they are committed, and read after it.
        empty_before = False
        while time.monotonic() < deadline:
            with suppress(Unavailable, KafkaError):
                left = await self.behind()
                if not left and empty_before:
                    return {}
                empty_before = not left
            await asyncio.sleep(POLL_S)
        return left

    def _listen_behind(self, proxy: Proxy) -> None:
        """Give the broker one more listener, and have it say that this one is reached at the proxy.

        A broker tells its clients where it is, so that a proxy on the way to its own port is left at once.
        """
        settings = self.stack.folder / "kafka" / "server.properties"
        own = settings.read_text().partition(BEHIND_PROXY)[0]
        known = dict(line.split("=", 1) for line in own.splitlines())
        host, port = proxy.target
        more = {
            "listeners": f"PROXIED://{host}:{port}",
            "advertised.listeners": f"PROXIED://{host}:{proxy.port}",
            "listener.security.protocol.map": "PROXIED:PLAINTEXT",
        }
        added = [f"{name}={known[name]},{value}\n" for name, value in more.items()]
        settings.write_text("".join([own, BEHIND_PROXY, *added]))
        self.stack.stop("kafka")
        self.stack.start("kafka")

    def _straight(self) -> dict[str, str]:
        """Past the proxies."""
        return {
            "STREAMREC_KAFKA__BOOTSTRAP": self.stack.endpoints.kafka,
            "STREAMREC_REDIS__URL": self.stack.endpoints.redis,
        }

    def _env(self) -> dict[str, str]:
        at = {name: f"{ports.HOST}:{proxy.port}" for name, proxy in self.proxies.items()}
        return {
            "STREAMREC_KAFKA__BOOTSTRAP": at["kafka"],
            "STREAMREC_KAFKA__GROUP": f"group-{self._name}",
            "STREAMREC_KAFKA__PARTITIONS": str(PARTITIONS),
            "STREAMREC_KAFKA__SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "STREAMREC_REDIS__URL": f"redis://{at['redis']}/0",
            "STREAMREC_REDIS__KEY_PREFIX": f"{self._name}:",
            "STREAMREC_TRITON__URL": at["triton"],
            **{
                f"STREAMREC_TOPICS__{topic.upper()}": f"{topic.replace('_', '-')}-{self._name}"
                for topic in TOPICS
            },
        }
