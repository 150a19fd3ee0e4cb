"""Whether a process that has work moves: what `/live` says.

A process is dead where a partition it owns has messages left and nothing of it moves for longer than a stated
time. Moving means that messages are done or that the work on them is tried anew: whoever waits for Redis
tries again and again, and is alive. While Kafka answers nobody, nothing can move and nothing is judged.
Without partitions, or with nothing left in them, a process is alive however long that lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

LONGEST_STEP_S = 5.0
"""Most that counts between two looks: a process that was suspended or starved is not blamed for it."""
AWAY_S = 10.0
"""So long without any answer, Kafka is away; consumers ask twice a second."""


class At(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Standing(NamedTuple):
    """How a partition stands.

    `done` changes whenever something of it is done, `left` counts the messages that wait or are worked on,
    None where nothing was fetched yet. `heard` changes with every answer of the broker about it.
    """

    done: int
    left: int | None
    heard: int


class Work(NamedTuple):
    """What one part of a process has to do, by partition.

    `tries` grows whenever it tries something again, and `waiting_for` says what it waits for, "" for nothing.
    """

    name: str
    partitions: Mapping[At, Standing]
    tries: int = 0
    waiting_for: str = ""


class Progress:
    """Looks at the work of a process now and then, and judges.

    Args:
        clock: seconds that only grow.
        stalled_s: how long a partition with messages left may not move.
    """

    def __init__(self, clock: Callable[[], float], stalled_s: float) -> None:
        self._clock = clock
        self._stalled_s = stalled_s
        self._looked_s = self._heard_s = clock()
        self._heard: frozenset[tuple[str, At, int]] = frozenset()
        self._works: tuple[Work, ...] = ()
        self._signs: dict[tuple[str, At], tuple[int, int]] = {}
        self._unmoved_s: dict[tuple[str, At], float] = {}
        self._waits_s: dict[str, float] = {}

    def look(self, works: Iterable[Work]) -> None:
        """Compare with the last look; to be called often, at best once a second."""
        now_s = self._clock()
        step_s = min(now_s - self._looked_s, LONGEST_STEP_S)
        self._looked_s = now_s
        self._works = tuple(works)
        heard = frozenset(
            (work.name, at, standing.heard)
            for work in self._works
            for at, standing in work.partitions.items()
        )
        if heard - self._heard or not heard:
            self._heard_s = now_s
        self._heard = heard
        signs: dict[tuple[str, At], tuple[int, int]] = {}
        unmoved_s: dict[tuple[str, At], float] = {}
        for work in self._works:
            for at, standing in work.partitions.items():
                key = work.name, at
                signs[key] = standing.done, work.tries
                still = standing.left != 0 and self._signs.get(key) == signs[key] and not self.kafka_away_s
                # What was silent may be away: only time in which Kafka answered somebody counts.
                counts_s = step_s if self._heard_s == now_s else 0.0
                unmoved_s[key] = self._unmoved_s.get(key, 0.0) + counts_s if still else 0.0
        self._signs, self._unmoved_s = signs, unmoved_s
        self._waits_s = {
            work.name: self._waits_s.get(work.name, now_s) for work in self._works if work.waiting_for
        }

    @property
    def kafka_away_s(self) -> float:
        """For how long Kafka has answered nobody, 0 where it answers."""
        silent_s = self._looked_s - self._heard_s
        return silent_s if silent_s >= AWAY_S else 0.0

    @property
    def unmoved_s(self) -> float:
        """The longest that a partition with messages left has not moved."""
        return max(self._unmoved_s.values(), default=0.0)

    def left(self) -> dict[At, int]:
        """The messages left by partition, of those that this process owns or follows."""
        found: dict[At, int] = {}
        for work in self._works:
            for at, standing in work.partitions.items():
                found[at] = found.get(at, 0) + (standing.left or 0)
        return found

    def waiting(self) -> list[str]:
        """What is waited for, as sentences."""
        away_s = self.kafka_away_s
        said = [f"waiting for Kafka, which has not answered for {away_s:.0f} s"] if away_s else []
        return said + [
            f"{work.name}: waiting for {self._looked_s - self._waits_s[work.name]:.0f} s: {work.waiting_for}"
            for work in self._works
            if work.waiting_for
        ]

    def dead(self) -> list[str]:
        """What does not move though it should, as sentences; empty while the process is alive."""
        said = []
        for work in self._works:
            for at, standing in work.partitions.items():
                unmoved_s = self._unmoved_s[work.name, at]
                if unmoved_s > self._stalled_s:
                    left = f"{standing.left} messages left" if standing.left else "nothing fetched yet"
                    said.append(
                        f"{work.name}: {at} has {left} and nothing of it moved for {unmoved_s:.0f} s "
                        f"(telemetry.stalled_s is {self._stalled_s:g}): restart this process"
                    )
        return said
