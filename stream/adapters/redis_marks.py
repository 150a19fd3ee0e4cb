"""How far each partition's effects are saved, in Redis, changed by compare-and-set.

Keys, after the prefix: `m:GROUP/TOPIC/PARTITION`, with `OFFSET LIFE` as text. They never expire.

On a cluster each bucket has such a key, since masters fail one by one and a mark must be lost with the states
and rows that it stands for. The mark of a partition is then the lowest of its buckets, and none where one
bucket has none: from there on everything is saved in some buckets only. A bucket that is further stays. One
script for each bucket moves its marks, and looks for what was saved in that bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from stream.adapters.redis_client import FAILURES, Client, keys_for, read_all, version_bytes, words_of
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
        saved_as: the kind of key that the group's messages are saved in: `u` or `i`.
    """

    def __init__(self, client: Client, group: str, key_prefix: str = "sr:", saved_as: str = "u") -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)
        self._group = group
        self._saved_as = saved_as
        self._seen: dict[Place, list[Mark | None]] = {}  # by bucket, as last read; of those that differ

    async def read(self, places: Sequence[Place]) -> dict[Place, Mark]:
        """Read marks in one MGET."""
        if not places:
            return {}
        tags = self._keys.tags
        keys = [self._key(tag, place) for place in places for tag in tags]
        try:
            values = await read_all(self._client, keys)
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not read {len(places)} marks: {words_of(error)}") from error
        marks = [_decoded(key, data) for key, data in zip(keys, values, strict=True)]
        found = {
            place: self._lowest(place, marks[i * len(tags) : (i + 1) * len(tags)])
            for i, place in enumerate(places)
        }
        return {place: mark for place, mark in found.items() if mark is not None}

    async def swap(
        self, changes: Mapping[Place, tuple[Mark | None, Mark]], saved: Mapping[str, int] = {}
    ) -> dict[Place, Mark | None]:
        """Compare and set in one pipeline, by one script for each bucket.

        Where a bucket has forgotten what was saved, its marks stay, and those of the others move.
        """
        if not changes:
            return {}
        tags = self._keys.tags
        expected = {place: self._expected(place, before) for place, (before, _) in changes.items()}
        owners: dict[str, list[str]] = {tag: [] for tag in tags}
        for owner in saved:
            owners[self._keys.tag(owner)].append(owner)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for bucket, tag in enumerate(tags):
                    keys = [self._key(tag, place) for place in changes]
                    keys += [self._keys.of(self._saved_as, owner) for owner in owners[tag]]
                    given: list[bytes] = []
                    for place, (before, after) in changes.items():
                        known = expected[place][bucket]
                        stays = known is not None and known != before and _order(known) > _order(after)
                        given += _encoded(known), _encoded(known if stays else after)
                    given += [version_bytes(saved[owner]) for owner in owners[tag]]
                    pipeline.eval(_SWAP, len(keys), *keys, len(changes), *given)
                answers = cast(list[list[bytes]], await pipeline.execute())
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not move {len(changes)} marks: {words_of(error)}") from error
        if not all(answers):
            for place in changes:
                self._seen.pop(place, None)
            return dict.fromkeys(changes)
        return {
            place: self._lowest(
                place,
                [_decoded(self._key(tag, place), found[i]) for tag, found in zip(tags, answers, strict=True)],
            )
            for i, place in enumerate(changes)
        }

    def _key(self, tag: str, place: Place) -> str:
        return self._keys.within(tag, f"m:{self._group}/{place[0]}/{place[1]}")

    def _expected(self, place: Place, before: Mark | None) -> Sequence[Mark | None]:
        """What each bucket must have, for the partition's mark to be what a caller expects."""
        seen = self._seen.get(place)
        return seen if seen and _least(seen) == before else [before] * len(self._keys.tags)

    def _lowest(self, place: Place, marks: list[Mark | None]) -> Mark | None:
        self._seen.pop(place, None)
        if len(set(marks)) > 1:
            self._seen[place] = marks
        return _least(marks)


def _least(marks: Sequence[Mark | None]) -> Mark | None:
    present = [mark for mark in marks if mark is not None]
    return min(present, key=_order) if len(present) == len(marks) else None


def _order(mark: Mark) -> tuple[int, int]:
    return mark.life, mark.offset


def _encoded(mark: Mark | None) -> bytes:
    return b"%d %d" % mark if mark else b""


def _decoded(key: str, data: bytes | None) -> Mark | None:
    if not data:
        return None
    offset, _, life = data.partition(b" ")
    if not (offset.isdigit() and life.isdigit()):
        raise StateUnavailable(
            f"{key} in Redis is no mark of this release: delete the key, and the partition is folded again "
            "from its beginning"
        )
    return Mark(int(offset), int(life))
