"""Topics that were deleted and made again: offsets begin anew, and evidence tells one life from another.

What belongs to an earlier life of a topic is named after it, `clicks~0` for the first `clicks`, so that an
offset means one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from faults.publisher import Acknowledged
from stream.core.events import Trigger
from stream.ports import Place, RawMessage


class Former(NamedTuple):
    """What lay in topics before they were deleted, and what was known when the new ones were in use.

    `acknowledged` is how many messages the broker had acknowledged to the shop by then; `lives` are those of
    the partitions that came after (`stream.core.marks.Mark`). Epoch milliseconds.
    """

    events: Sequence[RawMessage]
    acknowledged: int
    deleted_ms: int
    noticed_ms: int
    lives: Mapping[Place, int]


class Lives:
    """All lives of the topics of events.

    Args:
        former: the earlier ones, in their order.
        events: what lies in the topics now.
    """

    def __init__(self, former: Sequence[Former], events: Sequence[RawMessage]) -> None:
        self._former = former
        every = [*(one.events for one in former), events]
        self._at = [{message.source[:3]: message for message in some} for some in every]

    def events(self) -> list[RawMessage]:
        """Of all lives, each named after its own."""
        return [
            message._replace(source=message.source._replace(topic=self._name(message.source.topic, life)))
            for life, at in enumerate(self._at)
            for message in at.values()
        ]

    def numbers(self) -> dict[Place, int]:
        """What the engine calls the lives, by the names of their topics; 0 where it is left out."""
        return {
            (self._name(topic, life), partition): number
            for life, one in enumerate(self._former, start=1)
            for (topic, partition), number in one.lives.items()
        }

    def acknowledged(self, some: Sequence[Acknowledged]) -> Iterator[Acknowledged]:
        """Name what the shop kept, in the order in which it did."""
        for number, one in enumerate(some):
            life = sum(number >= former.acknowledged for former in self._former)
            yield one._replace(topic=self._name(one.topic, life))

    def trigger(self, trigger: Trigger) -> Trigger:
        """Name the topic of a list's trigger: the newest that has such an event in its place."""
        place = trigger.topic, trigger.partition, trigger.offset
        named = trigger.event_id.encode()
        life = self._newest(place, lambda message: message.value is not None and named in message.value)
        return msgspec.structs.replace(trigger, topic=self._name(trigger.topic, life))

    def letter(
        self, source: tuple[str, int, int], key: bytes | None, value: bytes | None
    ) -> tuple[str, int, int]:
        """Name the place of a dead letter: the newest that has such bytes."""
        life = self._newest(source, lambda message: (message.key, message.value) == (key, value))
        return self._name(source[0], life), *source[1:]

    def offsets(self, at_ms: int, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """Name what was committed at a time; nothing while topics were made anew and nobody knew."""
        if any(one.deleted_ms <= at_ms <= one.noticed_ms for one in self._former):
            return {}
        life = sum(at_ms > one.noticed_ms for one in self._former)
        return {(self._name(topic, life), partition): at for (topic, partition), at in offsets.items()}

    def _newest(self, place: tuple[str, int, int], fits: Callable[[RawMessage], bool]) -> int:
        for life in reversed(range(len(self._at))):
            message = self._at[life].get(place)
            if message is not None and fits(message):
                return life
        return len(self._former)

    def _name(self, topic: str, life: int) -> str:
        return topic if life == len(self._former) else f"{topic}~{life}"


def real(topic: str) -> str:
    """The name that a topic has in Kafka."""
    return topic.partition("~")[0]
