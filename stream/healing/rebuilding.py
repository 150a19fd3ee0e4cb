"""The use case: fold events into the stored states again, beside running workers. Ports only.

Only what the workers have done may be folded here: an event that they come to later would find itself
known, and teach nothing about items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream.core.events import Event, ImpressionEvent, decode_click, decode_search
from stream.core.policy import Policy
from stream.core.state import apply
from stream.errors import InvalidMessage, StateUnavailable
from stream.ports import RawMessage, StateStore

CONFLICT_ROUNDS = 20


class Rebuilder:
    """Fold messages that workers have acknowledged, and count what that put right.

    Args:
        searches_topic: messages of this topic are searches, all others are clicks.
        user_id: the only shopper that counts; None for all.
        dry_run: save nothing.
        now_ms: the wall clock in epoch milliseconds.
    """

    def __init__(
        self,
        states: StateStore,
        policy: Policy,
        *,
        searches_topic: str,
        user_id: str | None,
        dry_run: bool,
        now_ms: Callable[[], int],
    ) -> None:
        self._states = states
        self._policy = policy
        self._searches_topic = searches_topic
        self._user_id = user_id
        self._dry_run = dry_run
        self._now_ms = now_ms
        self.events = 0
        self.invalid = 0
        self.repaired: set[str] = set()
        """The shoppers whose state lacked something."""

    async def fold(self, messages: Sequence[RawMessage]) -> None:
        """Fold messages into the states; whoever changes one meanwhile has it folded again.

        Raises:
            StateUnavailable: Redis did not answer; folding again does no harm.
        """
        waiting = self._events(messages)
        for _ in range(CONFLICT_ROUNDS):
            if not waiting:
                return
            changed = []
            for user_id, before in (await self._states.load(list(waiting))).items():
                after = before
                for event in waiting[user_id]:
                    after = apply(after, event, self._policy)
                if after is not before:
                    self.repaired.add(user_id)
                    sequence = max(before.sequence + 1, self._now_ms())
                    changed.append((after._replace(sequence=sequence), before.sequence))
            if self._dry_run:
                return
            saved = await self._states.save(changed)
            waiting = {
                state.user_id: waiting[state.user_id]
                for (state, _), done in zip(changed, saved, strict=True)
                if not done
            }
        if waiting:
            raise StateUnavailable(f"{len(waiting)} states were changed by workers {CONFLICT_ROUNDS} times")

    def _events(self, messages: Sequence[RawMessage]) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = {}
        for message in messages:
            is_search = message.source.topic == self._searches_topic
            try:
                event = (decode_search if is_search else decode_click)(*message[:3])
            except InvalidMessage:
                self.invalid += 1
                continue
            if isinstance(event, ImpressionEvent) or self._user_id not in (None, event.user_id):
                continue
            self.events += 1
            events.setdefault(event.user_id, []).append(event)
        return events
