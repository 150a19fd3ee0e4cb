"""The rules as one worker knows them: those of the file, and over them those of the topic `rules`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from stream.core.items import ItemTable
from stream.core.rules import AnyRule
from stream.core.rules.book import RuleBook
from stream.core.rules.reading import MAX_RULES, read_message
from stream.errors import InvalidRule
from stream.lists.shown_lists import ShownLists
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)


class LiveRules:
    """What a shop demands now.

    Args:
        written: the rules of the file; one of the same id on the topic takes its place.
        shown: told which items a rule keeps out from now on.
        now_ms: the wall clock in epoch ms, which schedules go by.

    `book` is changed between two lists and never in one.
    """

    def __init__(
        self,
        items: ItemTable,
        written: Iterable[AnyRule],
        shown: ShownLists,
        now_ms: Callable[[], int],
        telemetry: Telemetry,
    ) -> None:
        self._items = items
        self._written = {rule.id: rule for rule in written}
        self._put: dict[str, AnyRule] = {}
        self._shown = shown
        self._now_ms = now_ms
        self._telemetry = telemetry
        self.book = RuleBook(items, self._written.values())
        self._in_time = self.book.scheduled(now_ms())
        telemetry.rules.set(len(self.book.rules))

    def apply(self, changes: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Take in messages of the topic in its order; one that cannot be read is skipped with a warning.

        A rule whose new version cannot be read goes on as it was.
        """
        for key, value in changes:
            if value is None:
                self._put.pop((key or b"").decode(errors="replace"), None)
                continue
            try:
                rule = read_message(key, value)
                if rule.id not in self._put and len(self._put) >= MAX_RULES:
                    raise InvalidRule(f"rule {rule.id}: there are {MAX_RULES} rules already; remove some")
            except InvalidRule as error:
                self._telemetry.rules_skipped.inc()
                log.warning("a rule is skipped: %s", error)
            else:
                self._put[rule.id] = rule
        before = set(map(id, self.book.rules))
        rules = (self._written | self._put).values()
        self.book = RuleBook(self._items, rules, self.book)
        self._telemetry.rules.set(len(self.book.rules))
        self._in_time = self.book.scheduled(self._now_ms())
        self._recheck([rule for rule in self.book.rules if id(rule) not in before])

    async def look_at_the_clock(self) -> None:
        """Act on rules whose time has come; to be called every second or so."""
        self.book.catch_up()
        in_time = self.book.scheduled(self._now_ms())
        self._recheck([rule for rule in self.book.rules if rule.id in in_time - self._in_time])
        self._in_time = in_time

    def recheck(self, item_ids: Iterable[str]) -> None:
        """Have lists looked at that show items which changed and may now be kept out."""
        shown = (item_id for item_id in item_ids if self._shown.shows(item_id))
        self._shown.recheck([item_id for item_id in shown if not self._may_stand(item_id)])

    def _may_stand(self, item_id: str) -> bool:
        item = self._items.get(item_id)
        return item is not None and self._items.offers(item_id) and not self.book.bars(item)

    def _recheck(self, rules: Iterable[AnyRule]) -> None:
        bars = [rule for rule in rules if rule.stage == "bar"]
        if not bars:
            return
        shown = ((item_id, self._items.get(item_id)) for item_id in self._shown.item_ids)
        self._shown.recheck(
            [
                item_id
                for item_id, item in shown
                if item is not None and any(rule.concerns(item) for rule in bars)
            ]
        )
