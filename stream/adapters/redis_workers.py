"""What living workers tell of themselves, in Redis.

Keys, after the prefix: `w:WORKER` a report, which expires unless renewed; `w` the names of all who reported.
"""

from __future__ import annotations

from typing import cast

import msgspec

from stream.adapters.redis_client import FAILURES, Client, keys_for, read_all, words_of
from stream.errors import StateUnavailable
from stream.ports import WorkerReport

LIVES_S = 5
"""A worker reports once a second; one that was silent for so long counts as gone."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(WorkerReport)


class RedisWorkerReports:
    """`WorkerReports` in Redis.

    Args:
        key_prefix: begins every key, so that several shops can share a server.
    """

    def __init__(self, client: Client, key_prefix: str = "sr:") -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)
        self._names = self._keys.shared("w")

    async def report(self, report: WorkerReport) -> None:
        """Leave word for five seconds.

        Raises:
            StateUnavailable: Redis is away.
        """
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(self._key(report.worker), _encoder.encode(report), ex=LIVES_S)
                pipeline.sadd(self._names, report.worker)
                await pipeline.execute()
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not take a worker's report: {words_of(error)}") from error

    async def living(self) -> list[WorkerReport]:
        """The newest word of every worker that lives, by name. Raises as `report`."""
        try:
            names = sorted(
                name.decode() for name in cast(set[bytes], await self._client.smembers(self._names))
            )
            values = await read_all(self._client, [self._key(name) for name in names]) if names else []
            gone = [name for name, value in zip(names, values, strict=True) if value is None]
            if gone:
                await self._client.srem(self._names, *gone)
        except FAILURES as error:
            raise StateUnavailable(f"Redis did not tell which workers live: {words_of(error)}") from error
        return [_decoder.decode(value) for value in values if value is not None]

    def _key(self, worker: str) -> str:
        return self._keys.shared(f"w:{worker}")
