"""The topics on a real broker: made once, compared afterwards, refused where events would part."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_topics import create_topics, describe_topics
from stream.config import Config, load_config
from stream.errors import TopicMismatch

TOPICS = (
    *("clicks", "searches", "items", "recommendations", "attributions", "rules", "dead_letters"),
    *("item_vectors", "item_signals", "list_log", "model_versions"),
)


def _config(stack: Any, name: str, partitions: int = 3, **topics: str) -> Config:
    names = {topic: f"{topic.replace('_', '-')}-{name}" for topic in TOPICS} | topics
    return load_config(
        env={
            "STREAMREC_KAFKA__BOOTSTRAP": stack.endpoints.kafka,
            "STREAMREC_KAFKA__PARTITIONS": str(partitions),
            **{f"STREAMREC_TOPICS__{topic.upper()}": value for topic, value in names.items()},
        }
    )


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex[:8]


def test_topics_are_made_once_and_then_found_as_they_should_be(stack: Any, name: str) -> None:
    config = _config(stack, name)
    first = asyncio.run(create_topics(config))
    again = asyncio.run(create_topics(config))
    assert [(made.created, made.partitions) for made in first] == [(True, 3)] * len(TOPICS)
    assert [(made.created, made.partitions) for made in again] == [(False, 3)] * len(TOPICS)
    assert [made.differences for made in again] == [()] * len(TOPICS)


def test_the_settings_are_those_of_the_contract(stack: Any, name: str) -> None:
    config = _config(stack, name)
    asyncio.run(create_topics(config))
    found = {topic.name.rpartition("-")[0]: topic.settings for topic in asyncio.run(describe_topics(config))}
    assert {topic for topic, settings in found.items() if settings["cleanup.policy"] == "compact"} == {
        *("items", "recommendations", "rules", "item-vectors", "model-versions")
    }
    assert {settings["message.timestamp.type"] for settings in found.values()} == {"LogAppendTime"}
    assert (
        int(found["dead-letters"]["max.message.bytes"])
        > int(found["clicks"]["max.message.bytes"])
        > 1_000_000
    )


def test_a_searches_topic_that_would_part_a_shoppers_events_is_refused_and_nothing_is_made(
    stack: Any, name: str
) -> None:
    asyncio.run(create_topics(_config(stack, name, partitions=3)))
    other = _config(stack, f"{name}x", partitions=2, clicks=f"clicks-{name}")
    with pytest.raises(TopicMismatch) as raised:
        asyncio.run(create_topics(other))
    assert f"clicks-{name}: 3 partitions (exists)" in str(raised.value)
    assert f"searches-{name}x: 2 partitions (would be made" in str(raised.value)
    assert "set kafka.partitions to 3" in str(raised.value)
    made = {topic.name for topic in asyncio.run(describe_topics(other)) if topic.partitions}
    assert made == {f"clicks-{name}"}


def test_existing_topics_of_one_size_are_taken_as_they_are_with_the_difference_told(
    stack: Any, name: str
) -> None:
    asyncio.run(create_topics(_config(stack, name, partitions=3)))
    outcomes = asyncio.run(create_topics(_config(stack, name, partitions=5)))
    assert {outcome.partitions for outcome in outcomes} == {3}
    assert {outcome.differences for outcome in outcomes} == {("partitions is 3, made new it would be 5",)}


def test_a_message_over_one_megabyte_arrives_and_fits_into_the_dead_letters(stack: Any, name: str) -> None:
    config = _config(stack, name)
    large = b"x" * 1_900_000

    async def send_and_read() -> bytes:
        await create_topics(config)
        async with (
            producer(config.kafka) as client,
            consumer(config.kafka, config.topics.dead_letters, auto_offset_reset="earliest") as reader,
        ):
            await client.send_and_wait(config.topics.clicks, large, key=b"u")
            await client.send_and_wait(
                config.topics.dead_letters, large, key=b"u", headers=[("error-message", b"m" * 1000)]
            )
            message = await asyncio.wait_for(reader.getone(), 300)
            return bytes(message.value)

    assert asyncio.run(send_and_read()) == large
