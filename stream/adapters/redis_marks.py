"""How far each partition's effects are saved, in Redis: one key a partition, changed by compare-and-set.

Keys, after the prefix: `m:GROUP/TOPIC/PARTITION`, with `OFFSET LIFE` as text. They never expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.core.marks import Mark
from stream.errors import StateUnavailable
from stream.ports import Place

_SWAP = """
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
"""


class RedisMarkStore:
    """`MarkStore` on Redis.

    Args:
        client: a client that does not decode responses.
        group: the consumer group whose marks these are.
        key_prefix: begins every key, so that several shops can share a server.
    """

    def __init__(self, client: Redis, group: str, key_prefix: str = "sr:") -> None:
        self._client = client
        self._prefix = f"{key_prefix}m:{group}/"

    async def read(self, places: Sequence[Place]) -> dict[Place, Mark]:
        """Read marks in one MGET."""
        if not places:
            return {}
        try:
            values = cast(list[bytes | None], await self._client.mget([self._key(one) for one in places]))
        except RedisError as error:
            raise StateUnavailable(f"Redis did not read {len(places)} marks: {error}") from error
        found = {place: self._decoded(place, data) for place, data in zip(places, values, strict=True)}
        return {place: mark for place, mark in found.items() if mark is not None}

    async def swap(self, changes: Mapping[Place, tuple[Mark | None, Mark]]) -> dict[Place, Mark | None]:
        """Compare and set in one pipeline."""
        if not changes:
            return {}
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for place, (before, after) in changes.items():
                    pipeline.eval(_SWAP, 1, self._key(place), _encoded(before), _encoded(after))
                answers = cast(list[bytes], await pipeline.execute())
        except RedisError as error:
            raise StateUnavailable(f"Redis did not move {len(changes)} marks: {error}") from error
        return {place: self._decoded(place, data) for place, data in zip(changes, answers, strict=True)}

    def _key(self, place: Place) -> str:
        return f"{self._prefix}{place[0]}/{place[1]}"

    def _decoded(self, place: Place, data: bytes | None) -> Mark | None:
        if not data:
            return None
        offset, _, life = data.partition(b" ")
        if not (offset.isdigit() and life.isdigit()):
            raise StateUnavailable(
                f"{self._key(place)} in Redis is no mark of this release: delete the key, and the "
                "partition is folded again from its beginning"
            )
        return Mark(int(offset), int(life))


def _encoded(mark: Mark | None) -> bytes:
    return b"%d %d" % mark if mark else b""
