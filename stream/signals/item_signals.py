"""What is learnt about items: increments in, rows in the store, each increment counted once."""

from __future__ import annotations

from collections.abc import Sequence

from stream.core.events import ErrorCode
from stream.core.signals import (
    EMPTY,
    Increment,
    UnreadableSignals,
    decode_increments,
    fold,
)
from stream.errors import StateUnavailable
from stream.healing.marks import Marks
from stream.ports import DeadLetter, Publisher, RawMessage, SignalStore, VersionedSignals
from stream.telemetry.metrics import Telemetry

CONFLICT_ROUNDS = 5


class SignalFolder:
    """Fold messages of `item-signals` into the store.

    Args:
        marks: of the partitions that increments come from; None where nobody keeps any.
    """

    def __init__(
        self, store: SignalStore, publisher: Publisher, telemetry: Telemetry, marks: Marks | None = None
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._telemetry = telemetry
        self._marks = marks

    async def handle(self, messages: Sequence[RawMessage]) -> None:
        """Fold a batch.

        Raises:
            Unavailable: nothing may be acknowledged; give the same batch again, it does no harm.
        """
        letters: list[DeadLetter] = []
        new: dict[str, list[Increment]] = {}
        for message in messages:
            try:
                for taught in decode_increments(message.key, message.value):
                    new.setdefault(taught.item_id, []).extend(taught.increments)
            except UnreadableSignals as error:
                letters.append(DeadLetter(message, ErrorCode.INVALID_INCREMENT, str(error)))
                self._telemetry.dead_letters.labels(message.source.topic, ErrorCode.INVALID_INCREMENT).inc()
        waiting = set(new)
        for _ in range(CONFLICT_ROUNDS):
            if not waiting:
                break
            stored = await self._store.load(sorted(waiting))
            if self._marks:  # a row begun anew would skip what is folded into it again
                await self._marks.check()
            rows = {}
            there = {}
            for item_id in waiting:
                before, version = stored.get(item_id, VersionedSignals(EMPTY, 0))
                after = fold(before, new[item_id])
                there[item_id] = version
                if after is not before:
                    rows[item_id] = VersionedSignals(after, version)
            saved = await self._store.save(rows)
            waiting = {item_id for item_id, done in saved.items() if not done}
            if self._marks:
                self._marks.rely_on(
                    {item: version + (item in rows) for item, version in there.items() if item not in waiting}
                )
        if waiting:
            raise StateUnavailable(f"{len(waiting)} rows were changed by others {CONFLICT_ROUNDS} times")
        await self._publisher.publish_dead_letters(letters)
