"""`streamrec privacy` against a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest
from builders import raw_click
from streamrec_command import streamrec

from stream.adapters import redis_client
from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_topics import create_topics
from stream.adapters.redis_ledger import released_signals
from stream.config import load_config
from stream.core.policy import DAY_MS

pytestmark = pytest.mark.servers

SHOPPERS = 60


def test_a_period_is_released_from_the_topic_once_and_lists_can_read_it(stack: Any) -> None:
    name = uuid.uuid4().hex[:8]
    release = {"epsilon": 8, "period_days": 1, "items": 3, "pairs": 1}
    env = {
        **stack.environment,
        "STREAMREC_REDIS__KEY_PREFIX": f"{name}:",
        "STREAMREC_TOPICS__CLICKS": f"clicks-{name}",
        "STREAMREC_TOPICS__ITEMS": f"items-{name}",
        "STREAMREC_POLICY__RELEASE": json.dumps(release),
    }
    config = load_config(env=env)
    today_ms = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS

    def privacy(command: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(streamrec("privacy", command, "--json", env=env).stdout)
        return answer

    async def prepare() -> None:
        await create_topics(config)
        async with producer(config.kafka) as sender:
            for item in ("mug", "cup", "withdrawn"):
                await sender.send(
                    config.topics.items, json.dumps({"item_id": item}).encode(), key=item.encode()
                )
            await sender.send(config.topics.items, None, key=b"withdrawn")
            days_ms = today_ms - DAY_MS, today_ms  # so that it does not matter whether a day ends meanwhile
            for day, day_ms in enumerate(days_ms):
                for who in range(SHOPPERS):
                    for place, item in enumerate(("mug", "cup", "withdrawn")):
                        offset = 3 * (who + day * SHOPPERS) + place
                        message = raw_click(f"shopper-{who}", item, offset=offset, at_ms=day_ms + place)
                        await sender.send(
                            config.topics.clicks,
                            message.value,
                            key=message.key,
                            timestamp_ms=message.source.timestamp_ms,
                        )
            await sender.flush()

    async def neighbours() -> dict[str, tuple[str, ...]]:
        async with redis_client.connect(config.redis) as client:
            rows = await released_signals(client, config.redis.key_prefix).load(["mug", "cup"])
            return {item_id: found.signals.neighbours for item_id, found in rows.items()}

    asyncio.run(prepare())
    told = privacy("release")
    assert (told["events"], told["shoppers"]) == (3 * SHOPPERS, SHOPPERS)
    assert (told["released"]["items"], told["released"]["pairs"]) == (2, 1)
    assert asyncio.run(neighbours()) == {"mug": ("cup",), "cup": ("mug",)}
    spent = privacy("budget")
    assert spent["releases"] == [told["released"]]
    assert spent["spent"]["epsilon"] == pytest.approx(8.0)
    assert spent["left"] == pytest.approx(0.0, abs=1e-6)
    assert privacy("release")["released"] is None
