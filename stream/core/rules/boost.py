"""Move items up."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.core.rules.rule import Rule

Strength = Annotated[float, Meta(gt=0, le=100)]


class Boost(Rule, tag="boost", frozen=True, kw_only=True):
    """Candidates that match score higher; it brings no item into a list that is no candidate."""

    stage = "push"
    names_items = True

    strength: Strength = 1.0
    """What is added to the score. Scores are log odds: 0.7 doubles an item's chance, 2.3 gives it tenfold."""

    @property
    def push(self) -> float:
        """What is added to the score."""
        return self.strength
