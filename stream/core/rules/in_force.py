"""The rules that hold for one list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream.core.items import BoolArray, FloatArray, IntArray, Item
from stream.core.rules.bought import Bought
from stream.core.rules.cap import Cap
from stream.core.rules.pin import Pin


class Bar(NamedTuple):
    """A rule that keeps items out: by slot, whether it does [capacity]."""

    rule: str
    items: BoolArray


class Push(NamedTuple):
    """A rule that moves scores: by slot, whether it does [capacity], and by how much."""

    rule: str
    items: BoolArray
    by: float


class InForce(NamedTuple):
    """What a shop demands of one list, of all its rules those for this moment, placement and shopper."""

    bars: tuple[Bar, ...] = ()
    pushes: tuple[Push, ...] = ()
    caps: tuple[Cap, ...] = ()
    pins: tuple[Pin, ...] = ()
    """By place, of one place those first that come first by id."""
    cycles: tuple[Bought, ...] = ()

    def barred(self, slots: IntArray) -> BoolArray:
        """Which of some slots [n] a rule keeps out of the list."""
        out = np.zeros(len(slots), np.bool_)
        for bar in self.bars:
            out |= bar.items[slots]
        return out

    def barred_by(self, slot: int) -> str:
        """The rule that keeps a slot's item out, "" where none does."""
        return next((bar.rule for bar in self.bars if bar.items[slot]), "")

    def pushed(self, slots: IntArray) -> FloatArray:
        """What the rules add to the scores of some slots [n]."""
        by = np.zeros(len(slots), np.float32)
        for push in self.pushes:
            by += np.float32(push.by) * push.items[slots]
        return by

    def pushes_on(self, slot: int) -> dict[str, float]:
        """What each rule adds to the score of a slot's item."""
        return {push.rule: push.by for push in self.pushes if push.items[slot]}

    def days_until_again(self, item: Item | None, default: float) -> float:
        """How many days a bought item stays away; `default` where no rule says so."""
        said = [(rule.where.specificity, rule.days) for rule in self.cycles if item and rule.concerns(item)]
        return max(said)[1] if said else default


NO_RULES = InForce()
