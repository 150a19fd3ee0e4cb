"""What a shopper's session and past say about items, worked out once for the sources and the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.core.context import (
    HISTORY_ROWS,
    NO_HITS,
    NO_ROW,
    SESSION_ROWS,
    Context,
    session_interactions,
    split,
)
from stream.core.events import LATEST_MS
from stream.core.items import FloatArray, IntArray
from stream.core.policy import MINUTE_MS, Policy
from stream.core.signals import GAP_DECAY, REACH, neighbours_at

RECENCY = 0.55
"""What an item of the session counts for co-visitation, to the power of its age in items."""
BACKWARD = 0.5
"""What "came before" counts beside "came after"."""
SHRINK = 10.0
"""Added to popularity under the square roots of the cosine, so that rare items do not win by chance.

These, like those of `stream.core.signals`, did best on Online Retail II among the values tried; they
choose candidates and shape features, whose weights are trained.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What sources look at: `session` and `before` are distinct items of the two, each newest first."""

    context: Context
    policy: Policy
    session: list[str]
    before: list[str]
    neighbours: Neighbours
    history: History

    @property
    def recent(self) -> list[str]:
        """The session's items whose rows were read."""
        return self.session[:SESSION_ROWS]


def evidence(context: Context, policy: Policy) -> Evidence:
    """Work out what is known of a shopper."""
    session, before = split(context.state, policy)
    neighbours = Neighbours(context, session[:SESSION_ROWS], before[:HISTORY_ROWS])
    return Evidence(context, policy, session, before, neighbours, History(context, session, policy))


class Neighbours:
    """The rows of signals laid over one another: each entry is one row's weights for one neighbour."""

    def __init__(self, context: Context, recent: list[str], before: list[str]) -> None:
        self._context = context
        self._session_rows = len(recent)
        self.row_items = row_items = recent + before
        views = [context.rows.get(item_id, NO_ROW) for item_id in row_items] or [NO_ROW]
        own = np.array([view.popularity for view in views[: len(row_items)]], np.float32)
        self.popularity = neighbours_at(own, context.at_ms)
        self._slots = np.concatenate([view.slots for view in views])
        self._row = np.repeat(np.arange(len(views)), [len(view.slots) for view in views])
        self._forward = neighbours_at(np.concatenate([view.forward for view in views]), context.at_ms)
        self._backward = neighbours_at(np.concatenate([view.backward for view in views]), context.at_ms)

    def of_session(self, limit: int) -> IntArray:
        """The session's neighbours with the best recency weighted cosine, in no order."""
        return self._best(slice(0, self._session_rows), RECENCY, limit)

    def of_past(self, limit: int) -> IntArray:
        """The neighbours with the best cosine to what came before the session, in no order."""
        return self._best(slice(self._session_rows, len(self.row_items)), 1.0, limit)

    def _best(self, rows: slice, recency: float, limit: int) -> IntArray:
        context = self._context
        popularity = self.popularity[rows]
        weights = np.zeros(len(self.popularity), np.float32)
        weights[rows] = recency ** np.arange(len(popularity)) / np.sqrt(popularity + SHRINK)
        entries = slice(*np.searchsorted(self._row, [rows.start, rows.stop]))
        slots, row = self._slots[entries], self._row[entries]
        if not len(slots):
            return NO_HITS.slots
        pull = weights[row] * (self._forward[entries] + BACKWARD * self._backward[entries])
        score = np.bincount(slots, pull)
        found = np.flatnonzero(score * context.items.available[: len(score)])
        own = neighbours_at(context.popularity[found, -1], context.at_ms)
        score = score[found] / np.sqrt(own + SHRINK)
        if len(found) > limit:
            found = found[np.argpartition(-score, limit)[:limit]]
        return found.astype(np.int32)

    def of(self, slots: IntArray, capacity: int) -> tuple[FloatArray, FloatArray]:
        """Forward and backward weights [R, len(slots)] of some slots, 0 where they are no neighbours."""
        column = np.full(capacity, -1, np.int32)
        column[slots] = np.arange(len(slots), dtype=np.int32)
        at = column[self._slots]
        entries = np.flatnonzero(at >= 0)
        row, at = self._row[entries], at[entries]
        forward, backward = np.zeros((2, len(self.row_items), len(slots)), np.float32)
        forward[row, at] = self._forward[entries]
        backward[row, at] = self._backward[entries]
        return forward, backward


class History:
    """What a shopper did before the session, by distinct known item, newest first."""

    def __init__(self, context: Context, session: list[str], policy: Policy) -> None:
        state, slot_of = context.state, context.items.slot
        interactions = state.interactions
        before = interactions[: len(interactions) - len(session_interactions(state, policy))]
        started_ms = interactions[len(before)].at_ms if len(before) < len(interactions) else LATEST_MS
        owned = [o for o in state.owned if o.at_ms < started_ms]
        done = {(i.at_ms, i.item_id) for i in before}
        done.update((o.at_ms, o.item_id) for o in owned)
        place: dict[int, int] = {}
        which: list[int] = []
        times: list[int] = []
        for at_ms, item_id in sorted(done, reverse=True):
            slot = slot_of(item_id)
            if slot is not None:
                which.append(place.setdefault(slot, len(place)))
                times.append(at_ms)
        count = len(place)
        self.slots = np.fromiter(place, np.int32, count)
        entry = np.array(which, np.int64)
        self.touches = np.bincount(entry, minlength=count)
        self.touched_ms = np.zeros(count, np.int64)
        self.touched_ms[entry[::-1]] = times[::-1]  # the newest is written last
        self.bought_ms = np.zeros(count, np.int64)
        for o in owned:
            slot = slot_of(o.item_id)
            if slot is not None:
                self.bought_ms[place[slot]] = o.at_ms
        ages = np.zeros(count)
        for age, item_id in enumerate(session[:SESSION_ROWS]):
            slot = slot_of(item_id)
            if slot in place:
                ages[place[slot]] = RECENCY**age
        self.transition = _transitions(entry, times, ages, policy)

    def places(self, slots: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some slots the shopper touched, and their places in the columns here."""
        if not len(self.slots):
            return _nowhere, _nowhere
        order = np.argsort(self.slots)
        found = np.searchsorted(self.slots, slots, sorter=order)
        place = order[np.minimum(found, len(self.slots) - 1)]
        touched = np.flatnonzero(self.slots[place] == slots)
        return touched, place[touched]


_nowhere = np.zeros(0, np.int64)


def _transitions(
    which: NDArray[np.int64], times: list[int], weights: NDArray[np.float64], policy: Policy
) -> NDArray[np.float64]:
    """How often each of a shopper's items came near the session's, within a session of the past.

    Args:
        which: item of each entry, newest entry first.
        times: epoch ms of each entry.
        weights: of each item, above 0 where the session holds it.

    Pairs count as in `stream.core.signals.increments`, those before the session's item `BACKWARD` as much.
    """
    if not weights.any():
        return np.zeros(len(weights))
    pauses = -np.diff(times) > policy.session_gap_minutes * MINUTE_MS
    position = np.arange(len(times))
    position[1:] += REACH * np.cumsum(pauses)
    line = np.zeros(position[-1] + 1)
    line[position] = weights[which]
    near = np.convolve(line, _kernel, mode="full")[REACH:-REACH]
    return np.bincount(which, near[position], minlength=len(weights)).astype(np.float64)


_decay = GAP_DECAY ** np.arange(REACH)
_kernel = np.concatenate([_decay[::-1], [0.0], BACKWARD * _decay])
"""Around an entry: what came after it lies before it in an order that is newest first."""
