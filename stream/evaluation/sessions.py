"""Sessions of shoppers as every kind of log gives them: what is replayed and measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from stream.core.events import EventType
from stream.core.policy import MINUTE_MS


class Step(NamedTuple):
    """One thing done to one item; `text` is what the log says of the item, "" where nothing."""

    item_id: str
    at_ms: int
    event_type: EventType = "purchase"
    quantity: int = 1
    price: float | None = None
    text: str = ""


class Session(NamedTuple):
    """One visit or invoice, its steps in order of time; `user_id` is "" for a guest, who never comes back."""

    session_id: str
    user_id: str
    steps: tuple[Step, ...]

    @property
    def minute_ms(self) -> int:
        """The minute in which it began."""
        return _minute(self.steps[0].at_ms)

    @property
    def ended_ms(self) -> int:
        """The minute in which it ended: what it teaches counts from the next one on."""
        return _minute(self.steps[-1].at_ms)

    @property
    def items(self) -> list[str]:
        """The distinct items, in the order of their first step."""
        return list(dict.fromkeys(step.item_id for step in self.steps))

    @property
    def shopper(self) -> str:
        """Who it was: the user, or a guest of this session alone."""
        return self.user_id or f"guest-{self.session_id}"


def in_order(sessions: Iterable[Session]) -> list[Session]:
    """Sort sessions by the minute in which they began; those of one minute stay as they are."""
    return sorted(sessions, key=lambda session: session.minute_ms)


def texts(sessions: Iterable[Session]) -> list[str]:
    """The first text of each item, each once, in order of time: what the encoder has to read."""
    first: dict[str, str] = {}
    for session in sessions:
        for step in session.steps:
            if step.text:
                first.setdefault(step.item_id, step.text)
    return list(dict.fromkeys(first.values()))


def split_by_pauses(session_id: str, user_id: str, steps: Sequence[Step], gap_ms: int) -> list[Session]:
    """Cut a shopper's steps, in order of time, where a pause is longer than the gap."""
    starts = [place for place in range(1, len(steps)) if steps[place].at_ms - steps[place - 1].at_ms > gap_ms]
    bounds = [0, *starts, len(steps)]
    return [
        Session(f"{session_id}-{number}", user_id, tuple(steps[begin:end]))
        for number, (begin, end) in enumerate(pairwise(bounds))
    ]


def _minute(at_ms: int) -> int:
    return at_ms - at_ms % MINUTE_MS
