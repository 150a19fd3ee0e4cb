"""The faults: each says which part it breaks, for how long, and how it is put right again."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from faults import wrong_model
from faults.engine import SESSION_TIMEOUT_S, BrokenEngine
from faults.evidence import lying
from faults.lives import Former
from faults.proxy import Proxy
from faults.schedule import Terms
from faults.workers import WorkerProcess
from stream.adapters.kafka_clients import admin
from stream.adapters.kafka_topics import create_topics
from stream.errors import LocalStackError, Unavailable
from stream.local import redis as local_redis
from stream.local.processes import die_with_parent, marked
from stream.ports import Place

MODELS = ("encoder", "reranker")
"""Those that lists ask for by default."""
SKEWED = Path(__file__).with_name("skewed_worker.py")
SKEW_S = 2 * 86_400
LOADED, LOADED_TIMES = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", 1_000_000
LOAD_US = 100
"""What each command takes; a Redis that loads looks at what clients want after a thousand of them."""
TORN_BYTES = 300
"""Less than most batches of messages take."""
NEW_TOPICS_S = 120.0
"""Says that workers will not work on the former topics, or not notice the new ones."""
WITHOUT_TOPICS_S = 4.0
POLL_S = 0.2
NOTICE_S = 30.0
"""Within which every worker has noticed that Redis forgot, or is not waited for."""


class Fault:
    """One thing that breaks and is put right.

    Args:
        pick: chooses the victim among several, 0 up to 1.
    """

    lane: ClassVar[str]
    hold_s: ClassVar[tuple[float, float]] = (0.5, 5.0)

    def __init__(self, engine: BrokenEngine, pick: float) -> None:
        self.engine = engine
        self.pick = pick
        self.victim = self.lane

    async def begin(self) -> None:
        """Break it."""
        raise NotImplementedError

    async def end(self) -> None:
        """Put it right."""
        raise NotImplementedError

    async def noticed(self) -> None:
        """Wait until the engine knows, where that takes a while and nothing shows before."""


class KillWorker(Fault):
    """kill -9 of a worker; another is started later."""

    lane = "worker"

    async def begin(self) -> None:
        worker = self.engine.workers.chosen(self.pick)
        self.victim = worker.name
        self.engine.workers.forget(worker)
        worker.kill()

    async def end(self) -> None:
        await self.engine.workers.start().ready()


class FreezeWorker(Fault):
    """SIGSTOP and SIGCONT of a worker, before its partitions move."""

    lane = "worker"
    hold_s = (0.2, 3.0)

    async def begin(self) -> None:
        self.worker = self.engine.workers.chosen(self.pick)
        self.victim = self.worker.name
        self.worker.freeze()

    async def end(self) -> None:
        if self.worker.alive:
            self.worker.thaw()


class ZombieWorker(FreezeWorker):
    """SIGSTOP of a worker for so long that its partitions move, then SIGCONT."""

    hold_s = (SESSION_TIMEOUT_S + 2.0, SESSION_TIMEOUT_S + 6.0)


class AddWorker(Fault):
    """One more worker under load, which leaves in good order later."""

    lane = "worker"
    hold_s = (3.0, 8.0)

    async def begin(self) -> None:
        self.worker = self.engine.workers.start()
        self.victim = self.worker.name

    async def end(self) -> None:
        if self.worker.alive:
            self.engine.workers.forget(self.worker)
            await self.worker.end()


class RemoveWorker(Fault):
    """A worker leaves in good order under load; another comes later."""

    lane = "worker"

    async def begin(self) -> None:
        worker = self.engine.workers.chosen(self.pick)
        self.victim = worker.name
        self.engine.workers.forget(worker)
        await worker.end()

    async def end(self) -> None:
        await self.engine.workers.start().ready()


class SkewedWorker(AddWorker):
    """One more worker, whose clock is up to two days fast or slow; it leaves in good order later."""

    async def begin(self) -> None:
        ahead_s = int((2 * self.pick - 1) * SKEW_S)
        self.worker = self.engine.workers.start([sys.executable, "-P", str(SKEWED), str(ahead_s)])
        self.victim = f"{self.worker.name}, {ahead_s:+d} s"
        await self.worker.ready()


class SkewedShop(Fault):
    """The shop's clock, which stamps events, is up to two days fast or slow."""

    lane = "shop"
    hold_s = (1.0, 8.0)

    async def begin(self) -> None:
        ahead_s = int((2 * self.pick - 1) * SKEW_S)
        self.victim = f"{ahead_s:+d} s"
        self.engine.shop.ahead_ms = 1_000 * ahead_s

    async def end(self) -> None:
        self.engine.shop.ahead_ms = 0


