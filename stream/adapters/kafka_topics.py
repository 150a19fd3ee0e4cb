"""The topics of the contract on a real broker: made where they are missing, compared where they are not."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from stream.adapters.kafka_clients import admin
from stream.config import Config
from stream.errors import TopicMismatch, Unavailable

DAY_MS = 86_400_000
IN_TOPIC_MAX_BYTES = 2_000_000
"""Above the largest message that is used, so that a larger one arrives and is dead-lettered."""
DEAD_LETTER_MAX_BYTES = 2_200_000
"""The largest message of an in-topic and its headers."""
SHOWN_SETTINGS = ("cleanup.policy", "retention.ms", "max.message.bytes", "message.timestamp.type")
LEADERS_WAIT_S = 15.0
POLL_S = 0.05

_STAMPED = {"message.timestamp.type": "LogAppendTime"}
_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.2",
    # What was superseded or erased is gone from the disk within two days.
    "max.compaction.lag.ms": str(DAY_MS),
    "delete.retention.ms": str(DAY_MS),
}


class TopicPlan(NamedTuple):
    """What a topic should be like."""

    name: str
    partitions: int
    settings: dict[str, str]


class TopicFound(NamedTuple):
    """What a topic is like; `partitions` is 0 where it does not exist."""

    name: str
    partitions: int
    replication: int
    settings: dict[str, str]


class TopicOutcome(NamedTuple):
    """What `create_topics` did for one topic; `differences` are settings left as they were found."""

    name: str
    partitions: int
    created: bool
    differences: tuple[str, ...]


def plan_topics(config: Config) -> tuple[TopicPlan, ...]:
    """Return the topics of the contract, the co-partitioned ones first.

    Everything is stamped by the broker: freshness is measured between its append times, and an event
    cannot be later than its arrival. From three copies on, two must have a message before it counts.
    """
    topics = config.topics
    events = {
        **_STAMPED,
        "retention.ms": str(7 * DAY_MS),
        "max.message.bytes": str(IN_TOPIC_MAX_BYTES),
    }
    settings = {
        topics.clicks: events,
        topics.searches: events,
        topics.items: {**_STAMPED, **_COMPACTED, "max.message.bytes": str(IN_TOPIC_MAX_BYTES)},
        topics.recommendations: {**_STAMPED, **_COMPACTED},
        topics.attributions: {**_STAMPED, "retention.ms": str(30 * DAY_MS)},
        topics.rules: {**_STAMPED, **_COMPACTED},
        topics.dead_letters: {
            **_STAMPED,
            "retention.ms": str(30 * DAY_MS),
            "max.message.bytes": str(DEAD_LETTER_MAX_BYTES),
        },
        topics.item_vectors: {**_STAMPED, **_COMPACTED},
        topics.item_signals: {**_STAMPED, "retention.ms": str(7 * DAY_MS)},
        topics.list_log: {**_STAMPED, "retention.ms": str(DAY_MS)},
        topics.model_versions: {**_STAMPED, **_COMPACTED},
    }
    copies = {"min.insync.replicas": str(min(2, config.kafka.replication - 1) or 1)}
    return tuple(
        TopicPlan(name, config.kafka.partitions, {**wanted, **copies}) for name, wanted in settings.items()
    )


async def create_topics(config: Config) -> list[TopicOutcome]:
    """Make the topics that are missing and wait until each partition has a leader. Idempotent.

    Raises:
        TopicMismatch: `clicks` and `searches` have, or would have, different numbers of partitions, so
            that one shopper's clicks and searches would reach different workers. Nothing is made then.
        Unavailable: Kafka did not answer or refused.
    """
    plans = plan_topics(config)
    async with admin(config.kafka) as client:
        before = await _describe(client, [plan.name for plan in plans])
        _check_co_partitioning(config, before)
        missing = [plan for plan in plans if not before[plan.name].partitions]
        if missing:
            await _create(client, missing, config.kafka.replication)
            await _wait_for_leaders(client, [plan.name for plan in missing])
    made = {plan.name for plan in missing}
    return [
        TopicOutcome(
            plan.name,
            before[plan.name].partitions or plan.partitions,
            plan.name in made,
            () if plan.name in made else tuple(_differences(plan, before[plan.name])),
        )
        for plan in plans
    ]


async def describe_topics(config: Config) -> list[TopicFound]:
    """Return what the topics of the contract are like now.

    Raises:
        Unavailable: Kafka did not answer.
    """
    names = [plan.name for plan in plan_topics(config)]
    async with admin(config.kafka) as client:
        found = await _describe(client, names)
    return [found[name] for name in names]


async def require_topics(config: Config, *names: str) -> None:
    """Return where topics are there.

    Args:
        names: which; all those of the contract where none is named.

    Raises:
        Unavailable: some are missing, which the message names, or Kafka did not answer.
    """
    wanted = names or tuple(plan.name for plan in plan_topics(config))
    async with admin(config.kafka) as client:
        found = {topic["topic"] for topic in await client.describe_topics() if topic["partitions"]}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Unavailable(f"missing: {', '.join(missing)} (`streamrec topics create` makes them)")


def _check_co_partitioning(config: Config, found: dict[str, TopicFound]) -> None:
    clicks, searches = found[config.topics.clicks], found[config.topics.searches]
    wanted = config.kafka.partitions
    counts = {topic.name: topic.partitions or wanted for topic in (clicks, searches)}
    if len(set(counts.values())) == 1:
        return
    lines = [
        f"  {topic.name}: {counts[topic.name]} partitions "
        + ("(exists)" if topic.partitions else "(would be made, kafka.partitions)")
        for topic in (clicks, searches)
    ]
    existing = clicks.partitions or searches.partitions
    cure = (
        "delete one of them, or give it more partitions, until both are the same"
        if clicks.partitions and searches.partitions
        else f"set kafka.partitions to {existing}, or delete the one that exists"
    )
    raise TopicMismatch(
        f"{clicks.name} and {searches.name} must have the same number of partitions, because one worker "
        "handles all of a shopper's events:\n" + "\n".join(lines) + f"\n{cure}"
    )


def _differences(plan: TopicPlan, found: TopicFound) -> list[str]:
    wanted = {"partitions": str(plan.partitions), **plan.settings}
    actual = {"partitions": str(found.partitions), **found.settings}
    return [
        f"{key} is {actual.get(key)}, made new it would be {value}"
        for key, value in wanted.items()
        if actual.get(key) != value
    ]


async def _describe(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, TopicFound]:
    # All topics are asked for: asking for one by name may make it, where the broker is set up so.
    topics = {topic["topic"]: topic["partitions"] for topic in await client.describe_topics()}
    existing = [name for name in names if name in topics]
    settings: dict[str, dict[str, str]] = {}
    if existing:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in existing]
        for response in await client.describe_configs(resources):
            for resource in response.to_object()["resources"]:
                settings[resource["resource_name"]] = {
                    entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]
                }
    return {
        name: TopicFound(
            name,
            len(topics.get(name, [])),
            min((len(partition["replicas"]) for partition in topics.get(name, [])), default=0),
            settings.get(name, {}),
        )
        for name in names
    }


async def _create(client: AIOKafkaAdminClient, plans: list[TopicPlan], replication: int) -> None:
    response = await client.create_topics(
        [
            NewTopic(plan.name, plan.partitions, replication, topic_configs=dict(plan.settings))
            for plan in plans
        ]
    )
    for name, code, *message in response.topic_errors:
        # Another process may have made it in the meantime.
        if code not in (0, TopicAlreadyExistsError.errno):
            reason = message[0] if message and message[0] else for_code(code).__name__
            raise Unavailable(f"Kafka did not make the topic {name}: {reason}")


async def _wait_for_leaders(client: AIOKafkaAdminClient, names: list[str]) -> None:
    deadline = asyncio.get_running_loop().time() + LEADERS_WAIT_S
    while True:
        topics = {topic["topic"]: topic["partitions"] for topic in await client.describe_topics()}
        without = [
            name
            for name in names
            if not topics.get(name) or any(partition["leader"] < 0 for partition in topics[name])
        ]
        if not without:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"no leader after {LEADERS_WAIT_S:.0f} s for the topics {', '.join(without)}")
        await asyncio.sleep(POLL_S)
