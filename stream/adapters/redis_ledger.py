"""The ledger of releases in Redis: one key, `release-ledger` after the prefix, changed by compare-and-set.

It never expires, and holds with the last release its noised counts until the rows are written: so a
release that was cut short goes on with the noise that was drawn, and none is ever drawn twice for one period.
"""

from __future__ import annotations

import msgspec

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
from stream.adapters.redis_signals import RedisSignalStore
from stream.core.release import Ledger
from stream.errors import StateUnavailable

FORMAT = 1
KEY = "release-ledger"
_decoder = msgspec.json.Decoder(Ledger)


class RedisReleaseLedger:
    """`ReleaseLedger` on Redis.

    Args:
        client: a client that does not decode responses.
        key_prefix: begins every key, so that several shops can share a server.
    """

    def __init__(self, client: Client, key_prefix: str = "sr:") -> None:
        self._client = client
        self._key = keys_for(client, key_prefix).shared(KEY)

    async def read(self) -> tuple[Ledger, int]:
        """Read the ledger.

        Raises:
            StateUnavailable: Redis did not answer, or what lies there is no ledger that this release reads.
        """
        try:
            [data] = await read_all(self._client, [self._key])
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not read the ledger of releases: {words_of(error)}") from error
        if not data:
            return Ledger(), 0
        refuse_newer("the ledger of releases", data[0], FORMAT)
        try:
            return _decoder.decode(data[9:]), int.from_bytes(data[1:9], "big")
        except msgspec.DecodeError as error:
            raise StateUnavailable(
                f"{self._key} in Redis is no ledger of releases ({error}): restore it, since without it "
                "nothing tells what was spent"
            ) from None

    async def write(self, ledger: Ledger, version: int) -> bool:
        """Compare and set. Raises `StateUnavailable` where Redis did not answer."""
        value = bytes([FORMAT]) + version_bytes(version + 1) + msgspec.json.encode(ledger)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                compare_and_set(pipeline, self._key, version, value)
                [answer] = await pipeline.execute()
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not write the ledger of releases: {words_of(error)}"
            ) from error
        return bool(answer == STORED)


def released_signals(client: Client, key_prefix: str) -> RedisSignalStore:
    """The rows that are made of releases alone, beside those of the raw signals."""
    return RedisSignalStore(client, f"{key_prefix}released:")
