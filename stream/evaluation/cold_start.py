"""How new items fare in lists: whether they are shown, how soon, and how often they are found when wanted."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.items import FloatArray
from stream.core.listing import Composed, compose
from stream.core.policy import DAY_MS, HOUR_MS, Policy
from stream.core.rules.in_force import NO_RULES
from stream.evaluation.intervals import Bootstrap
from stream.evaluation.replay import ListAsked

NEW_DAYS = 7.0
"""An item is new for so long after the log first shows it."""
RESAMPLES = 2_000


class NewItems:
    """Counts what the lists that are measured do with items younger than a week.

    Each list is also composed without exploration, from the same candidates and scores. An item that joined
    the catalogue before the first of these lists is counted among the shown and wanted, but says nothing of
    how soon a new one is shown.
    """

    def __init__(self, policy: Policy) -> None:
        calm = msgspec.structs.replace(policy.exploration, slots=0)
        self._calm = msgspec.structs.replace(policy, exploration=calm)
        self._places = self._lists = 0
        self._new_places = self._explored_new_places = self._with_new = self._calm_new_places = 0
        self._wanted: list[tuple[str, bool, bool]] = []
        """Of lists that wanted a new item: the session, whether the list held it, whether it did calmly."""
        self._first_ms = 0
        self._shown_after_ms: dict[str, int] = {}
        self._arrived: set[str] = set()
        self._known = 0

    def watch(self, asked: ListAsked, scores: FloatArray, made: Composed) -> None:
        """Take in a list, see `stream.evaluation.next_item.Watch`."""
        context, candidates = asked.context, asked.candidates
        items, at_ms = context.items, context.at_ms
        since_ms = at_ms - NEW_DAYS * DAY_MS
        self._first_ms = self._first_ms or at_ms
        calm = compose(context, candidates, scores, self._calm, NO_RULES, 0)
        chosen, calmly = (candidates.slots[[one.position for one in of.chosen]] for of in (made, calm))
        new = items.first_seen_ms[chosen] >= since_ms
        self._lists += 1
        self._places += len(chosen)
        self._new_places += int(new.sum())
        self._calm_new_places += int((items.first_seen_ms[calmly] >= since_ms).sum())
        self._explored_new_places += sum(
            one.explored for one, is_new in zip(made.chosen, new, strict=True) if is_new
        )
        self._with_new += bool(new.any())
        target = items.slot(asked.target)
        if target is not None and items.first_seen_ms[target] >= since_ms:
            held = bool((chosen == target).any()), bool((calmly == target).any())
            self._wanted.append((asked.session.session_id, *held))
        for slot in chosen[new].tolist():
            arrived_ms = int(items.first_seen_ms[slot])
            if arrived_ms > self._first_ms:
                self._shown_after_ms.setdefault(items.at(slot).item_id, at_ms - arrived_ms)
        if len(items) != self._known:
            self._known = len(items)
            fresh = np.flatnonzero(items.first_seen_ms > self._first_ms)
            self._arrived.update(items.at(slot).item_id for slot in fresh.tolist())

    def figures(self, at: int, seed: int = 0) -> dict[str, Any]:
        """The figures as JSON values; None where there was nothing to count."""
        hours = np.array(list(self._shown_after_ms.values())) / HOUR_MS
        hits = np.array([held for _, *held in self._wanted], np.float64).reshape(-1, 2)
        sessions = np.array([session for session, *_ in self._wanted])
        return {
            "days": NEW_DAYS,
            "share_of_places": _ratio(self._new_places, self._places),
            "share_of_places_explored": _ratio(self._explored_new_places, self._places),
            "share_of_places_without_exploration": _ratio(self._calm_new_places, self._places),
            "share_of_lists_with_one": _ratio(self._with_new, self._lists),
            "share_of_targets": _ratio(len(hits), self._lists),
            "lists_that_wanted_one": len(hits),
            f"hr_at_{at}": _ratio(int(hits[:, 0].sum()), len(hits)),
            f"hr_at_{at}_without_exploration": _ratio(int(hits[:, 1].sum()), len(hits)),
            "intervals": _intervals(at, hits, sessions, seed),
            "arrived": len(self._arrived),
            "arrived_and_shown": _ratio(len(self._shown_after_ms), len(self._arrived)),
            "hours_to_first_list_median": round(float(np.median(hours)), 2) if len(hours) else None,
        }


def _intervals(at: int, hits: NDArray[np.float64], sessions: NDArray[Any], seed: int) -> dict[str, Any]:
    """Of both hit rates and of what exploration adds, by resampled sessions; none without such lists."""
    if not len(hits):
        return {}
    drawn = Bootstrap(hits, sessions, seed, RESAMPLES)
    return {
        f"hr_at_{at}": _bounds(drawn.mean(0).rounded()),
        f"hr_at_{at}_without_exploration": _bounds(drawn.mean(1).rounded()),
        f"hr_at_{at}_added_by_exploration": drawn.difference(0, 1).rounded(),
    }


def _bounds(found: dict[str, float]) -> dict[str, float]:
    return {"low": found["low"], "high": found["high"]}


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
