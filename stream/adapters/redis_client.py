"""The Redis client as every adapter uses it, and the one script: compare a version, then set.

Every stored value begins with one byte that names its format and eight that hold its version (big-endian),
which is all the script looks at. Of those who expect the same version exactly one saves; who lost the answer
finds the new version at the next load. A value too short to hold a version counts as none.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline

STORED = 1

_COMPARE_AND_SET = """
local found = redis.call('GETRANGE', KEYS[1], 1, 8)
if #found < 8 then found = '' end
if found ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


def connect(url: str, timeout_ms: int = 1_000, max_connections: int = 16) -> Redis:
    """Make a client with a bounded pool and short timeouts; no connection is opened yet."""
    timeout_s = timeout_ms / 1000
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=15,
    )
    return Redis.from_pool(pool)


def compare_and_set(pipeline: Pipeline, key: str, expected: int, value: bytes, ttl_ms: int = 0) -> None:
    """Add a save to a pipeline; it answers `STORED` where the stored version is `expected` (0: none is).

    The script travels whole with every save: by its digest alone, the client would first ask the server
    whether it knows it, which costs every batch a round trip.
    """
    version = version_bytes(expected) if expected else b""
    pipeline.eval(_COMPARE_AND_SET, 1, key, version, value, ttl_ms)


def version_bytes(version: int) -> bytes:
    """A version as the script compares it."""
    return version.to_bytes(8, "big")
