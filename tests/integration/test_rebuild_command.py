"""`streamrec rebuild` against a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from aiokafka import TopicPartition
from builders import raw_click
from streamrec_command import streamrec

from stream.adapters import redis_client
from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_reading import partition_of
from stream.adapters.kafka_topics import create_topics
from stream.adapters.redis_state import RedisStateStore
from stream.config import load_config

pytestmark = pytest.mark.servers

ITEMS = ["mug", "cup", "jar"]


def test_what_workers_have_done_is_folded_again_and_what_they_have_not_is_left_to_them(stack: Any) -> None:
    name = uuid.uuid4().hex[:8]
    env = {
        **stack.environment,
        "STREAMREC_KAFKA__GROUP": f"group-{name}",
        "STREAMREC_KAFKA__PARTITIONS": "2",
        "STREAMREC_REDIS__KEY_PREFIX": f"{name}:",
        "STREAMREC_TOPICS__CLICKS": f"clicks-{name}",
        "STREAMREC_TOPICS__SEARCHES": f"searches-{name}",
    }
    config = load_config(env=env)

    # Ann's publisher chooses partitions as no Java client would.
    places = {"ann": 1 - partition_of(b"ann", 2), "bob": partition_of(b"ann", 2)}

    def rebuild(*arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(streamrec("rebuild", "--json", *arguments, env=env).stdout)
        return answer

    async def prepare() -> None:
        await create_topics(config)
        async with producer(config.kafka) as sender:
            for offset, item in enumerate(ITEMS):
                for user, partition in places.items():
                    message = raw_click(user, item, offset=offset)
                    await sender.send_and_wait(
                        config.topics.clicks, message.value, key=message.key, partition=partition
                    )
        clicks = [TopicPartition(config.topics.clicks, partition) for partition in (0, 1)]
        async with consumer(config.kafka, group_id=config.kafka.group) as worker:
            worker.assign(clicks)
            await worker.commit(dict.fromkeys(clicks, 2))

    async def seen(user: str) -> list[str]:
        async with redis_client.connect(config.redis) as client:
            state = (await RedisStateStore(client, f"{name}:").load([user]))[user]
            return [one.item_id for one in state.interactions]

    asyncio.run(prepare())
    counts = {"dry_run": True, "events": 4, "invalid": 0, "repaired": 2, "missing": 0}
    assert rebuild("--dry-run") == counts
    assert asyncio.run(seen("ann")) == []
    assert rebuild("--user", "ann") == {**counts, "dry_run": False, "events": 2, "repaired": 1}
    assert sorted(asyncio.run(seen("ann"))) == sorted(ITEMS[:2])
    assert asyncio.run(seen("bob")) == []
    assert rebuild() == {**counts, "dry_run": False, "repaired": 1}
    assert sorted(asyncio.run(seen("bob"))) == sorted(ITEMS[:2])
    assert rebuild()["repaired"] == 0
