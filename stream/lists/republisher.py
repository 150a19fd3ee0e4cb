"""The use case: an item is withdrawn, or a rule keeps it out, and the lists that show it go out without it.

What is left moves up: no model is asked, so that thousands of lists are put right in a second. The list
keeps its trigger and gets a higher sequence by compare-and-set; the shopper's next event makes a full one.
It never takes the place of a list it does not know: the stored sequence must be the one of the list that is
corrected, and `in_order` is held while sequences are reserved and lists are published, here and where events
are handled, so that the broker gets a worker's lists of one shopper in the order of their sequences.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from stream.core.events import RecommendationList
from stream.core.items import Item, ItemTable
from stream.core.listing import category_cap, recommendation_id
from stream.core.policy import Policy
from stream.core.rules.arrange import arrange
from stream.core.state import UserState
from stream.errors import Unavailable
from stream.lists.rules import LiveRules
from stream.lists.shown_lists import ShownList, ShownLists
from stream.ports import Publisher, StateStore
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

BATCH = 64
RETRY_S = 0.5


class Republisher:
    """Put stale lists right.

    Args:
        remember: told of the lists that were published.
        in_order: held by whoever reserves sequences and publishes lists.
        now_ms: the wall clock in epoch ms.
    """

    def __init__(
        self,
        *,
        shown: ShownLists,
        states: StateStore,
        publisher: Publisher,
        remember: Callable[[Sequence[RecommendationList]], Awaitable[None]],
        items: ItemTable,
        rules: LiveRules,
        policy: Policy,
        in_order: asyncio.Lock,
        now_ms: Callable[[], int],
        telemetry: Telemetry,
    ) -> None:
        self._shown = shown
        self._states = states
        self._publisher = publisher
        self._remember = remember
        self._table = items
        self._rules = rules
        self._policy = policy
        self._in_order = in_order
        self._now_ms = now_ms
        self._telemetry = telemetry

    async def work_off(self) -> None:
        """Wait until a list is stale, then put right all that are.

        Raises:
            Unavailable: some are still stale; call again.
        """
        await self._shown.stale.wait()
        while self._shown.stale.is_set():
            await self._some()

    async def _some(self) -> None:
        async with self._in_order:
            taken = self._shown.take(BATCH, self._now_ms())
            try:
                await self._put_right(taken)
            except Unavailable:
                self._shown.give_back(taken)
                raise
            except Exception:
                if len(taken) == 1:
                    raise  # it stays as it is until the shopper's next event
                self._shown.give_back(taken[1:])
                await self._put_right(taken[:1])

    async def _put_right(self, taken: Sequence[tuple[ShownList, float]]) -> None:
        states = await self._states.load([shown.made.user_id for shown, _ in taken])
        due: list[tuple[RecommendationList, UserState, tuple[ShownList, float]]] = []
        for one in taken:
            shown = one[0]
            state = states[shown.made.user_id]
            if not _is_newest(shown, state):
                # Made by another worker, or erased: not this worker's to correct.
                self._shown.forget(state.user_id)
                continue
            made = self._without(shown.made, state)
            if made is not None:
                due.append((made, state, one))
        if not due:
            return
        saved = await self._states.save(
            [(state._replace(sequence=made.sequence), state.sequence) for made, state, _ in due]
        )
        self._shown.give_back([one for (_, _, one), done in zip(due, saved, strict=True) if not done])
        kept = [(made, since_s) for (made, _, (_, since_s)), done in zip(due, saved, strict=True) if done]
        for made, _ in kept:
            self._shown.put(made)
        await self._publish([made for made, _ in kept])
        now_s = self._shown.now_s()
        for _, since_s in kept:
            self._telemetry.republished.inc()
            self._telemetry.republish.observe(max(0.0, now_s - since_s))

    async def _publish(self, lists: Sequence[RecommendationList]) -> None:
        """Publish what has its sequences reserved; a broker that is away is waited for."""
        while True:
            try:
                await self._publisher.publish_lists(lists)
                break
            except Unavailable as error:
                log.warning("%d corrected lists wait: %s", len(lists), error)
                await asyncio.sleep(RETRY_S)
        with suppress(Unavailable):  # what follows is then not joined to these lists
            await self._remember(lists)

    def _without(self, made: RecommendationList, state: UserState) -> RecommendationList | None:
        """The list without what may not be shown, None where all of it may."""
        table, now_ms = self._table, self._now_ms()
        rules = self._rules.book.in_force(now_ms, made.placement, made.segment, state)
        stand: list[Item] = []
        barred: dict[str, int] = {}
        for one in made.items:
            slot, item = table.slot(one.item_id), table.get(one.item_id)
            if slot is None or item is None or not table.available[slot]:
                continue
            if rule := rules.barred_by(slot):
                barred[rule] = barred.get(rule, 0) + 1
            else:
                stand.append(item)
        if len(stand) == len(made.items):
            return None
        there = {item.item_id for item in stand}
        pins = [pin for pin in rules.pins if pin.item_id in there]
        caps = (*rules.caps, category_cap(self._policy.max_per_category))
        arranged = arrange(stand, pins, caps, len(stand), lambda item_id: "it is not in the list")
        by_id = {one.item_id: one for one in made.items}
        items = [
            replace(by_id[stand[at].item_id], rank=rank) for rank, at in enumerate(arranged.places, start=1)
        ]
        said = [f"{rule}: took {count} items out of a list that stood" for rule, count in barred.items()]
        sequence = max(state.sequence + 1, now_ms)
        return replace(
            made,
            recommendation_id=recommendation_id(made.user_id, sequence),
            sequence=sequence,
            generated_at=now_ms,
            items=items,
            degraded=made.degraded if items else [*made.degraded, "empty"],
            warnings=[*made.warnings, *said, *arranged.warnings],
        )


def _is_newest(shown: ShownList, state: UserState) -> bool:
    """Whether no other list of the shopper can be newer.

    A list that was read back from the topic's end may be older than the state: whoever saved that died
    before publishing. The event it was for comes again and leads to a list with a yet higher sequence.
    """
    if state.erased_ms >= shown.made.generated_at:
        return False
    if shown.read_back:
        return state.sequence >= shown.made.sequence
    return state.sequence == shown.made.sequence