class _KillServer(Fault):
    hold_s = (0.2, 4.0)

    async def begin(self) -> None:
        with suppress(LocalStackError):  # it died by itself before
            await asyncio.to_thread(self.engine.stack.kill, self.lane)

    async def end(self) -> None:
        await self.engine.start_server(self.lane)


class _FreezeServer(Fault):
    async def begin(self) -> None:
        with suppress(LocalStackError):
            self.engine.stack.pause(self.lane)

    async def end(self) -> None:
        with suppress(LocalStackError, ProcessLookupError):
            self.engine.stack.resume(self.lane)
        # Triton 2.51 may die when it goes on after clients gave up (a known fault of its gRPC front end).
        status = await asyncio.to_thread(self.engine.stack.status)
        if any(one.name == self.lane and one.state == "died" for one in status.servers):
            await self.engine.start_server(self.lane)


class KillKafka(_KillServer):
    """kill -9 of the broker, and a restart."""

    lane = "kafka"


class FreezeKafka(_FreezeServer):
    """The broker answers nothing for a while: late, and its connections half-open."""

    lane = "kafka"
    hold_s = (0.5, 9.0)


class FullDiskOfKafka(_KillServer):
    """No file of the broker may grow any more, and the write that met the limit is torn; it ends of that."""

    lane = "kafka"
    hold_s = (2.0, 6.0)

    async def begin(self) -> None:
        data = self.engine.stack.folder / "kafka" / "data"
        written = max(log.stat().st_size for log in data.glob(f"{self.engine.config.topics.clicks}-*/*.log"))
        with suppress(LocalStackError, ProcessLookupError):
            pid = self.engine.stack.pid(self.lane)
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (written + int(TORN_BYTES * self.pick), most))

    async def end(self) -> None:
        """Make room. The broker ended by itself or, where nothing came to be written, is made to end."""
        with suppress(LocalStackError):
            await asyncio.to_thread(self.engine.stack.kill, self.lane)
        await super().end()


class RecreatedTopics(Fault):
    """`clicks` and `searches` are deleted and made again, all in them worked on; offsets begin anew.

    The shop publishes nothing from before the deletion until the workers know: what nobody had worked on
    would be lost to whoever deletes, and offsets that grew past the former ones would look like those.
    """

    lane = "kafka"
    hold_s = (0.2, 1.0)

    async def begin(self) -> None:
        await self.engine.shop.close()
        self.undrained = await self.engine.drained(NEW_TOPICS_S)

    async def end(self) -> None:
        try:
            if self.undrained:
                raise TimeoutError(f"topics were not made anew: {self.undrained} not worked on")
            await self._make_anew()
        finally:
            self.engine.shop.reopen()

    async def _make_anew(self) -> None:
        topics = {self.engine.config.topics.clicks, self.engine.config.topics.searches}
        events, deleted_ms = await lying(self.engine), time.time_ns() // 1_000_000
        async with admin(self.engine.config.kafka) as client, asyncio.timeout(NEW_TOPICS_S):
            await client.delete_topics(sorted(topics))
            while topics & set(await client.list_topics()):  # noqa: ASYNC110, a broker sets no event
                await asyncio.sleep(POLL_S)
        await asyncio.sleep(WITHOUT_TOPICS_S * self.pick)
        await create_topics(self.engine.config)
        lives = await self._lives()
        acknowledged, noticed_ms = len(self.engine.shop.acknowledged), time.time_ns() // 1_000_000
        self.engine.former.append(Former(events, acknowledged, deleted_ms, noticed_ms, lives))

    async def _lives(self) -> dict[Place, int]:
        """Wait until workers go on from the beginning, and say what they call the new partitions."""
        async with asyncio.timeout(NEW_TOPICS_S):
            while True:
                with suppress(Unavailable, KafkaError):
                    marks, offsets = await self.engine.marks(), await self.engine.committed()
                    if not any(mark.offset or offsets.get(place, 0) > 0 for place, mark in marks.items()):
                        return {place: mark.life for place, mark in marks.items()}
                await asyncio.sleep(POLL_S)


