"""The lists that stand at the end of `recommendations`, for a worker that takes shoppers over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from stream.adapters.kafka_reading import newest_values
from stream.config import Config
from stream.core.events import RecommendationList

_decoder = msgspec.json.Decoder(RecommendationList)


async def standing_lists(config: Config) -> AsyncIterator[RecommendationList]:
    """Give the newest list of each shopper among the last messages, as many as a worker remembers.

    Of each partition its share of `worker.shown_lists` messages is read. Lists of erased shoppers, and
    results that were put in order, are left out.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    limit = config.worker.shown_lists
    async for values in newest_values(config.kafka, config.topics.recommendations, limit):
        for value in values.values():
            try:
                made = _decoder.decode(value)
            except msgspec.DecodeError:
                continue
            if not made.reordered:
                yield made
