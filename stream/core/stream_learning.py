"""Learn to rank from logged lists and the clicks that followed them, in the order of the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.events import ClickEvent, ImpressionEvent
from stream.core.following import AFTER_ALL, Following
from stream.core.learning import OnlineLearner
from stream.core.list_log import LoggedList
from stream.core.running_figures import RunningFigures

LEARNER = "learner"
"""The contestant that learns, beside the versions that served."""
WAITING = 256
"""Lists of one partition that are held until their session has ended; more stay in the topic."""

Score = Callable[[NDArray[Any]], NDArray[np.float32]]


class Held(NamedTuple):
    """A list that waits, and where it lies in its partition."""

    offset: int
    one: LoggedList


class StreamLearner:
    """Join lists with what followed them, score them by every contestant, then learn from them.

    The lists of a partition are taken in their order, each when its session has ended.

    Args:
        clicks_topic: a trigger's offset counts where it lies in this topic.
    """

    def __init__(
        self, learner: OnlineLearner, following: Following, figures: RunningFigures, clicks_topic: str
    ) -> None:
        self.learner = learner
        self.following = following
        self.figures = figures
        self._clicks_topic = clicks_topic
        self._held: dict[int, deque[Held]] = {}
        self.contestants: Mapping[str, Score] = {}
        """Versions that served, by name: asked about every list beside the learner."""
        self.outcomes: dict[str, int] = {"learnt": 0, "no_target": 0, "no_candidate": 0, "other_features": 0}

    def take_click(self, event: ClickEvent | ImpressionEvent) -> None:
        """Note what a shopper did."""
        source, session = event.source, ""
        items: tuple[str, ...] = ()
        if isinstance(event, ClickEvent):
            session = event.session_id or ""
            if event.event_type != "remove_from_cart":
                items = tuple(line.item_id for line in event.lines)
        self.following.touched(source.partition, event.user_id, event.at_ms, source.offset, items, session)

    def take_list(self, partition: int, offset: int, one: LoggedList) -> None:
        """Hold a list until its session has ended."""
        self._held.setdefault(partition, deque()).append(Held(offset, one))

    def wants_lists(self, partition: int) -> bool:
        """Whether more lists of a partition may be held."""
        return len(self._held.get(partition, ())) < WAITING

    def wants_clicks(self, partition: int) -> bool:
        """Whether the lists that are held need later clicks than those that were read."""
        held = self._held.get(partition)
        if not held:
            return True
        oldest_ms = held[0].one.trigger.event_time
        return self.following.clock_ms(partition) < oldest_ms + 2 * self.following.longest_ms()

    def oldest(self, partition: int) -> int | None:
        """The offset of the first list of a partition that is held; None where none is."""
        held = self._held.get(partition)
        return held[0].offset if held else None

    def work(self) -> int:
        """Learn from every list whose session has ended; return how many lists are done with."""
        done = 0
        for held in self._held.values():
            while held and self._settle(held[0].one):
                trigger = held.popleft().one.trigger
                self.following.forget(trigger.partition, trigger.event_time - self.following.longest_ms())
                done += 1
        self.following.forget_idle(lambda partition: bool(self._held.get(partition)))
        return done

    def _settle(self, one: LoggedList) -> bool:
        """Take one list; False where its session still goes on."""
        trigger = one.trigger
        offset = trigger.offset if trigger.topic == self._clicks_topic else AFTER_ALL
        followed = self.following.after(trigger.partition, one.user_id, trigger.event_time, offset)
        if followed is None:
            return False
        if followed.item_id is None:
            self.outcomes["no_target"] += 1
        elif tuple(one.features) != self.learner.features:
            self.outcomes["other_features"] += 1
        else:
            self._learn(one, followed.item_id)
        return True

    def _learn(self, one: LoggedList, target: str) -> None:
        fits = np.ones(len(one.items), np.bool_)
        fits[one.seen] = False
        places = [place for place in np.flatnonzero(fits).tolist() if one.items[place] == target]
        if not places:
            self.outcomes["no_candidate"] += 1
            self.figures.add(one.user_id, dict.fromkeys((LEARNER, *self.contestants), 0))
            return
        rows = one.table()[fits].astype(np.float32)
        right = int(fits[: places[0]].sum())
        ranks = {name: _rank(score(rows), right) for name, score in self.contestants.items()}
        ranks[LEARNER] = _rank(self.learner.score(rows), right)
        self.figures.add(one.user_id, ranks)
        self.learner.learn(rows, right)
        self.outcomes["learnt"] += 1


def _rank(scores: NDArray[np.float32], right: int) -> int:
    """The place of the right candidate, from 1; of those with the same score the last."""
    return int((scores >= scores[right]).sum())
