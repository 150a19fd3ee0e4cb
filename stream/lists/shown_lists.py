"""Which shoppers see an item: the newest list of each of this worker's shoppers, and an index into them.

Bounded: of more shoppers than `limit` those whose list is oldest are forgotten, and what is withdrawn stays
in their lists until their next event. A list is kept as compressed bytes, about 1 KB for one of 20 items.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from stream.core.events import RecommendationList
from stream.telemetry.metrics import Telemetry

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RecommendationList)


class ShownList(NamedTuple):
    """One shopper's newest list. `read_back`: it comes from the topic, not from this worker's own doing."""

    made: RecommendationList
    read_back: bool


class _Entry(NamedTuple):
    data: bytes
    item_ids: tuple[str, ...]
    sequence: int
    source: tuple[str, int]
    expires_ms: int
    read_back: bool


class ShownLists:
    """The lists that stand, by shopper and by item.

    Args:
        limit: most shoppers.
        stands: whether an item may be shown at all; a list with one that may not is stale at once.
        now_s: a clock that never goes back, for how long lists were stale.

    A list that may show what it must not is stale until `take` gives it out. `stale` is set while any is.
    """

    def __init__(
        self, limit: int, stands: Callable[[str], bool], now_s: Callable[[], float], telemetry: Telemetry
    ) -> None:
        self._limit = limit
        self._stands = stands
        self.now_s = now_s
        self._telemetry = telemetry
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._shoppers: dict[str, dict[str, None]] = {}
        self._since_s: dict[str, float] = {}
        self.stale = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def item_ids(self) -> Iterable[str]:
        """The items that stand in any list."""
        return self._shoppers.keys()

    def shows(self, item_id: str) -> bool:
        """Whether an item stands in any list."""
        return item_id in self._shoppers

    def put(self, made: RecommendationList, *, read_back: bool = False) -> None:
        """Take in a list that was just published, or is about to be; a lower sequence changes nothing."""
        known = self._entries.get(made.user_id)
        if known is not None and known.sequence >= made.sequence:
            return
        self.forget(made.user_id)
        item_ids = tuple(dict.fromkeys(item.item_id for item in made.items))
        if not item_ids:
            return
        self._entries[made.user_id] = _Entry(
            zlib.compress(_encoder.encode(made), 1),
            item_ids,
            made.sequence,
            (made.trigger.topic, made.trigger.partition),
            made.expires_at,
            read_back,
        )
        for item_id in item_ids:
            self._shoppers.setdefault(item_id, {})[made.user_id] = None
        while len(self._entries) > self._limit:
            self.forget(next(iter(self._entries)))
            self._telemetry.shown_lists_forgotten.inc()
        self._telemetry.shown_lists.set(len(self._entries))
        if made.user_id in self._entries and not all(map(self._stands, item_ids)):
            self._mark([made.user_id])

    def forget(self, user_id: str) -> None:
        """Drop a shopper's list; nothing happens where there is none."""
        entry = self._entries.pop(user_id, None)
        self._since_s.pop(user_id, None)
        for item_id in entry.item_ids if entry else ():
            shoppers = self._shoppers[item_id]
            shoppers.pop(user_id, None)
            if not shoppers:
                del self._shoppers[item_id]

    def keep_only(self, owns: Callable[[str, int], bool]) -> None:
        """Forget the shoppers whose last event lay in a topic's partition that is somebody else's now."""
        for user_id in [user for user, entry in self._entries.items() if not owns(*entry.source)]:
            self.forget(user_id)
        self._telemetry.shown_lists.set(len(self._entries))

    def recheck(self, item_ids: Iterable[str]) -> None:
        """Say that lists may show these items no longer."""
        for item_id in item_ids:
            self._mark(self._shoppers.get(item_id, ()))

    def take(self, limit: int, now_ms: int) -> list[tuple[ShownList, float]]:
        """Give out stale lists, the longest waiting first, each with the time since when; expired ones go."""
        taken: list[tuple[ShownList, float]] = []
        while self._since_s and len(taken) < limit:
            user_id = next(iter(self._since_s))
            since_s = self._since_s.pop(user_id)
            entry = self._entries[user_id]
            if entry.expires_ms <= now_ms:
                self.forget(user_id)
                continue
            made = _decoder.decode(zlib.decompress(entry.data))
            taken.append((ShownList(made, entry.read_back), since_s))
        if not self._since_s:
            self.stale.clear()
        return taken

    def give_back(self, taken: Sequence[tuple[ShownList, float]]) -> None:
        """Have lists given out once more: nothing could be done about them."""
        for shown, since_s in taken:
            if shown.made.user_id in self._entries:
                self._since_s.setdefault(shown.made.user_id, since_s)
        if self._since_s:
            self.stale.set()

    def _mark(self, user_ids: Iterable[str]) -> None:
        now_s = self.now_s()
        for user_id in user_ids:
            self._since_s.setdefault(user_id, now_s)
        if self._since_s:
            self.stale.set()
