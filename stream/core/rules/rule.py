"""What all rules have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from stream.core.items import Item
from stream.core.rules.audience import EVERYBODY, Audience
from stream.core.rules.matching import EVERYTHING, Match, Word
from stream.core.rules.schedule import ALWAYS, Schedule

Stage = Literal["bar", "push", "cap", "pin", "cycle"]
"""Where a rule acts: it keeps items out, moves their scores, limits or places them, or bars the bought."""

RuleId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Rule(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
):
    """A demand on lists. Each kind is a subclass in a file of its own, and is named in `AnyRule`."""

    stage: ClassVar[Stage]
    names_items: ClassVar[bool] = False  # whether `where` has to: by a slip the rule would hold for all items

    id: RuleId
    """Names the rule; a later one of the same id takes its place."""
    where: Match = EVERYTHING
    """The items it is about."""
    placements: tuple[Word, ...] = ()
    """The places on the site whose lists it holds for; all where none is given."""
    audience: Audience = EVERYBODY
    """The shoppers it holds for."""
    schedule: Schedule = ALWAYS
    """When it holds."""
    note: Annotated[str, Meta(max_length=1_000)] = ""
    """For people; nothing reads it."""

    def __post_init__(self) -> None:
        if self.names_items and self.where == EVERYTHING:
            raise ValueError("where: names no items, so the rule would hold for all of the catalogue")

    def concerns(self, item: Item) -> bool:
        """Whether it acts on an item."""
        return self.where.holds(item)