class KillRedis(_KillServer):
    """kill -9 of Redis, and a restart; it had written all that it said it had."""

    lane = "redis"


class LoadingRedis(_KillServer):
    """Redis is killed, and one takes its place that refuses everything, since it loads for long."""

    lane = "redis"
    hold_s = (1.0, 8.0)

    async def begin(self) -> None:
        await super().begin()
        self.folder = self.engine.stack.folder / f"redis-{uuid.uuid4().hex}"
        self.loading = self._start_loading()

    async def end(self) -> None:
        self.loading.kill()
        await asyncio.to_thread(self.loading.wait)
        await asyncio.to_thread(shutil.rmtree, self.folder)
        await super().end()

    def _start_loading(self) -> subprocess.Popen[bytes]:
        """Start one in its place that has nothing, and a log to read which takes it minutes."""
        at = {"redis": self.engine.proxies["redis"].target[1]}
        server = local_redis.find().server(self.folder, at, os.environ)
        (self.folder / "appendonly.aof").write_bytes(LOADED * LOADED_TIMES)
        return subprocess.Popen(
            [*server.argv, "--key-load-delay", str(LOAD_US)],
            cwd=server.cwd,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )


class FreezeRedis(_FreezeServer):
    """Redis answers nothing for a while."""

    lane = "redis"


class _ForgetfulRedis(Fault):
    lane = "redis"
    hold_s = (0.5, 8.0)

    async def begin(self) -> None:
        self.had = self.engine.stack.folder / f"redis-{uuid.uuid4().hex}"
        self.ran: list[WorkerProcess] = []

    async def end(self) -> None:
        data = self.engine.stack.folder / "redis"
        with suppress(LocalStackError):
            await asyncio.to_thread(self.engine.stack.kill, self.lane)
        self.ran = list(self.engine.workers.running)
        await asyncio.to_thread(shutil.rmtree, data)
        if self.had.exists():
            await asyncio.to_thread(self.had.rename, data)
        else:
            data.mkdir()
        await self.engine.start_server(self.lane)

    async def noticed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICE_S):
                await asyncio.gather(*(worker.over() for worker in self.ran))
        await asyncio.gather(*(worker.ready() for worker in self.engine.workers.running))


class OlderRedis(_ForgetfulRedis):
    """Redis is killed and comes back with what it had some seconds before."""

    async def begin(self) -> None:
        await super().begin()
        with suppress(LocalStackError):
            self.engine.stack.pause(self.lane)  # so that what is copied is of one moment
        try:
            await asyncio.to_thread(shutil.copytree, self.engine.stack.folder / "redis", self.had)
        finally:
            with suppress(LocalStackError, ProcessLookupError):
                self.engine.stack.resume(self.lane)


class EmptyRedis(_ForgetfulRedis):
    """Redis is killed and comes back with nothing."""


class KillTriton(_KillServer):
    """kill -9 of Triton, and a restart."""

    lane = "triton"


