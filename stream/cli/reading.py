"""Lists and titles as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from stream.adapters.kafka_reading import last_values
from stream.config import Config
from stream.core.events import ItemMessage, RecommendationList


async def read_titles(config: Config) -> dict[str, str]:
    """The titles of the catalogue by item id.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    titles = {}
    for key, value in (await last_values(config.kafka, config.topics.items)).items():
        try:
            titles[key.decode()] = msgspec.json.decode(value, type=ItemMessage).title
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return titles


def clock(at_ms: int) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def list_lines(made: RecommendationList, titles: Mapping[str, str], limit: int | None = None) -> list[str]:
    """A list as lines of text: who and when first, then its items with their reasons."""
    without = f"  without: {', '.join(made.degraded)}" if made.degraded else ""
    lines = [
        f"{made.user_id}  list {made.sequence}  {clock(made.generated_at)}  "
        f"after {made.trigger.topic} {made.trigger.event_id}{without}"
    ]
    if not made.items:
        lines.append("  (empty)")
    for item in made.items[:limit]:
        title = titles.get(item.item_id, "")
        lines.append(f"  {item.rank:>2}. {item.item_id:<12} {title[:40]:<40}  {item.reason}")
    return lines + [f"  ! {warning}" for warning in made.warnings]
