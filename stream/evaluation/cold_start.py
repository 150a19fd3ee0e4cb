"""How new items fare in lists: whether they are shown, how soon, and how often they are found when wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core.items import FloatArray
from stream.core.listing import Composed
from stream.core.policy import DAY_MS, HOUR_MS
from stream.evaluation.replay import ListAsked

NEW_DAYS = 7.0
"""An item is new for so long after it joined the catalogue."""


class NewItems:
    """Counts what the lists that are measured do with items younger than a week.

    An item that joined the catalogue before the first of these lists is counted among the shown and wanted,
    but says nothing of how soon a new one is shown.
    """

    def __init__(self) -> None:
        self._places = self._lists = 0
        self._new_places = self._explored_new_places = self._with_new = 0
        self._hits: list[bool] = []
        self._first_ms = 0
        self._shown_after_ms: dict[str, int] = {}
        self._arrived: set[str] = set()
        self._known = 0

    def watch(self, asked: ListAsked, scores: FloatArray, made: Composed) -> None:
        """Take in a list, see `stream.evaluation.next_item.Watch`."""
        context, slots = asked.context, asked.candidates.slots
        items, at_ms = context.items, context.at_ms
        since_ms = at_ms - NEW_DAYS * DAY_MS
        self._first_ms = self._first_ms or at_ms
        chosen = slots[[one.position for one in made.chosen]]
        new = items.first_seen_ms[chosen] >= since_ms
        self._lists += 1
        self._places += len(chosen)
        self._new_places += int(new.sum())
        self._explored_new_places += sum(
            one.explored for one, is_new in zip(made.chosen, new, strict=True) if is_new
        )
        self._with_new += bool(new.any())
        target = items.slot(asked.target)
        if target is not None and items.first_seen_ms[target] >= since_ms:
            self._hits.append(bool((chosen == target).any()))
        for slot in chosen[new].tolist():
            arrived_ms = int(items.first_seen_ms[slot])
            if arrived_ms > self._first_ms:
                self._shown_after_ms.setdefault(items.at(slot).item_id, at_ms - arrived_ms)
        if len(items) != self._known:
            self._known = len(items)
            fresh = np.flatnonzero(items.first_seen_ms > self._first_ms)
            self._arrived.update(items.at(slot).item_id for slot in fresh.tolist())

    def figures(self, at: int) -> dict[str, Any]:
        """The figures as JSON values; None where there was nothing to count."""
        hours = np.array(list(self._shown_after_ms.values())) / HOUR_MS
        return {
            "days": NEW_DAYS,
            "share_of_places": _ratio(self._new_places, self._places),
            "share_of_places_explored": _ratio(self._explored_new_places, self._places),
            "share_of_lists_with_one": _ratio(self._with_new, self._lists),
            "lists_that_wanted_one": len(self._hits),
            f"hr_at_{at}": _ratio(sum(self._hits), len(self._hits)),
            "arrived": len(self._arrived),
            "arrived_and_shown": _ratio(len(self._shown_after_ms), len(self._arrived)),
            "hours_to_first_list_median": round(float(np.median(hours)), 2) if len(hours) else None,
        }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
