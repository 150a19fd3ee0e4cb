"""How far each partition's effects are saved, in Redis: one key a partition, changed by compare-and-set.

Keys, after the prefix: `m:GROUP/TOPIC/PARTITION`, with `OFFSET LIFE` as text. They never expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.adapters.redis_client import version_bytes, words_of
from stream.core.marks import Mark
from stream.errors import StateUnavailable
from stream.ports import Place

_SWAP = """
local marks = tonumber(ARGV[1])
for i = marks + 1, #KEYS do
  local version, least = redis.call('GETRANGE', KEYS[i], 1, 8), ARGV[marks + 1 + i]
  if #version < 8 then return {} end
  local high, low = struct.unpack('>I4I4', version)
  local least_high, least_low = struct.unpack('>I4I4', least)
  if high < least_high or (high == least_high and low < least_low) then return {} end
end
local found = {}
for i = 1, marks do
  found[i] = redis.call('GET', KEYS[i]) or ''
  if found[i] == ARGV[2 * i] then
    found[i] = ARGV[2 * i + 1]
    redis.call('SET', KEYS[i], found[i])
  end
end
return found
"""
"""KEYS: marks, then what was saved. ARGV: how many marks, before and after of each, least versions."""


class RedisMarkStore:
    """`MarkStore` on Redis.

    Args:
        client: a client that does not decode responses.
        group: the consumer group whose marks these are.
        key_prefix: begins every key, so that several shops can share a server.
        saved_as: begins, after the prefix, the keys of what the group's messages are saved in: `u:` or `i:`.
    """

    def __init__(self, client: Redis, group: str, key_prefix: str = "sr:", saved_as: str = "u:") -> None:
        self._client = client
        self._prefix = f"{key_prefix}m:{group}/"
        self._saved_prefix = f"{key_prefix}{saved_as}"

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

    async def swap(
        self, changes: Mapping[Place, tuple[Mark | None, Mark]], saved: Mapping[str, int] = {}
    ) -> dict[Place, Mark | None]:
        """Compare and set by one script."""
        if not changes:
            return {}
        keys = [self._key(place) for place in changes]
        keys += [f"{self._saved_prefix}{owner}" for owner in saved]
        given = [_encoded(mark) for before_and_after in changes.values() for mark in before_and_after]
        given += [version_bytes(least) for least in saved.values()]
        try:
            answer = await self._client.eval(_SWAP, len(keys), *keys, len(changes), *given)
            found = cast(list[bytes], answer)
        except RedisError as error:
            raise StateUnavailable(f"Redis did not move {len(changes)} marks: {words_of(error)}") from error
        if not found:
            return dict.fromkeys(changes)
        return {place: self._decoded(place, data) for place, data in zip(changes, found, strict=True)}

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
