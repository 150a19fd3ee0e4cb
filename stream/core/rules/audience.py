"""Whom a rule is for."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from stream.core.items import ItemTable
from stream.core.rules.matching import Match, Word
from stream.core.state import UserState

Count = Annotated[int, Meta(ge=0)]


class Audience(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Shoppers, by what events say of them and what is remembered of them; every field given must hold.

    Nothing given is everybody.
    """

    segments: tuple[Word, ...] = ()
    """Shoppers whose newest event names one of these as `context.segment`."""
    min_purchases: Count | None = None
    """Shoppers who are remembered to have bought at least this many different items."""
    max_purchases: Count | None = None
    """Shoppers who are remembered to have bought at most this many different items; 0: nothing yet."""
    min_interactions: Count | None = None
    """Shoppers of whom at least this many interactions are remembered."""
    max_interactions: Count | None = None
    """Shoppers of whom at most this many interactions are remembered."""
    touched: Match | None = None
    """Shoppers who are remembered to have looked at, or bought, an item that matches."""

    def includes(self, segment: str, state: UserState, items: ItemTable) -> bool:
        """Whether a shopper is meant."""
        if self.segments and segment not in self.segments:
            return False
        if not _between(self.min_purchases, len(state.owned), self.max_purchases):
            return False
        if not _between(self.min_interactions, len(state.interactions), self.max_interactions):
            return False
        if self.touched is None:
            return True
        known = {interaction.item_id for interaction in state.interactions}
        known.update(owned.item_id for owned in state.owned)
        found = (items.get(item_id) for item_id in known)
        return any(item is not None and self.touched.holds(item) for item in found)


EVERYBODY = Audience()


def _between(least: int | None, count: int, most: int | None) -> bool:
    return (least is None or count >= least) and (most is None or count <= most)
