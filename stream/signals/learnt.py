"""What the worker remembers of the signal store for a short while, so that most lists need no reading."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import numpy as np

from stream.core.candidates import trending
from stream.core.context import Hits
from stream.core.items import FloatArray, ItemTable
from stream.core.signals import NEGLIGIBLE, POPULARITY_DAYS, RowView, view
from stream.ports import SignalStore
from stream.telemetry.metrics import Telemetry

ROWS_KEPT = 20_000
UNKNOWN_KEPT = 100_000
"""Items that are not in the catalogue of which popularity is remembered, for the case that they come."""
ROW_AGE_S = 2.0
"""A row that was read longer ago than this is read again."""


class LearntItems:
    """Rows of signals resolved to slots, the popularity of all items, and what trends.

    Args:
        now_s: a monotonic clock in seconds.
        min_shoppers: neighbours that fewer shoppers brought are not seen.
    """

    def __init__(
        self,
        store: SignalStore,
        items: ItemTable,
        now_s: Callable[[], float],
        min_shoppers: int,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._items = items
        self._now_s = now_s
        self._min_shoppers = min_shoppers
        self._telemetry = telemetry
        self._rows: OrderedDict[str, tuple[float, RowView | None]] = OrderedDict()
        self._generation = items.generation
        self._known: dict[str, FloatArray] = {}
        self._mark = 0
        self._popularity = np.zeros((0, len(POPULARITY_DAYS)), np.float32)
        self.trending = Hits(np.zeros(0, np.int32), np.zeros(0, np.float32))
        self.trending_by_category: Mapping[int, Hits] = {}

    @property
    def popularity(self) -> FloatArray:
        """log2 popularity [capacity of the table, half-lives] by slot, -inf where there is none."""
        self._fit()
        return self._popularity

    async def rows(self, item_ids: Collection[str]) -> dict[str, RowView]:
        """Give the rows of items, reading those that are not remembered in one round trip.

        Raises:
            StateUnavailable: the store is away.
        """
        if self._generation != self._items.generation:
            self._rows.clear()
            self._generation = self._items.generation
        oldest_s = self._now_s() - ROW_AGE_S
        stale = [
            item_id
            for item_id in item_ids
            if (entry := self._rows.get(item_id)) is None or entry[0] < oldest_s
        ]
        self._telemetry.count_lookups("rows", len(item_ids), len(stale))
        if stale:
            stored = await self._store.load(stale)
            for item_id in stale:
                found = stored.get(item_id)
                row = view(found.signals, self._items, self._min_shoppers) if found else None
                self._rows[item_id] = (self._now_s(), row)
                self._rows.move_to_end(item_id)
            while len(self._rows) > ROWS_KEPT:
                self._rows.popitem(last=False)
        return {
            item_id: entry[1]
            for item_id in item_ids
            if (entry := self._rows.get(item_id)) is not None and entry[1] is not None
        }

    async def refresh(self) -> None:
        """Read what changed in popularity, and find what trends; called every second or so.

        Raises:
            StateUnavailable: the store is away.
        """
        changed, self._mark = await self._store.popularity(self._mark)
        self._known.update(changed)
        if len(self._known) > len(self._items) + 2 * UNKNOWN_KEPT:  # seldom, since it looks at all
            unknown = [item_id for item_id in self._known if item_id not in self._items]
            for item_id in unknown[:-UNKNOWN_KEPT]:
                del self._known[item_id]
        self._fit()
        for item_id, popularity in changed.items():
            slot = self._items.slot(item_id)
            if slot is not None:
                self._popularity[slot] = popularity
        self.trending, self.trending_by_category = trending(self._items, self._popularity)

    def place(self, item_id: str) -> None:
        """Set the popularity of an item that joined the table, or that came back under another slot."""
        slot = self._items.slot(item_id)
        if slot is not None:
            self._fit()
            self._popularity[slot] = self._known.get(item_id, NEGLIGIBLE)

    def _fit(self) -> None:
        missing = len(self._items.available) - len(self._popularity)
        if missing:
            more = np.full((missing, len(POPULARITY_DAYS)), NEGLIGIBLE, np.float32)
            self._popularity = np.concatenate([self._popularity, more])
