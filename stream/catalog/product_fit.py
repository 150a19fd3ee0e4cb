"""How well a product's category and brand fit its text: read by the cross-encoder, in quiet moments.

A pair costs milliseconds of a core. So a worker reads the items of its own partitions only, a few at a time
while no event is worked on, and then rests nine times as long as that took: a tenth of a core at most. An
item is read once for each text and version of the model; what was read travels with the item on
`item-vectors`, and counts there as a finding beside those of `stream.core.quality`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stream.catalog.view import CatalogView
from stream.catalog.writer import REFUSED_KEPT, CatalogWriter
from stream.core.items import Item
from stream.core.policy import Policy
from stream.core.quality import MISFIT, stated
from stream.errors import ModelUnavailable
from stream.ports import CrossEncoder
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

PAIRS = 4
"""Items in one request: few, so that a search which comes meanwhile waits little."""
REQUESTS = 100
"""After so many, items that came meanwhile are looked at: those in doubt come first."""
RESTS = 9.0
"""Times as long as a request took."""
TIMEOUT_S = 5.0


class FitReader:
    """Reads the items of a worker's partitions.

    Args:
        cross_encoder: with a circuit of its own.
        version: which version of it serves, "" where nobody said.
        owns: whether this worker owns the partition of an item.
        quiet: returns when no event is worked on.
        rest: lets seconds pass.
    """

    def __init__(
        self,
        view: CatalogView,
        writer: CatalogWriter,
        cross_encoder: CrossEncoder,
        version: Callable[[], str],
        owns: Callable[[str], bool],
        quiet: Callable[[], Awaitable[None]],
        policy: Policy,
        telemetry: Telemetry,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._view = view
        self._writer = writer
        self._cross_encoder = cross_encoder
        self._version = version
        self._owns = owns
        self._quiet = quiet
        self._policy = policy
        self._telemetry = telemetry
        self._rest = rest
        self._refused: dict[str, Item] = {}

    async def work_off(self) -> int:
        """Read some of the items that were not read yet, those in doubt first; return how many were.

        Raises:
            ModelUnavailable: the model is away.
            PublishUnavailable: the broker is.
        """
        unread = sorted(self._unread(), key=lambda item: (item.quality, -item.updated_ms, item.item_id))
        noted = 0
        for begin in range(0, min(len(unread), PAIRS * REQUESTS), PAIRS):
            await self._quiet()
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            noted += await self._read(unread[begin : begin + PAIRS])
            await self._rest(RESTS * (loop.time() - began_s))
        return noted

    def _unread(self) -> list[Item]:
        if not self._policy.min_fit:
            return []
        version = self._version()
        return [
            item
            for item in self._view.items
            if item.category
            and (item.fit is None or version not in ("", item.fit_version) or self._outdated(item))
            and self._owns(item.item_id)
            and self._refused.get(item.item_id) != item
        ]

    def _outdated(self, item: Item) -> bool:
        """Whether the policy has changed since the finding was made."""
        return item.fit is not None and (item.fit < self._policy.min_fit) != (MISFIT in item.quality_findings)

    async def _read(self, items: list[Item]) -> int:
        pairs = [(stated(item.brand, item.category), item.text) for item in items]
        try:
            scores, version = await self._cross_encoder.score(pairs, TIMEOUT_S)
        except ModelUnavailable as error:
            self._telemetry.model_failures.labels(error.model, error.reason).inc()
            if error.reason != "refused":
                raise
            if len(items) == 1:
                self._refused[items[0].item_id] = items[0]
                while len(self._refused) > REFUSED_KEPT:
                    del self._refused[next(iter(self._refused))]
                return 0
            return sum([await self._read([item]) for item in items])
        return await self._writer.note_fits(list(zip(items, scores.tolist(), strict=True)), version)
