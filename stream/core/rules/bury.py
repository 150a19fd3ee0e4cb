"""Move items down."""

from __future__ import annotations

from stream.core.rules.boost import Strength
from stream.core.rules.rule import Rule


class Bury(Rule, tag="bury", frozen=True, kw_only=True):
    """Candidates that match score lower; they still fill up a list that nothing else fills."""

    stage = "push"
    names_items = True

    strength: Strength = 1.0
    """What is taken off the score, in the unit of `Boost.strength`."""

    @property
    def push(self) -> float:
        """What is added to the score."""
        return -self.strength
