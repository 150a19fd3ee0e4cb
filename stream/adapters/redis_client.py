"""The Redis client as every adapter uses it, and the one script: compare a version, then set.

Every stored value begins with one byte that names its format and eight that hold its version (big-endian),
which is all the script looks at. Of those who expect the same version exactly one saves; who lost the answer
finds the new version at the next load. A value too short to hold a version counts as none.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

EXPECT_NONE = b""
STORED = 1

COMPARE_AND_SET = """
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


def version_bytes(version: int) -> bytes:
    """A version as the script compares it."""
    return version.to_bytes(8, "big")
