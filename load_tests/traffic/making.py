"""A made-up catalogue for an engine that has none."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp
import msgspec

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_sender import Sender
from stream.config import Config
from stream.errors import Unavailable
from stream.importers.synthetic import make_items as synthetic_items

MOST = 1_000
"""Products asked for in each category before titles are numbered; it has fewer names."""
PREFIX = "load-item-"
FOLLOWED_S = 300.0
POLL_S = 0.2


async def make_items(
    config: Config, count: int, metrics: Sequence[str], told: Callable[[int, str], None]
) -> None:
    """Publish made-up products, and wait until workers that give metrics follow so many with their vectors.

    Args:
        told: is given how many are published or followed, and a note.

    Raises:
        Unavailable: Kafka did not answer, or a worker did not follow them in time.
    """
    made = synthetic_items(per_category=MOST)
    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        for number in range(count):
            item = made[number % len(made)]
            title = item.title if number < len(made) else f"{item.title} {number}"
            await sender.send(msgspec.structs.replace(item, item_id=f"{PREFIX}{number:06d}", title=title))
        await sender.flush()
    told(0, "published")
    end_s = time.monotonic() + FOLLOWED_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as http:
        while (followed := await _followed(http, metrics)) < count:
            told(int(followed), "encoded")
            if time.monotonic() > end_s:
                raise Unavailable(
                    f"a worker follows {followed} of {count} made-up products after {FOLLOWED_S:.0f} s"
                )
            await asyncio.sleep(POLL_S)


async def _followed(http: aiohttp.ClientSession, metrics: Sequence[str]) -> float:
    """The least number of products with a vector that a worker tells of; endless where none tells."""
    least = float("inf")
    for url in metrics:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(url) as answer:
                found = dict(
                    re.findall(r"^(streamrec_catalogue_items\w*) (\S+)$", await answer.text(), re.MULTILINE)
                )
            if found:
                without = float(found.get("streamrec_catalogue_items_without_vector", 0))
                least = min(least, float(found["streamrec_catalogue_items"]) - without)
    return least
