"""Products that change while the load is on, and are put back as they were."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import msgspec

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_sender import Sender
from stream.config import Config

TEXT_SHARE = 0.5
"""Changes that touch the text, so that the product is encoded anew; the others change its price."""


async def churn(config: Config, messages: Mapping[bytes, bytes], rate: float, seed: int) -> None:
    """Change products at a rate until cancelled, then publish those that were touched as they had been.

    Args:
        messages: products as they lie in the topic, by key.
    """
    draw = random.Random(seed)
    keys = sorted(messages)
    touched: dict[bytes, bytes] = {}
    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        try:
            loop = asyncio.get_running_loop()
            due_s = loop.time()
            while True:
                due_s += draw.expovariate(rate)
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                key = draw.choice(keys)
                touched[key] = messages[key]
                await sender.send_raw(config.topics.items, key, changed(messages[key], draw))
        finally:
            for key, message in touched.items():
                await sender.send_raw(config.topics.items, key, message)
            await sender.flush()


def changed(message: bytes, draw: random.Random) -> bytes:
    """A product with another price, or with one more sentence about it."""
    product = msgspec.json.decode(message)
    if draw.random() < TEXT_SHARE:
        product["description"] = f"{product.get('description') or ''} Batch {draw.randrange(10**6)}."
    else:
        product["price"] = round((product.get("price") or 10.0) * draw.uniform(0.8, 1.2), 2)
    return msgspec.json.encode(product)
