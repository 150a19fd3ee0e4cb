"""The Redis client as every adapter uses it, and the one script: compare a version, then set.

Every stored value begins with one byte that names its format and eight that hold its version (big-endian),
which is all the script looks at. Of those who expect the same version exactly one saves; who lost the answer
finds the new version at the next load. A value too short to hold a version counts as none.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.adapters import tls
from stream.adapters.redis_cluster import Cluster
from stream.adapters.redis_keys import Keys
from stream.config import Redis as RedisSettings
from stream.errors import StateUnavailable
from stream.telemetry.metrics import StoreMemory

STORED = 1
_MEMORY = ("used_memory", "maxmemory", "evicted_keys")
"""Where a `StoreMemory` stands in what Redis tells."""
_PIPELINE_WORDS = re.compile(r"\ACommand # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)

_COMPARE_AND_SET = """
local found = redis.call('GETRANGE', KEYS[1], 1, 8)
if #found < 8 then found = '' end
if found ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


Client = Redis | RedisCluster
FAILURES = (RedisError, RedisClusterException)
"""What a client raises where Redis did not do what it was asked: two kinds, without a root of their own."""


def connect(
    redis: RedisSettings, max_connections: int = 16, failed: Callable[[str], None] = lambda _: None
) -> Client:
    """Make a client with a bounded pool and short timeouts; no connection is opened yet.

    Args:
        failed: told the kind of every answer that was an error or did not come.

    Raises:
        ConfigError: a certificate cannot be used.
    """
    timeout_s = redis.timeout_ms / 1000
    trust = tls.context(redis, tls.REDIS) if redis.url.startswith("rediss:") else None
    explaining = partial(_explaining, trust=trust, failed=failed)
    if redis.cluster:
        return Cluster(redis, explaining, max_connections, timeout_s)
    pool = BlockingConnectionPool.from_url(
        redis.url,
        username=redis.username or None,
        password=redis.password.reveal() or None,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=15,
    )
    pool.connection_class = explaining(pool.connection_class)
    return Redis.from_pool(pool)


async def memory(client: Client) -> StoreMemory:
    """Ask Redis for its memory; of a cluster that of the fullest master, and what all of them gave up.

    Raises:
        StateUnavailable: Redis did not answer, or its user may not ask.
    """
    try:
        if isinstance(client, RedisCluster):
            told = await client.info(target_nodes=RedisCluster.PRIMARIES)
        else:
            told = await client.info()
    except FAILURES as error:
        raise StateUnavailable(
            f"Redis did not tell of its memory, which metrics lack: {words_of(error)} (SECURITY.md)"
        ) from error
    return _fullest([told] if "used_memory" in told else list(told.values()))


def _fullest(masters: Sequence[Mapping[str, Any]]) -> StoreMemory:
    """The memory of the master with the largest share in use, or with the most where none has a bound."""
    read = [StoreMemory(*(int(told[name]) for name in _MEMORY)) for told in masters]
    fullest = max(read, key=lambda one: (one.used_bytes / (one.max_bytes or inf), one.used_bytes))
    return fullest._replace(evicted=sum(one.evicted for one in read))


def _explaining(
    kind: type[AbstractConnection], trust: ssl.SSLContext | None, failed: Callable[[str], None]
) -> type[AbstractConnection]:
    """Make a kind of connection that trusts whom the settings say, and tells of errors and refusals."""

    class Explaining(kind):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if isinstance(self, SSLConnection):
                self.ssl_context.context = trust  # the library's own trusts whom the system trusts, too
            self.opening = False

        async def connect(self) -> None:
            if self.is_connected:  # a pool asks whenever it gives a connection out
                return
            self.opening = True
            try:
                await self.explained()
            except (RedisError, OSError) as error:
                failed(type(error).__name__)
                raise
            finally:
                self.opening = False

        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except (RedisError, OSError) as error:
                if not self.opening:  # told of by `connect`
                    failed(type(error).__name__)
                raise

        async def explained(self) -> None:
            try:
                await super().connect()
                if not self.username and not self.password:
                    await self.send_command("PING", check_health=False)
                    await self.read_response()
            except BusyLoadingError:
                raise
            except AuthenticationError as error:
                await self.disconnect()
                raise AuthenticationError(_refused(self.username, self.password, error)) from error
            except RedisConnectionError as error:
                if not isinstance(self, Connection):  # a Unix socket
                    raise
                place = f"{self.host}:{self.port}"
                reason = await tls.misunderstanding(self.host, int(self.port), trust, tls.REDIS)
                if reason is None:
                    said = f"no answer at {place}: is it running? `streamrec local status` tells ({error})"
                else:
                    said = f"Redis at {place} cannot be used: {reason}"
                raise RedisConnectionError(said) from error

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if not self.is_connected:  # as the client of a cluster leaves it; the library would not explain
                await self.connect()
            await super().send_packed_command(command, check_health)

    return Explaining


def _refused(username: str | None, password: str | None, error: RedisError) -> str:
    """Say whose login was refused, and which settings say who that is."""
    if not username and not password:
        return "Redis asks for a user: set redis.username and redis.password, or redis.password_file"
    return (
        f"Redis refused the user {username or 'default'!r}: redis.username or redis.password is wrong "
        f"({error})"
    )


def words_of(error: RedisError | RedisClusterException) -> str:
    """What Redis said of an error. In front of it the library puts the command, which names shoppers."""
    said = _PIPELINE_WORDS.sub("", str(error)).removeprefix("('").removesuffix("',)")
    if isinstance(error, MovedError):
        return f"it is part of a cluster: set redis.cluster to true ({said})"
    return said


async def read_all(client: Client, keys: Sequence[str]) -> list[bytes | None]:
    """Read values by one command, or by one for each slot of a cluster, all in one round trip."""
    if isinstance(client, RedisCluster):
        return cast(list[bytes | None], await client.mget_nonatomic(keys))
    return cast(list[bytes | None], await client.mget(keys))


def keys_for(client: Client, prefix: str) -> Keys:
    """The names of keys as they are where a client is connected to."""
    return Keys(prefix, isinstance(client, RedisCluster))


def compare_and_set(
    pipeline: Pipeline | ClusterPipeline, key: str, expected: int, value: bytes, ttl_ms: int = 0
) -> None:
    """Add a save to a pipeline; it answers `STORED` where the stored version is `expected` (0: none is).

    The script travels whole with every save: by its digest alone, the client would first ask the server
    whether it knows it, which costs every batch a round trip.
    """
    version = version_bytes(expected) if expected else b""
    pipeline.eval(_COMPARE_AND_SET, 1, key, version, value, ttl_ms)


def refuse_newer(what: str, found: int, known: int) -> None:
    """Return where a stored record is of a version that this release knows.

    Raises:
        StateUnavailable: a newer release wrote it. Nothing is read, so that nothing of it can be lost.
    """
    if found > known:
        raise StateUnavailable(
            f"{what} has version {found}, this release reads up to {known}: "
            "run the release that wrote it, or a newer one (docs/upgrading.md)"
        )


def version_bytes(version: int) -> bytes:
    """A version as the script compares it."""
    return version.to_bytes(8, "big")
