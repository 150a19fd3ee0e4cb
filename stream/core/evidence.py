"""What a shopper's session and past say about items, worked out once for the sources and the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.context import (
    NO_HITS,
    NO_ROW,
    SESSION_RECENCY,
    SESSION_ROWS,
    Context,
    distinct_items,
    session_interactions,
)
from stream.core.events import LATEST_MS
from stream.core.items import FloatArray, IntArray
from stream.core.policy import DAY_MS, MINUTE_MS, Policy
from stream.core.signals import BACKWARD as BACKWARD
from stream.core.signals import (
    GAP_DECAY,
    NEAR,
    NEIGHBOUR_DAYS,
    POPULARITY_DAYS,
    REACH,
    RECENT_DAYS,
    neighbours_at,
)
from stream.core.state import Interaction

RECENCY = 0.55
"""What an item of the session counts for co-visitation, to the power of its age in items."""
SHRINK = 10.0
"""Added to popularity under the square roots of the cosine, so that rare items do not win by chance.

These, like those of `stream.core.signals`, did best on Online Retail II among the values tried; they
choose candidates and shape features, whose weights are trained.
"""
ALONE = 0.1
"""What a past session counts that shares no more than one item with this one."""
UNKNOWN_DAYS = 30.0
"""Taken as the time between two sessions of a shopper of whom only one is known."""
FOLLOWING_SHRINK = 5.0
"""Added to all that came right after an item, so that little says little."""
RECENCY_BY_AGE: FloatArray = np.float32(RECENCY) ** np.arange(SESSION_ROWS, dtype=np.float32)
"""What items of the session count for co-visitation, newest first."""
SESSION_RECENCY_BY_AGE: FloatArray = np.float32(SESSION_RECENCY) ** np.arange(SESSION_ROWS, dtype=np.float32)
"""What they count where it fades more slowly."""
_exact_recency_by_age = RECENCY ** np.arange(SESSION_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What sources look at: `session` are its distinct items, newest first."""

    context: Context
    policy: Policy
    session: list[str]
    neighbours: Neighbours
    history: History

    @property
    def recent(self) -> list[str]:
        """The session's items whose rows were read."""
        return self.session[:SESSION_ROWS]


def evidence(context: Context, policy: Policy) -> Evidence:
    """Work out what is known of a shopper."""
    interactions = session_interactions(context.state, policy)
    session = distinct_items(interactions)
    neighbours = Neighbours(context, session[:SESSION_ROWS])
    return Evidence(context, policy, session, neighbours, History(context, interactions, session, policy))


class Related(NamedTuple):
    """What R rows say of N slots: weights [R, N], 0 where they are no neighbours; the others are [N].

    `recent` is the recency weighted cosine with the session of the last weeks, `following` how much came
    right after the newest item, `following_share` its part of all that did.
    """

    forward: FloatArray
    backward: FloatArray
    recent: FloatArray
    following: FloatArray
    following_share: FloatArray


