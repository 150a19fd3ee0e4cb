"""Read the topic `attributions` from a time to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from stream.adapters.kafka_reading import records_since
from stream.config import Config
from stream.core.events import Attribution

_decoder = msgspec.json.Decoder(Attribution)


class Read(NamedTuple):
    """Some attributions, how far the reading has come of how many messages, and what could not be read."""

    records: list[Attribution]
    done: int
    total: int
    unreadable: int


async def read_attributions(config: Config, from_ms: int | None) -> AsyncIterator[Read]:
    """Give what lies there now, batch by batch; of lists made from a time on where one is given.

    A record is appended after its list was made, so older messages need not be read.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    async for found, done, total in records_since(config.kafka, config.topics.attributions, from_ms):
        records, unreadable = [], 0
        for record in found:
            try:
                records.append(_decoder.decode(record.value or b""))
            except (msgspec.DecodeError, UnicodeDecodeError):
                unreadable += 1
        yield Read(records, done, total, unreadable)
