"""What is learnt about items, in Redis: a row an item, and the popularity of all items to follow.

Keys, after the prefix: `i:ITEM` a row, `p` the popularity of every item, `c` when each of them last
changed; on a cluster each bucket has the last two of its own items. They are set from a row and never added
to, so writing them twice does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import cast

from stream.adapters.redis_client import (
    FAILURES,
    STORED,
    Client,
    compare_and_set,
    keys_for,
    read_all,
    refuse_newer,
    version_bytes,
    words_of,
)
from stream.core import signals
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS
from stream.core.signals import ItemSignals
from stream.errors import StateUnavailable
from stream.ports import VersionedSignals

log = logging.getLogger(__name__)

Change = tuple[bytes, float]
"""An item, and when its row last changed, in epoch milliseconds."""

FORMAT = 1
OVERLAP_MS = 5_000
"""Changes this much older are read again, since the clocks of workers differ."""
TTL_DAYS = 400
"""What was learnt of an item is forgotten this long after the last event about it."""
FORGOTTEN_AT_ONCE = 100
"""Most items whose popularity is forgotten with one save."""
PAGE = 5_000
"""Changes read at once; more come in several pages, so that no answer is long."""


class RedisSignalStore:
    """`SignalStore` on Redis.

    Args:
        client: a client that does not decode responses.
        key_prefix: begins every key, so that several shops can share a server.
    """

    def __init__(self, client: Client, key_prefix: str = "sr:") -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)

    async def load(self, item_ids: Sequence[str]) -> dict[str, VersionedSignals]:
        """Read rows in one MGET; items without one are left out, a damaged row begins anew.

        Raises:
            StateUnavailable: Redis did not answer, or a row was written by a newer release than this.
        """
        if not item_ids:
            return {}
        try:
            values = await read_all(self._client, [self._keys.of("i", item_id) for item_id in item_ids])
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not read {len(item_ids)} signals: {words_of(error)}"
            ) from error
        found = {}
        for item_id, data in zip(item_ids, values, strict=True):
            if data:
                refuse_newer("the format of an item's stored signals", data[0], FORMAT)
                refuse_newer("an item's stored signals", data[9] if len(data) > 9 else 0, signals.VERSION)
                version = int.from_bytes(data[1:9], "big")
                try:
                    found[item_id] = VersionedSignals(signals.decode(data[9:]), version)
                except signals.UnreadableSignals as error:
                    log.warning("the signals of an item are given up: %s", error)
                    found[item_id] = VersionedSignals(signals.EMPTY, version)
        return found

    async def save(self, rows: Mapping[str, VersionedSignals]) -> dict[str, bool]:
        """Compare and set in one pipeline; a second one tells of the popularity of what was saved."""
        if not rows:
            return {}
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for item_id, (row, version) in rows.items():
                    value = bytes([FORMAT]) + version_bytes(version + 1) + signals.encode(row)
                    key = self._keys.of("i", item_id)
                    compare_and_set(pipeline, key, version, value, TTL_DAYS * DAY_MS)
                answers = await pipeline.execute()
            saved = {item_id: answer == STORED for item_id, answer in zip(rows, answers, strict=True)}
            await self._tell({item_id: row for item_id, (row, _) in rows.items() if saved[item_id]})
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not save {len(rows)} signals: {words_of(error)}") from error
        return saved

    async def _tell(self, rows: Mapping[str, ItemSignals]) -> None:
        """Write the popularity of rows where it is followed, and forget what nobody asked for in long."""
        packed: dict[str, dict[str, bytes]] = {}
        for item_id, row in rows.items():
            packed.setdefault(self._keys.tag(item_id), {})[item_id] = signals.pack_popularity(row)
        if not packed:
            return
        now_ms = time.time_ns() // 1_000_000
        async with self._client.pipeline(transaction=False) as pipeline:
            for tag, values in packed.items():
                changes = self._keys.within(tag, "c")
                pipeline.hset(self._keys.within(tag, "p"), mapping=values)  # type: ignore[arg-type]
                pipeline.zadd(changes, dict.fromkeys(values, now_ms))
                pipeline.zrangebyscore(
                    changes, "-inf", now_ms - TTL_DAYS * DAY_MS, start=0, num=FORGOTTEN_AT_ONCE
                )
            old = dict(zip(packed, cast(list[list[bytes]], (await pipeline.execute())[2::3]), strict=True))
        if any(old.values()):
            await self._forget({tag: item_ids for tag, item_ids in old.items() if item_ids})

    async def _forget(self, old: Mapping[str, Sequence[bytes]]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for tag, item_ids in old.items():
                pipeline.hdel(self._keys.within(tag, "p"), *item_ids)
                pipeline.zrem(self._keys.within(tag, "c"), *item_ids)
            await pipeline.execute()

    async def popularity(self, since: int) -> tuple[dict[str, FloatArray], int]:
        """Read the popularity of the items that changed since an earlier call, in pages of every bucket."""
        found: dict[str, FloatArray] = {}
        mark = since
        tags: Sequence[str] = self._keys.tags
        start = 0
        try:
            while tags:
                pages = await self._changes(tags, since - OVERLAP_MS, start)
                for item_id, data in (await self._popularity_of(pages)).items():
                    if data:
                        found[item_id.decode()] = signals.unpack_popularity(data)
                mark = max(mark, *(int(page[-1][1]) for page in pages.values() if page), 0)
                tags = [tag for tag, page in pages.items() if len(page) == PAGE]
                start += PAGE
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not read popularity: {words_of(error)}") from error
        return found, mark

    async def _changes(self, tags: Sequence[str], since_ms: int, start: int) -> dict[str, list[Change]]:
        """One page of what changed, by bucket."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for tag in tags:
                pipeline.zrangebyscore(
                    self._keys.within(tag, "c"), since_ms, "+inf", start=start, num=PAGE, withscores=True
                )
            return dict(zip(tags, cast(list[list[Change]], await pipeline.execute()), strict=True))

    async def _popularity_of(self, pages: Mapping[str, Sequence[Change]]) -> dict[bytes, bytes | None]:
        names = {tag: [item_id for item_id, _ in page] for tag, page in pages.items() if page}
        async with self._client.pipeline(transaction=False) as pipeline:
            for tag, item_ids in names.items():
                pipeline.hmget(self._keys.within(tag, "p"), item_ids)
            values = cast(list[list[bytes | None]], await pipeline.execute())
        return {
            item_id: data
            for item_ids, page in zip(names.values(), values, strict=True)
            for item_id, data in zip(item_ids, page, strict=True)
        }
