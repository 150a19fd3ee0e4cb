"""The vectors of what shoppers search for, remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from stream.core.items import FloatArray
from stream.errors import ModelUnavailable
from stream.ports import Encoder
from stream.telemetry.metrics import Telemetry

QUERIES_KEPT = 10_000


class QueryVectors:
    """Vectors of queries by version, the last 10,000 remembered; one call of the encoder for the others."""

    def __init__(self, encoder: Encoder, timeout_s: float, telemetry: Telemetry) -> None:
        self._encoder = encoder
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._vectors: OrderedDict[tuple[str, str], FloatArray] = OrderedDict()

    async def get(self, queries: Collection[str], version: str) -> dict[str, FloatArray]:
        """Give the vectors [384] of queries by a version of the encoder; without those not made in time."""
        new = [query for query in queries if (version, query) not in self._vectors]
        self._telemetry.count_lookups("queries", len(queries), len(new))
        if new:
            try:
                vectors, _ = await self._encoder.encode(new, self._timeout_s, version)
            except ModelUnavailable as error:
                self._telemetry.model_failures.labels(error.model, error.reason).inc()
            else:
                made = zip(new, vectors, strict=True)
                self._vectors.update(((version, query), vector) for query, vector in made)
        found = {}
        for query in queries:
            if (version, query) in self._vectors:
                self._vectors.move_to_end((version, query))
                found[query] = self._vectors[version, query]
        while len(self._vectors) > QUERIES_KEPT:
            self._vectors.popitem(last=False)
        return found
