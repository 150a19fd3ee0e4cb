"""Read the topic `attributions` from a time to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from stream.adapters.kafka_reading import partitions
from stream.config import Config
from stream.core.events import Attribution

POLL_MS = 500

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
    async with partitions(config.kafka, config.topics.attributions) as (reader, assigned):
        ends = await reader.end_offsets(assigned)
        starts = await reader.beginning_offsets(assigned)
        if from_ms is not None:
            found = await reader.offsets_for_times(dict.fromkeys(assigned, from_ms))
            starts = {one: at.offset if (at := found[one]) else ends[one] for one in assigned}
        for partition in assigned:
            reader.seek(partition, starts[partition])
        total = sum(ends[one] - starts[one] for one in assigned)
        open_ones = {one for one in assigned if starts[one] < ends[one]}
        while open_ones:
            batches = await reader.getmany(*open_ones, timeout_ms=POLL_MS)
            records, unreadable = [], 0
            for partition, messages in batches.items():
                for message in messages:
                    if message.offset >= ends[partition]:
                        break
                    try:
                        records.append(_decoder.decode(message.value or b""))
                    except msgspec.DecodeError:
                        unreadable += 1
            at = {one: min(await reader.position(one), ends[one]) for one in assigned}
            open_ones = {one for one in open_ones if at[one] < ends[one]}
            yield Read(records, sum(at[one] - starts[one] for one in assigned), total, unreadable)
