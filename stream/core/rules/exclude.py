"""Keep items out of lists."""

from __future__ import annotations

from stream.core.rules.rule import Rule


class Exclude(Rule, tag="exclude", frozen=True, kw_only=True):
    """Items that match are in no list."""

    stage = "bar"
    names_items = True
