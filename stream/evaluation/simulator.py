"""A made-up shop whose shoppers' true rates are known, to test estimates against the truth.

Shoppers are drawn from a fixed number of situations. Each has candidates with scores, and for each item a
true rate of clicks that the scores know only in part. What may be drawn, and how likely, is found by the code
that serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stream.core import exploration
from stream.core.exploration import Floats, Known
from stream.core.policy import Policy
from stream.evaluation.off_policy import Log, LoggedCandidate, LoggedOutcome, showing

CANDIDATES = 24


class Situation(NamedTuple):
    """What is known of the candidates, best first, and the true rate of each [N]."""

    known: Known
    rates: Floats


class Shown(NamedTuple):
    """One list: which situation it was for, which candidates it showed, which of those were clicked."""

    situation: int
    shown: list[int]
    clicked: list[bool]


class Simulator:
    """Situations of shoppers, the same for the same seed."""

    def __init__(self, seed: int, situations: int = 30) -> None:
        random = np.random.default_rng(seed)
        self.situations = [_situation(random) for _ in range(situations)]

    def value(self, policy: Policy) -> float:
        """The true mean number of clicks on a list of a policy."""
        chances = self._showing(policy)
        return float(np.mean([p @ one.rates for p, one in zip(chances, self.situations, strict=True)]))

    def lists(self, policy: Policy, lists: int, seed: int) -> Iterator[Shown]:
        """Show lists of a policy to shoppers, each in a situation drawn at random."""
        random = np.random.default_rng(seed)
        slots = self._slots_of(policy)
        for number in random.integers(len(self.situations), size=lists).tolist():
            shown = set(range(policy.list_length))
            for regular, items, chances in slots[number]:
                at = int(np.searchsorted(chances, random.random(), side="right"))
                if at < len(items):
                    shown ^= {regular, items[at]}
            chosen = sorted(shown)
            rates = self.situations[number].rates[chosen]
            yield Shown(number, chosen, (random.random(len(chosen)) < rates).tolist())

    def log(self, policy: Policy, other: Policy, lists: int, seed: int) -> Log:
        """Lists of a policy as columns, beside what another policy would show."""
        made = list(self.lists(policy, lists, seed))
        chances = [*zip(self._showing(policy), self._showing(other), strict=True)]
        shown, outcome = np.zeros((lists, CANDIDATES), np.bool_), np.zeros((lists, CANDIDATES))
        for number, one in enumerate(made):
            shown[number, one.shown], outcome[number, one.shown] = True, one.clicked
        return Log(
            lists=np.repeat(np.arange(lists), CANDIDATES),
            groups=np.arange(lists),
            scores=np.concatenate([self.situations[one.situation].known.scores for one in made]),
            propensity=np.concatenate([chances[one.situation][0] for one in made]),
            target=np.concatenate([chances[one.situation][1] for one in made]),
            shown=shown.ravel(),
            outcome=outcome.ravel(),
        )

    def lines(self, policy: Policy, lists: int, seed: int) -> Iterator[LoggedOutcome]:
        """The same lists as lines of a log."""
        for number, one in enumerate(self.lists(policy, lists, seed)):
            known = self.situations[one.situation].known
            clicked = dict(zip(one.shown, one.clicked, strict=True))
            propensities = showing(known, policy)
            yield LoggedOutcome(
                list_id=f"{seed}-{number}",
                user_id=f"{seed}-{number}",
                candidates=[
                    LoggedCandidate(
                        item_id=f"item-{item}",
                        score=float(known.scores[item]),
                        propensity=float(propensities[item]),
                        shown=item in clicked,
                        outcome=float(clicked.get(item, False)),
                        clicks=float(known.clicks[item]),
                        showings=float(known.shown[item]),
                        new=bool(known.new[item]),
                    )
                    for item in range(CANDIDATES)
                ],
            )

    @lru_cache(maxsize=10)  # noqa: B019  # lives as long as the test that asks
    def _slots_of(self, policy: Policy) -> list[list[tuple[int, list[int], Floats]]]:
        return [_slots(one.known, policy) for one in self.situations]

    @lru_cache(maxsize=10)  # noqa: B019
    def _showing(self, policy: Policy) -> list[Floats]:
        return [showing(one.known, policy) for one in self.situations]


def _slots(known: Known, policy: Policy) -> list[tuple[int, list[int], Floats]]:
    """Of each slot of a list: its regular item, those of its pool, and up to where each is drawn."""
    listed, spare = list(range(policy.list_length)), np.arange(policy.list_length, len(known.scores))
    return [
        (
            slot.regular,
            slot.pool.tolist(),
            np.cumsum(exploration.chances(slot, known, policy.exploration)),
        )
        for slot in exploration.slots(listed, spare, known.new, policy.exploration)
    ]


def _situation(random: np.random.Generator) -> Situation:
    scores = -np.sort(-random.normal(0.0, 1.0, CANDIDATES))
    clicks = np.where(random.random(CANDIDATES) < 0.7, random.integers(0, 20, CANDIDATES), 0.0)
    new = random.random(CANDIDATES) < 0.3
    appeal = 0.6 * scores + random.normal(0.0, 0.8, CANDIDATES) + 0.8 * new
    rates = 1.0 / (1.0 + np.exp(2.2 - appeal))
    return Situation(Known(scores, clicks, exploration.showings(clicks), new), rates)
