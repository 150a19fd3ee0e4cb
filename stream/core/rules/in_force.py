"""The rules that hold for one list."""

from __future__ import annotations

from typing import NamedTuple


class InForce(NamedTuple):
    """What a shop demands of one list, of all its rules those for this moment, placement and shopper."""


NO_RULES = InForce()
