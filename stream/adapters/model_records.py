"""The records of the topic `model-versions`, as commands and the first worker read and write them."""

from __future__ import annotations

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_reading import last_values
from stream.config import Config
from stream.core import versions
from stream.core.versions import Serving


async def read_records(config: Config) -> dict[str, Serving]:
    """Return which versions serve, by model.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
        InvalidMessage: a record is damaged.
    """
    values = await last_values(config.kafka, config.topics.model_versions)
    return {key.decode(): versions.decode(value) for key, value in values.items()}


async def write_record(config: Config, model: str, serving: Serving) -> None:
    """Put a decision in force; returns when the broker has it. Raises as `read_records`."""
    async with producer(config.kafka) as sender:
        await sender.send_and_wait(config.topics.model_versions, versions.encode(serving), key=model.encode())
