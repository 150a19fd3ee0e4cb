"""All rules of a shop, ready to say which hold for a list."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import numpy as np

from stream.core.items import BoolArray, IntArray, Item, ItemTable
from stream.core.rules import AnyRule
from stream.core.rules.boost import Boost
from stream.core.rules.bought import Bought
from stream.core.rules.bury import Bury
from stream.core.rules.cap import Cap
from stream.core.rules.in_force import NO_RULES, Bar, InForce, Push
from stream.core.rules.pin import Pin
from stream.core.state import UserState


class _Mask:
    """On which slots a rule acts [capacity], and as of which edition of the catalogue."""

    def __init__(self) -> None:
        self.items: BoolArray = np.zeros(0, np.bool_)
        self.edition = -1

    def catch_up(self, rule: AnyRule, table: ItemTable, changed: IntArray) -> None:
        """Look at the slots that changed; a rule that names items needs to look at those only."""
        if more := len(table.available) - len(self.items):
            self.items = np.concatenate([self.items, np.zeros(more, np.bool_)])
        self.items[changed] = False
        named = [slot for item_id in rule.where.item_ids if (slot := table.slot(item_id)) is not None]
        for slot in named if rule.where.item_ids else changed.tolist():
            item = table.occupant(slot)
            self.items[slot] = item is not None and rule.concerns(item)
        self.edition = table.edition


class RuleBook:
    """The rules of a shop on its catalogue.

    Which items each rule acts on is kept by slot and brought up to date for those items that changed, so
    that a list costs a few look-ups however much there is to read. One byte a rule and slot.

    Args:
        before: a book whose work on the rules that stay need not be done again.
    """

    def __init__(
        self, items: ItemTable, rules: Iterable[AnyRule] = (), before: RuleBook | None = None
    ) -> None:
        self._items = items
        self.rules: tuple[AnyRule, ...] = tuple(sorted(rules, key=attrgetter("id")))
        known = {id(rule): mask for rule, mask in before._masks} if before else {}
        self._masks: list[tuple[AnyRule, _Mask]] = [
            (rule, known.get(id(rule)) or _Mask()) for rule in self.rules if rule.stage in ("bar", "push")
        ]

    def catch_up(self) -> None:
        """Look at the items that changed; done before every list, and at once where much has changed."""
        table = self._items
        changed: dict[int, IntArray] = {}
        for rule, mask in self._masks:
            if mask.edition != table.edition:
                if mask.edition not in changed:
                    newer = np.flatnonzero(table.changed_at > mask.edition)
                    changed[mask.edition] = newer.astype(np.int32)
                mask.catch_up(rule, table, changed[mask.edition])

    def in_force(self, at_ms: int, placement: str, segment: str, state: UserState) -> InForce:
        """The rules that hold for a list of one shopper at one time, in epoch ms."""
        if not self.rules:
            return NO_RULES
        self.catch_up()
        held = {
            rule.id
            for rule in self.rules
            if (not rule.placements or placement in rule.placements)
            and rule.schedule.holds(at_ms)
            and rule.audience.includes(segment, state, self._items)
        }
        rules = [rule for rule in self.rules if rule.id in held]
        masks = [(rule, mask.items) for rule, mask in self._masks if rule.id in held]
        return InForce(
            bars=tuple(Bar(rule.id, mask) for rule, mask in masks if rule.stage == "bar"),
            pushes=tuple(
                Push(rule.id, mask, rule.push) for rule, mask in masks if isinstance(rule, Boost | Bury)
            ),
            caps=tuple(rule for rule in rules if isinstance(rule, Cap)),
            pins=tuple(sorted((rule for rule in rules if isinstance(rule, Pin)), key=attrgetter("position"))),
            cycles=tuple(rule for rule in rules if isinstance(rule, Bought)),
        )

    def bars(self, item: Item) -> bool:
        """Whether any rule may keep an item out of some list."""
        return any(rule.stage == "bar" and rule.concerns(item) for rule in self.rules)

    def scheduled(self, at_ms: int) -> frozenset[str]:
        """The rules whose schedule holds at a time, whatever else they ask for."""
        return frozenset(rule.id for rule in self.rules if rule.schedule.holds(at_ms))