class Neighbours:
    """The rows of signals laid over one another: each entry is one row's weights for one neighbour."""

    def __init__(self, context: Context, row_items: list[str]) -> None:
        self._context = context
        self.row_items = row_items
        self.row_slots = context.items.slots(row_items)
        views = [context.rows.get(item_id, NO_ROW) for item_id in row_items] or [NO_ROW]
        own = np.array([view.popularity for view in views[: len(row_items)]], np.float32)
        self.popularity = neighbours_at(own, context.at_ms)
        self._slots = np.concatenate([view.slots for view in views])
        self._row = np.repeat(np.arange(len(views)), [len(view.slots) for view in views])
        self._forward = neighbours_at(np.concatenate([view.forward for view in views]), context.at_ms)
        self._backward = neighbours_at(np.concatenate([view.backward for view in views]), context.at_ms)
        self._views = views[: len(row_items)]
        self._companions: FloatArray | None = None

    def of_session(self, limit: int) -> IntArray:
        """The session's neighbours with the best recency weighted cosine, in no order."""
        if not len(self._slots):
            return NO_HITS.slots
        weights = _exact_recency_by_age[: len(self.popularity)] / np.sqrt(self.popularity + SHRINK)
        pull = weights[self._row] * (self._forward + BACKWARD * self._backward)
        return self._lightened(np.bincount(self._slots, pull), limit)

    def companions(self) -> FloatArray:
        """How near items [capacity] came to the session's, in those past sessions that are most like it.

        A past session that a row remembers counts by how many of this session's items were near the row's.
        """
        if self._companions is None:
            self._companions = self._glimpsed()
        return self._companions

    def of_like_sessions(self, limit: int) -> IntArray:
        """The items of most such nearness beside their popularity, in no order."""
        return self._lightened(self.companions(), limit)

    def _glimpsed(self) -> FloatArray:
        context = self._context
        capacity = len(context.items.available)
        if not self._views:
            return np.zeros(capacity, np.float32)
        held = np.zeros(capacity + 1, np.float32)
        ages = SESSION_RECENCY_BY_AGE[: len(self.row_slots)]
        held[[capacity if slot is None else slot for slot in self.row_slots]] = ages
        held[-1] = 0.0  # where nothing is known
        around = np.concatenate([view.around for view in self._views])
        seen_s = np.concatenate([view.seen_s for view in self._views]).astype(np.float32)
        age = np.repeat(ages, [len(view.around) for view in self._views])
        faded = np.exp2(np.minimum((seen_s - np.float32(context.at_ms / 1000)) / _half_life_s, 0.0))
        alike = held[around].sum(axis=1) + ALONE
        pull = (age * faded * alike)[:, None] * _nearness
        found = np.bincount(around.ravel() + 1, pull.ravel(), minlength=capacity + 1)
        return found[1:].astype(np.float32)

    def _lightened(self, score: NDArray[Any], limit: int) -> IntArray:
        """The best of what is available by score [at most capacity] beside popularity, in no order."""
        context = self._context
        found = np.flatnonzero(score * context.items.available[: len(score)])
        own = neighbours_at(context.popularity[found, -1], context.at_ms)
        score = score[found] / np.sqrt(own + SHRINK)
        if len(found) > limit:
            found = found[np.argpartition(-score, limit)[:limit]]
        return found.astype(np.int32)

    def of(self, slots: IntArray) -> Related:
        """What the rows say of some slots."""
        count = len(slots)
        column = np.full(len(self._context.items.available), -1, np.int32)
        column[slots] = np.arange(count, dtype=np.int32)
        at = column[self._slots]
        entries = np.flatnonzero(at >= 0)
        row, at = self._row[entries], at[entries]
        both = np.zeros((2, len(self.row_items) * count), np.float32)
        cells = row * count + at
        both[0, cells] = self._forward[entries]
        both[1, cells] = self._backward[entries]
        forward, backward = both.reshape(2, len(self.row_items), count)
        recent, following = np.zeros((2, count), np.float32)
        share = 0.0
        if self._views:
            recent = np.bincount(at, self._of_month(entries, row), count).astype(np.float32)
            recent /= np.sqrt(self._month_popularity(slots) + np.float32(SHRINK))
            newest = np.searchsorted(row, 1)
            after = neighbours_at(self._views[0].next, self._context.at_ms)
            following[at[:newest]] = after[entries[:newest]]
            share = 1.0 / (float(after.sum()) + FOLLOWING_SHRINK)
        return Related(forward, backward, recent, following, following * np.float32(share))

    def _of_month(self, entries: NDArray[np.intp], row: NDArray[np.intp]) -> NDArray[np.float64]:
        """What entries of the session's rows weigh in the sum of cosines of the last weeks."""
        known = np.array([-1 if slot is None else slot for slot in self.row_slots], np.int32)
        own = np.where(known >= 0, self._month_popularity(known), 0.0)
        scale = _exact_recency_by_age[: len(own)] / np.sqrt(own + SHRINK)
        recent = np.concatenate([view.recent for view in self._views])[entries]
        return scale[row] * neighbours_at(recent, self._context.at_ms, RECENT_DAYS)

    def _month_popularity(self, slots: IntArray) -> FloatArray:
        month = POPULARITY_DAYS.index(RECENT_DAYS)
        return neighbours_at(self._context.popularity[slots, month], self._context.at_ms, RECENT_DAYS)


