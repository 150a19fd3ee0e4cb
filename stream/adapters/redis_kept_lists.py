"""The lists that what a shopper does next may be joined to, in Redis.

Two keys a shopper: at `l:SHOPPER` a Redis list of the newest lists made, written blindly and cut by the
server, so that making a list reads nothing; and at `s:SHOPPER` one value of those known to have been shown,
written whole when an event tells so. One worker has a shopper at a time; where two write during a
rebalance, the last one wins and a mark may be lost, never invented.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from stream.adapters.redis_client import FAILURES, Client, keys_for, refuse_newer, words_of
from stream.core import attribution
from stream.core.attribution import MADE_KEPT, KeptList, merged
from stream.core.events import RecommendationList
from stream.core.policy import HOUR_MS
from stream.errors import StateUnavailable
from stream.privacy.pseudonyms import pseudonym

log = logging.getLogger(__name__)

_several_decoder = msgspec.msgpack.Decoder(list[bytes])


class RedisKeptLists:
    """`KeptLists` on Redis.

    Args:
        client: a client that does not decode responses.
        shown_hours: how long a list is kept after an event last told that it was shown.
        key_prefix: begins every key.
    """

    def __init__(self, client: Client, shown_hours: float, key_prefix: str = "sr:") -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)
        self._shown_ms = int(shown_hours * HOUR_MS)

    async def recall(self, user_ids: Sequence[str]) -> dict[str, tuple[KeptList, ...]]:
        """Read in one round trip; a damaged list is left out with a warning.

        Raises:
            StateUnavailable: Redis did not answer, or a list was written by a newer release than this.
        """
        if not user_ids:
            return {}
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for user_id in user_ids:
                    pipeline.lrange(self._keys.of("l", user_id), 0, -1)
                    pipeline.get(self._keys.of("s", user_id))
                answers = await pipeline.execute()
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not read the lists of {len(user_ids)}: {words_of(error)}"
            ) from error
        return {
            user_id: merged(_read(user_id, made), _read(user_id, _several(user_id, shown)))
            for user_id, made, shown in zip(user_ids, answers[::2], answers[1::2], strict=True)
        }

    async def remember(self, lists: Sequence[RecommendationList]) -> None:
        """Write in one round trip."""
        if not lists:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for made in lists:
                    key = self._keys.of("l", made.user_id)
                    pipeline.lpush(key, attribution.encode(attribution.kept_of(made)))
                    pipeline.ltrim(key, 0, MADE_KEPT - 1)
                    pipeline.pexpire(key, max(1, made.expires_at - made.generated_at))
                await pipeline.execute()
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not keep {len(lists)} lists: {words_of(error)}") from error

    async def mark(self, shown: Mapping[str, Sequence[KeptList]]) -> None:
        """Write in one round trip."""
        if not shown:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for user_id, lists in shown.items():
                    value = msgspec.msgpack.encode([attribution.encode(one) for one in lists])
                    pipeline.set(self._keys.of("s", user_id), value, px=self._shown_ms)
                await pipeline.execute()
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not mark the lists of {len(shown)}: {words_of(error)}"
            ) from error

    async def erase(self, user_id: str) -> bool:
        """Remove both keys."""
        try:
            removed = await self._client.delete(self._keys.of("l", user_id), self._keys.of("s", user_id))
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not erase the lists of a shopper: {words_of(error)}"
            ) from error
        return bool(removed)


def _several(user_id: str, data: bytes | None) -> list[bytes]:
    """The lists of one value; none where it is damaged."""
    try:
        return _several_decoder.decode(data) if data else []
    except msgspec.DecodeError as error:
        log.warning("the lists shown to shopper %s are given up: %s", pseudonym(user_id), error)
        return []


def _read(user_id: str, values: Sequence[bytes]) -> list[KeptList]:
    lists = []
    for data in values:
        refuse_newer("a list kept for attribution", data[0] if data else 0, attribution.VERSION)
        try:
            lists.append(attribution.decode(data))
        except attribution.UnreadableList as error:
            log.warning(
                "a list of shopper %s is given up, what comes of it will not be told: %s",
                pseudonym(user_id),
                error,
            )
    return lists
