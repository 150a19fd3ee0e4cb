"""Read the topic `attributions` from a time to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiokafka.structs import ConsumerRecord

from stream.adapters.kafka_reading import Read, decoded_since
from stream.config import Config
from stream.core.events import Attribution

_decoder = msgspec.json.Decoder(Attribution)


async def read_attributions(config: Config, from_ms: int | None) -> AsyncIterator[Read[Attribution]]:
    """Give what lies there now, batch by batch; of lists made from a time on where one is given.

    A record is appended after its list was made, so older messages need not be read.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    unreadable = (msgspec.DecodeError, UnicodeDecodeError)
    topic = config.topics.attributions
    async for read in decoded_since(config.kafka, topic, _attribution, unreadable, from_ms):
        yield read


def _attribution(record: ConsumerRecord) -> Attribution:
    return _decoder.decode(record.value or b"")
