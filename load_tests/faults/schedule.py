"""When what breaks: a plan that a seed determines."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Terms(NamedTuple):
    """What a plan must know of a kind of fault.

    `lane` names the part that breaks: of one part only one thing is broken at a time. `hold_s` is the
    shortest and the longest time until it is put right.
    """

    lane: str
    hold_s: tuple[float, float]


class Planned(NamedTuple):
    """One fault: when it begins at the earliest, how long it lasts, and which victim it picks (0 up to 1)."""

    at_s: float
    hold_s: float
    kind: str
    pick: float


def plan(seed: int, faults: int, seconds: float, kinds: Mapping[str, Terms]) -> list[Planned]:
    """Spread faults at random over a time, every kind about equally often.

    Those of different lanes may overlap, which is how mixtures come about.

    Returns:
        In the order of their beginning; the same for the same arguments.
    """
    random_ = random.Random(f"{seed}/{faults}/{seconds}/{','.join(sorted(kinds))}")
    drawn: list[str] = []
    while len(drawn) < faults:
        drawn += random_.sample(sorted(kinds), len(kinds))
    planned = [
        Planned(
            at_s=round(random_.uniform(0.0, seconds), 3),
            hold_s=round(random_.uniform(*kinds[kind].hold_s), 3),
            kind=kind,
            pick=random_.random(),
        )
        for kind in drawn[:faults]
    ]
    return sorted(planned)


def by_lane(planned: Sequence[Planned], kinds: Mapping[str, Terms]) -> dict[str, list[Planned]]:
    """The faults of each lane, in order."""
    lanes: dict[str, list[Planned]] = {}
    for one in planned:
        lanes.setdefault(kinds[one.kind].lane, []).append(one)
    return lanes
