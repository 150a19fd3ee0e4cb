"""The records of the topic `rules`, as commands read and write them."""

from __future__ import annotations

from collections.abc import Sequence

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_reading import last_values
from stream.config import Config
from stream.core.rules import AnyRule
from stream.core.rules.reading import encode, read_message
from stream.errors import InvalidRule


async def read_records(config: Config) -> tuple[list[AnyRule], list[str]]:
    """Return the rules on the topic, by id, and what is wrong with those that cannot be read.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    rules, wrong = [], []
    for key, value in sorted((await last_values(config.kafka, config.topics.rules)).items()):
        try:
            rules.append(read_message(key, value))
        except InvalidRule as error:
            wrong.append(str(error))
    return rules, wrong


async def write_records(config: Config, rules: Sequence[AnyRule]) -> None:
    """Put rules in force; returns when the broker has them. Raises as `read_records`."""
    async with producer(config.kafka) as sender:
        for rule in rules:
            await sender.send_and_wait(config.topics.rules, encode(rule), key=rule.id.encode())


async def remove_record(config: Config, rule_id: str) -> bool:
    """Take a rule off the topic; False where it is not there. Raises as `read_records`."""
    known = await last_values(config.kafka, config.topics.rules)
    if rule_id.encode() not in known:
        return False
    async with producer(config.kafka) as sender:
        await sender.send_and_wait(config.topics.rules, None, key=rule_id.encode())
    return True