class FreezeTriton(_FreezeServer):
    """Triton answers nothing for a while."""

    lane = "triton"


class KillModel(Fault):
    """kill -9 of the process that runs one model."""

    lane = "triton"

    async def begin(self) -> None:
        self.victim = MODELS[int(self.pick * len(MODELS))]
        await asyncio.to_thread(self._kill)

    async def end(self) -> None:
        """Workers have it loaded again by themselves."""

    def _kill(self) -> None:
        for pid in marked(self.engine.stack.folder):
            with suppress(OSError):
                if re.search(rf"/{self.victim}/\d+/model\.py", Path(f"/proc/{pid}/cmdline").read_text()):
                    os.kill(pid, signal.SIGKILL)


class UnloadModel(Fault):
    """Every request for one model is answered with an error."""

    lane = "triton"

    async def begin(self) -> None:
        self.victim = MODELS[int(self.pick * len(MODELS))]
        await asyncio.to_thread(self._ask, "unload")

    async def end(self) -> None:
        await asyncio.to_thread(self._ask, "load")

    def _ask(self, what: str) -> None:
        url = f"{self.engine.stack.endpoints.triton_http}/v2/repository/models/{self.victim}/{what}"
        request = urllib.request.Request(url, data=b"{}", method="POST")
        with suppress(OSError), urllib.request.urlopen(request, timeout=60):
            pass


class _WrongModel(Fault):
    lane = "triton"
    answer: ClassVar[str]

    async def begin(self) -> None:
        self.victim = wrong_model.MODEL
        with suppress(OSError):
            await asyncio.to_thread(wrong_model.load_wrong, self._address, self.answer)

    async def end(self) -> None:
        with suppress(OSError):
            await asyncio.to_thread(wrong_model.load_right, self._address)

    @property
    def _address(self) -> str:
        return self.engine.stack.endpoints.triton_http


class NanFromTriton(_WrongModel):
    """The reranker's scores are no numbers."""

    answer = "nan"


class ShapesFromTriton(_WrongModel):
    """The reranker gives more scores than it was asked for."""

    answer = "shape"


class _RedisSetting(Fault):
    lane = "redis"

    async def _set(self, *command: str) -> None:
        with suppress(RedisError):
            await self.engine.redis.execute_command(*command)  # type: ignore[no-untyped-call]


