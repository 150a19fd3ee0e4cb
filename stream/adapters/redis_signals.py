"""What is learnt about items, in Redis: a row an item, and the popularity of all items to follow.

Keys, after the prefix: `i:ITEM` a row, `p` the popularity of every item, `c` when each of them last
changed. The last two are set from a row and never added to, so writing them twice does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.adapters.redis_client import STORED, compare_and_set, refuse_newer, version_bytes, words_of
from stream.core import signals
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS
from stream.errors import StateUnavailable
from stream.ports import VersionedSignals

log = logging.getLogger(__name__)

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

    def __init__(self, client: Redis, key_prefix: str = "sr:") -> None:
        self._client = client
        self._prefix = key_prefix

    async def load(self, item_ids: Sequence[str]) -> dict[str, VersionedSignals]:
        """Read rows in one MGET; items without one are left out, a damaged row begins anew.

        Raises:
            StateUnavailable: Redis did not answer, or a row was written by a newer release than this.
        """
        if not item_ids:
            return {}
        try:
            keys = [f"{self._prefix}i:{item_id}" for item_id in item_ids]
            values = cast(list[bytes | None], await self._client.mget(keys))
        except RedisError as error:
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
                    compare_and_set(pipeline, f"{self._prefix}i:{item_id}", version, value, TTL_DAYS * DAY_MS)
                answers = await pipeline.execute()
            saved = {item_id: answer == STORED for item_id, answer in zip(rows, answers, strict=True)}
            packed = {
                item_id: signals.pack_popularity(row) for item_id, (row, _) in rows.items() if saved[item_id]
            }
            if packed:
                now_ms = time.time_ns() // 1_000_000
                async with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.hset(f"{self._prefix}p", mapping=packed)  # type: ignore[arg-type]
                    pipeline.zadd(f"{self._prefix}c", dict.fromkeys(packed, now_ms))
                    pipeline.zrangebyscore(
                        f"{self._prefix}c", "-inf", now_ms - TTL_DAYS * DAY_MS, start=0, num=FORGOTTEN_AT_ONCE
                    )
                    old = cast(list[bytes], (await pipeline.execute())[-1])
                if old:
                    await self._forget(old)
        except RedisError as error:
            raise StateUnavailable(f"Redis did not save {len(rows)} signals: {words_of(error)}") from error
        return saved

    async def _forget(self, item_ids: Sequence[bytes]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hdel(f"{self._prefix}p", *item_ids)
            pipeline.zrem(f"{self._prefix}c", *item_ids)
            await pipeline.execute()

    async def popularity(self, since: int) -> tuple[dict[str, FloatArray], int]:
        """Read the popularity of the items that changed since an earlier call."""
        found: dict[str, FloatArray] = {}
        mark = since
        start = 0
        try:
            while True:
                answer = await self._client.zrangebyscore(
                    f"{self._prefix}c", since - OVERLAP_MS, "+inf", start=start, num=PAGE, withscores=True
                )
                changed = cast(list[tuple[bytes, float]], answer)
                if changed:
                    names = [item_id for item_id, _ in changed]
                    values = cast(list[bytes | None], await self._client.hmget(f"{self._prefix}p", names))
                    for item_id, data in zip(names, values, strict=True):
                        if data:
                            found[item_id.decode()] = signals.unpack_popularity(data)
                    mark = max(mark, int(changed[-1][1]))
                if len(changed) < PAGE:
                    return found, mark
                start += PAGE
        except RedisError as error:
            raise StateUnavailable(f"Redis did not read popularity: {words_of(error)}") from error
