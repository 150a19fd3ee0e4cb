"""Erase a shopper: what can be removed at once, a mark against what may come again, and a receipt.

First come the lists, whose removal tells the broker's time, then the mark takes the place of the state by
compare-and-set, so that a worker that is just working on the shopper loses and finds the mark. What such a
worker had saved before and publishes only now is looked for once more after a while.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from stream.adapters import redis_client
from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_reading import partition_of, values_beside
from stream.adapters.kafka_topics import TopicFound, describe_topics
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.adapters.redis_signals import TTL_DAYS as ROW_DAYS
from stream.adapters.redis_state import RedisStateStore
from stream.config import Config
from stream.core.events import RecommendationList, results_key
from stream.core.policy import DAY_MS
from stream.core.state import UserState, erased
from stream.errors import StateUnavailable
from stream.ports import StateStore

ROUNDS = 20
"""Another worker may change the state so often while it is erased."""
SETTLE_S = 1.0
"""After so long it is looked whether a worker published a list that it had made before."""
LONGEST_MARK_DAYS = 400
"""How long a shopper is marked where a topic keeps events for ever, or for longer."""


async def erase(config: Config, user_id: str) -> dict[str, Any]:
    """Erase a shopper and return a receipt: what was removed where, and what is left, why, and until when.

    Raises:
        Unavailable: Kafka or Redis did not answer; what was done by then stands, and may be done again.
    """
    topics = {found.name: found for found in await describe_topics(config)}
    async with producer(config.kafka) as sender, redis_client.connect(config.redis) as client:
        states = RedisStateStore(client, config.redis.key_prefix, config.redis.user_ttl_days)
        kept = RedisKeptLists(client, config.policy.attribution_hours, config.redis.key_prefix)
        removed, results, at_ms = await _remove_lists(config, sender, user_id, None)
        at_ms = max(at_ms, time.time_ns() // 1_000_000)
        until_ms = at_ms + _mark_days(config, topics) * DAY_MS
        before = await mark(states, user_id, at_ms, until_ms)
        kept_lists = await kept.erase(user_id)
        await asyncio.sleep(SETTLE_S)
        late, late_results, _ = await _remove_lists(config, sender, user_id, at_ms)
        kept_lists |= await kept.erase(user_id)
    return {
        "user_id": user_id,
        "erased_at": _time(at_ms),
        "removed": {
            "state": {
                "where": f"Redis {config.redis.key_prefix}u:",
                "interactions": len(before.interactions),
                "searches": len(before.searches),
                "owned": len(before.owned),
            },
            "lists": {"where": f"topic {config.topics.recommendations}", "count": removed + late},
            "search_results": {
                "where": f"topic {config.topics.recommendations}",
                "count": results + late_results,
            },
            "kept_lists": {"where": f"Redis {config.redis.key_prefix}l: and s:", "found": kept_lists},
        },
        "mark": {
            "where": f"Redis {config.redis.key_prefix}u:",
            "holds": "the id and the time of the erasure",
            "until": _time(until_ms),
        },
        "left": _left(config, topics, at_ms),
    }


async def mark(states: StateStore, user_id: str, at_ms: int, until_ms: int) -> UserState:
    """Put the mark of an erasure in the place of a shopper's state, and return what that was.

    Raises:
        StateUnavailable: the store is away, or others changed the state again and again.
    """
    for _ in range(ROUNDS):
        before = (await states.load([user_id]))[user_id]
        [done] = await states.save([(erased(before, at_ms, until_ms), before.sequence)])
        if done:
            return before
    raise StateUnavailable(f"a state was changed by workers {ROUNDS} times while it was to be erased")


async def _remove_lists(
    config: Config, sender: AIOKafkaProducer, user_id: str, made_by_ms: int | None
) -> tuple[int, int, int]:
    """Put nulls in the place of a shopper's lists.

    Args:
        made_by_ms: only of lists made by then. None: of all, and of the shopper's key in any case.

    Returns:
        How many lists and how many reordered results there were, and the broker's time.
    """
    topic, key = config.topics.recommendations, user_id.encode()
    partition = partition_of(key, len(await sender.partitions_for(topic)))
    found = await values_beside(config.kafka, topic, key, results_key(user_id, ""))
    if made_by_ms is not None:
        made = {one: msgspec.json.decode(value, type=RecommendationList) for one, value in found.items()}
        found = {one: value for one, value in found.items() if made[one].generated_at <= made_by_ms}
    told_ms = 0
    for one in {*found, *([key] if made_by_ms is None else [])}:
        said = await sender.send_and_wait(topic, None, key=one, partition=partition)
        told_ms = max(told_ms, said.timestamp)
    return int(key in found), len(found.keys() - {key}), told_ms


def _mark_days(config: Config, topics: dict[str, TopicFound]) -> int:
    """How long what was erased may come again: as long as any topic of events, or of letters, keeps it."""
    names = (config.topics.clicks, config.topics.searches, config.topics.dead_letters)
    days = [_days_kept(topics[name]) for name in names]
    return LONGEST_MARK_DAYS if None in days else min(LONGEST_MARK_DAYS, max(day for day in days if day) + 1)


def _days_kept(topic: TopicFound) -> int | None:
    """The days after which a record is surely gone, None for never.

    A file of records goes when its newest is old enough, and is begun anew after `segment.ms` at the latest.
    """
    retention_ms = int(topic.settings.get("retention.ms", -1))
    if topic.settings.get("cleanup.policy") == "compact" or retention_ms < 0:
        return None
    return -(-(retention_ms + int(topic.settings.get("segment.ms", 0))) // DAY_MS)


def _left(config: Config, topics: dict[str, TopicFound], at_ms: int) -> list[dict[str, Any]]:
    """What is not removed: where, what, why, and when it is gone."""
    names = config.topics
    left = []
    for name, what in (
        (names.clicks, "the shopper's events"),
        (names.searches, "the shopper's searches"),
        (names.dead_letters, "messages of the shopper that were set aside"),
        (names.attributions, "what came of the shopper's lists"),
        (names.list_log, "what the shopper's lists were ranked by"),
        (names.item_signals, "what the shopper's events taught about items, without the shopper's id"),
    ):
        days = _days_kept(topics[name])
        gone = None if days is None else _time(at_ms + days * DAY_MS)
        why = "a record of a Kafka topic cannot be removed by itself"
        left.append({"where": f"topic {name}", "what": what, "why": why, "gone_after": gone})
    found = topics[names.recommendations].settings
    lag_ms = sum(int(found.get(name, 0)) for name in ("max.compaction.lag.ms", "delete.retention.ms"))
    left.append(
        {
            "where": f"topic {names.recommendations}",
            "what": "lists on the broker's disk that nulls took the place of, and the nulls",
            "why": "compaction comes later",
            "gone_after": _time(at_ms + lag_ms),
        }
    )
    left.append(
        {
            "where": f"Redis {config.redis.key_prefix}i:",
            "what": "the shopper's share in what was learnt about items: at most 1 an item and day",
            "why": "it is in sums of all shoppers and fades by half in 120 days; no id is with it",
            "gone_after": _time(at_ms + ROW_DAYS * DAY_MS),
        }
    )
    for where, what in (
        ("a trainer's checkpoint and memory", "lists and clicks of a session that has not ended"),
        ("workers' memory", "the newest list, until the next event or restart; searches without an id"),
        ("models", "what a reranker learnt from lists, as weights"),
        ("backups of Redis and Kafka, and what readers copied", "whatever was in them"),
    ):
        left.append({"where": where, "what": what, "why": "out of this command's reach", "gone_after": None})
    return left


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