class FullRedis(_RedisSetting):
    """Redis refuses writes for want of memory, and throws nothing away."""

    async def begin(self) -> None:
        await self._set("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await self._set("CONFIG", "SET", "maxmemory", "1")

    async def end(self) -> None:
        await self._set("CONFIG", "SET", "maxmemory", "1gb")
        await self._set("CONFIG", "SET", "maxmemory-policy", "volatile-lru")


class ReadOnlyRedis(_RedisSetting):
    """Redis is the replica of a master that is not there: it answers reads and refuses writes."""

    async def begin(self) -> None:
        await self._set("REPLICAOF", "127.0.0.1", "1")

    async def end(self) -> None:
        await self._set("REPLICAOF", "NO", "ONE")


class _Connections(Fault):
    @property
    def proxy(self) -> Proxy:
        return self.engine.proxies[self.lane]


class _Late(_Connections):
    async def begin(self) -> None:
        self.proxy.delay_s = 0.02 + 1.5 * self.pick

    async def end(self) -> None:
        self.proxy.delay_s = 0.0


class _CutOff(_Connections):
    async def begin(self) -> None:
        await self.proxy.close()

    async def end(self) -> None:
        await self.proxy.open()


class _CutReplies(_Connections):
    async def begin(self) -> None:
        self.proxy.cuts_left = 1 + int(6 * self.pick)

    async def end(self) -> None:
        self.proxy.cuts_left = 0


class _HalfOpen(_Connections):
    async def begin(self) -> None:
        self.proxy.mute = True

    async def end(self) -> None:
        self.proxy.cut()
        self.proxy.mute = False


class LateKafka(_Late):
    """Every answer of Kafka comes later."""

    lane = "kafka"


class CutOffKafka(_CutOff):
    """Workers' connections to Kafka are reset and no new ones taken; the broker goes on."""

    lane = "kafka"
    hold_s = (0.5, 9.0)


class CutRepliesOfKafka(_CutReplies):
    """A few answers of Kafka end after some bytes: messages and commits are taken, and nobody knows."""

    lane = "kafka"


class HalfOpenKafka(_HalfOpen):
    """Workers' connections to Kafka stay open and carry nothing, then are reset; the broker goes on."""

    lane = "kafka"
    hold_s = (0.5, 9.0)


class LateRedis(_Late):
    """Every answer of Redis comes later, some beyond the worker's patience."""

    lane = "redis"


class CutOffRedis(_CutOff):
    """Connections to Redis are reset and no new ones taken."""

    lane = "redis"


class CutRepliesOfRedis(_CutReplies):
    """A few answers of Redis end after some bytes: what was asked for was done, and nobody knows."""

    lane = "redis"


class HalfOpenRedis(_HalfOpen):
    """Connections to Redis stay open and carry nothing, then are reset."""

    lane = "redis"


class LateTriton(_Late):
    """Every answer of Triton comes later."""

    lane = "triton"


class CutOffTriton(_CutOff):
    """Connections to Triton are reset and no new ones taken."""

    lane = "triton"


class CutRepliesOfTriton(_CutReplies):
    """A few answers of Triton end after some bytes."""

    lane = "triton"


class HalfOpenTriton(_HalfOpen):
    """Connections to Triton stay open and carry nothing, then are reset."""

    lane = "triton"


KINDS: dict[str, type[Fault]] = {
    "kill-worker": KillWorker,
    "freeze-worker": FreezeWorker,
    "zombie-worker": ZombieWorker,
    "add-worker": AddWorker,
    "remove-worker": RemoveWorker,
    "skewed-worker": SkewedWorker,
    "skewed-shop": SkewedShop,
    "kill-kafka": KillKafka,
    "freeze-kafka": FreezeKafka,
    "full-disk-of-kafka": FullDiskOfKafka,
    "recreated-topics": RecreatedTopics,
    "late-kafka": LateKafka,
    "cut-off-kafka": CutOffKafka,
    "cut-replies-of-kafka": CutRepliesOfKafka,
    "half-open-kafka": HalfOpenKafka,
    "kill-redis": KillRedis,
    "freeze-redis": FreezeRedis,
    "older-redis": OlderRedis,
    "empty-redis": EmptyRedis,
    "full-redis": FullRedis,
    "read-only-redis": ReadOnlyRedis,
    "loading-redis": LoadingRedis,
    "late-redis": LateRedis,
    "cut-off-redis": CutOffRedis,
    "cut-replies-of-redis": CutRepliesOfRedis,
    "half-open-redis": HalfOpenRedis,
    "kill-triton": KillTriton,
    "freeze-triton": FreezeTriton,
    "kill-model": KillModel,
    "unload-model": UnloadModel,
    "nan-from-triton": NanFromTriton,
    "shapes-from-triton": ShapesFromTriton,
    "late-triton": LateTriton,
    "cut-off-triton": CutOffTriton,
    "cut-replies-of-triton": CutRepliesOfTriton,
    "half-open-triton": HalfOpenTriton,
}

APART = {
    "recreated-topics": "what lay in a deleted topic nobody can fold again",
    "skewed-worker": "sequences go by clocks, and after a fast one they would go back",
}
"""Only where named, and not beside a Redis that forgets, for the reason given."""

NOT_BUILT = ("a skewed clock of the broker, of Redis or of Triton",)


def terms() -> dict[str, Terms]:
    """What a plan must know of each kind."""
    return {name: Terms(kind.lane, kind.hold_s) for name, kind in KINDS.items()}
