"""Shoppers' states in Redis: one key `u:SHOPPER` each, one MGET to read a batch, one pipeline to write it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

from stream.adapters.redis_client import (
    FAILURES,
    STORED,
    Client,
    compare_and_set,
    keys_for,
    read_all,
    refuse_newer,
    words_of,
)
from stream.core import codec
from stream.core.state import UserState, empty
from stream.errors import StateUnavailable
from stream.privacy.pseudonyms import about, pseudonym

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
TTL_JITTER = 0.1
NEWCOMER_ACTS = 2
"""Up to so many views, carts and searches, and nothing bought, somebody may as well have been made up."""


class RedisStateStore:
    """`StateStore` on Redis.

    Args:
        client: a client that does not decode responses.
        key_prefix: begins every key, so that several shops can share a server.
        ttl_days: a shopper not heard of for this long is forgotten (up to a tenth longer, so that a
            crowd that came on one day does not expire in one second). The mark of an erasure lives as long
            as it must.
        newcomer_ttl_days: the same for newcomers, where it is shorter. Longer than events stay on their
            topics, so that an event that is read again finds the state that it was folded into.
    """

    def __init__(
        self,
        client: Client,
        key_prefix: str = "sr:",
        ttl_days: float = 90.0,
        newcomer_ttl_days: float = 8.0,
    ) -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)
        self._ttl_ms = int(ttl_days * DAY_MS)
        self._newcomer_ttl_ms = min(self._ttl_ms, int(newcomer_ttl_days * DAY_MS))

    async def load(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """Read states in one MGET.

        A damaged state is given up with a warning: its shopper starts anew, with the sequence going on.

        Raises:
            StateUnavailable: Redis did not answer, or a state was written by a newer release than this.
        """
        if not user_ids:
            return {}
        try:
            values = await read_all(self._client, [self._keys.of("u", user_id) for user_id in user_ids])
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not read {len(user_ids)} states: {words_of(error)}") from error
        return {
            user_id: _read(user_id, data) if data else empty(user_id)
            for user_id, data in zip(user_ids, values, strict=True)
        }

    async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
        """Compare and set in one pipeline."""
        if not states:
            return []
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for state, expected in states:
                    longest_ms = self._newcomer_ttl_ms if _is_newcomer(state) else self._ttl_ms
                    ttl_ms = int(longest_ms * (1 + TTL_JITTER * random.random()))
                    if state.erased_ms:
                        mark_ms = state.marked_until_ms - time.time_ns() // 1_000_000
                        nothing_else = not any(state.facts[1:])
                        ttl_ms = max(1, mark_ms if nothing_else else max(ttl_ms, mark_ms))
                    key = self._keys.of("u", state.user_id)
                    compare_and_set(pipeline, key, expected, codec.encode(state), ttl_ms)
                return [answer == STORED for answer in await pipeline.execute()]
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not save {len(states)} states: {words_of(error)}") from error


def _is_newcomer(state: UserState) -> bool:
    return not state.owned and len(state.interactions) + len(state.searches) <= NEWCOMER_ACTS


def _read(user_id: str, data: bytes) -> UserState:
    refuse_newer("a stored state", data[0], codec.VERSION)
    try:
        return codec.decode(user_id, data)
    except codec.UnreadableState as error:
        said = "the state of shopper %s is given up: %s"
        log.warning(said, pseudonym(user_id), error, extra=about(user_id))
        return empty(user_id)._replace(sequence=int.from_bytes(data[1:9], "big") if len(data) >= 9 else 0)