class History:
    """What a shopper did before the session, by distinct known item, newest first.

    Of each: `bought_ms` and `touched_ms` [M], and `past` [6, M], see `stream.core.candidates.Candidates`.
    """

    def __init__(
        self, context: Context, current: tuple[Interaction, ...], session: list[str], policy: Policy
    ) -> None:
        state, slot_of = context.state, context.items.slot
        before = state.interactions[: len(state.interactions) - len(current)]
        started_ms = current[0].at_ms if current else LATEST_MS
        owned = [o for o in state.owned if o.at_ms < started_ms]
        done = {(i.at_ms, i.item_id) for i in before}
        done.update((o.at_ms, o.item_id) for o in owned)
        newest_first = sorted(done, reverse=True)
        place: dict[int, int] = {}
        which: list[int] = []
        times: list[int] = []
        slots = context.items.slots(item_id for _, item_id in newest_first)
        for (at_ms, _), slot in zip(newest_first, slots, strict=True):
            if slot is not None:
                which.append(place.setdefault(slot, len(place)))
                times.append(at_ms)
        count = len(place)
        self.slots = np.fromiter(place, np.int32, count)
        entry = np.array(which, np.int64)
        self.touched_ms = np.zeros(count, np.int64)
        self.touched_ms[entry[::-1]] = times[::-1]  # the newest is written last
        self.bought_ms = np.zeros(count, np.int64)
        for o in owned:
            slot = slot_of(o.item_id)
            if slot is not None:
                self.bought_ms[place[slot]] = o.at_ms
        visit = _visits(times, policy)
        self.visits = int(visit[-1]) + 1 if count else 0
        self.rhythm_days = (
            (times[0] - times[-1]) / DAY_MS / (self.visits - 1) if self.visits > 1 else UNKNOWN_DAYS
        )
        recent, steady = np.zeros((2, count))
        newest = -1
        for age, item_id in enumerate(session[:SESSION_ROWS]):
            slot = slot_of(item_id)
            if slot in place:
                recent[place[slot]], steady[place[slot]] = RECENCY**age, SESSION_RECENCY**age
                newest = place[slot] if age == 0 else newest
        self.past: FloatArray = np.zeros((6, count), np.float32)
        self.past[0] = np.bincount(entry, minlength=count)
        self.past[1] = _transitions(entry, visit, recent, _around)
        self.past[2] = _transitions(entry, visit, steady, _after)
        if newest >= 0:
            after = (entry[1:] == newest) & (visit[1:] == visit[:-1])
            self.past[3] = np.bincount(entry[:-1][after], minlength=count)
        self.past[4, entry[::-1]] = visit[::-1] + 1
        seen = np.unique(entry * max(self.visits, 1) + visit)
        self.past[5] = np.bincount(seen // max(self.visits, 1), minlength=count)

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


def _visits(times: list[int], policy: Policy) -> NDArray[np.int64]:
    """Which session each entry of a past was in, newest entry first, from 0: a pause parts two."""
    pauses = np.diff(np.array(times, np.int64)) < -int(policy.session_gap_minutes * MINUTE_MS)
    visit = np.zeros(len(times), np.int64)
    visit[1:] = np.cumsum(pauses)
    return visit


def _transitions(
    which: NDArray[np.int64],
    visit: NDArray[np.int64],
    weights: NDArray[np.float64],
    kernel: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How often each of a shopper's items came near the session's, within a session of the past.

    Args:
        which: item of each entry, newest entry first.
        visit: session of each entry, from 0.
        weights: of each item, above 0 where the session holds it.
        kernel: [2 * REACH + 1] what a pair counts by its distance.
    """
    if not weights.any():
        return np.zeros(len(weights))
    position = np.arange(len(which)) + REACH * visit
    line = np.zeros(position[-1] + 1)
    line[position] = weights[which]
    near = np.convolve(line, kernel, mode="full")[REACH:-REACH]
    return np.bincount(which, near[position], minlength=len(weights)).astype(np.float64)


_decay = GAP_DECAY ** np.arange(REACH)
_around = np.concatenate([_decay[::-1], [0.0], BACKWARD * _decay])
"""Around an entry: what came after it lies before it in an order that is newest first."""
_after = np.concatenate([_decay[::-1], np.zeros(REACH + 1)])
_half_life_s = np.float32(NEIGHBOUR_DAYS * DAY_MS / 1000)
_nearness = np.concatenate([BACKWARD * _decay[:NEAR][::-1], _decay[:NEAR]]).astype(np.float32)
"""Of the places of a glimpse."""
