"""What shoppers do, what goes wrong in the shop's own messages, and the catalogue they do it in."""

from __future__ import annotations

import json
import random
from collections import deque
from typing import Any, Literal, NamedTuple

from stream.core.policy import DAY_MS

SEARCHED = ("red mug", "blue clock", "white lantern", "kettle", "green cushion")
KINDS = ("mug", "lantern", "cushion", "kettle", "clock", "frame")
COLOURS = ("red", "blue", "green", "white", "pink", "black")
ACTS = ("view_item", "view_item", "view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase")
SEARCHES, TWICE, SHOWN, INVALID = 0.2, 0.05, 0.05, 0.05
"""Shares of all messages: searches, messages sent a second time, impressions, and what can never be used."""
DAYS = 5
"""How many days their acts fall on, in no order: a shopper teaches about an item once a day."""


class Message(NamedTuple):
    """A message as it goes to a topic."""

    topic: Literal["clicks", "searches"]
    key: bytes | None
    value: bytes | None


def catalogue(size: int) -> list[dict[str, Any]]:
    """Messages of the topic `items`."""
    return [
        {
            "item_id": f"item-{number:03d}",
            "title": f"{COLOURS[number // 6 % 6]} {KINDS[number % 6]} no {number}",
            "category": ["home", KINDS[number % 6]],
            "price": 5.0 + number,
        }
        for number in range(size)
    ]


class Shoppers:
    """Shoppers who act at random; the same seed makes the same messages but for their times."""

    def __init__(self, seed: int, users: int, items: int) -> None:
        self._random = random.Random(f"shoppers {seed}")
        self._users = [f"shopper-{number:03d}" for number in range(users)]
        self._items = [item["item_id"] for item in catalogue(items)]
        self._count = 0
        self._sent: deque[Message] = deque(maxlen=30)

    def act(self, now_ms: int) -> Message:
        """Make the next message."""
        draw = self._random.random()
        if draw < TWICE and self._sent:
            return self._random.choice(self._sent)
        self._count += 1
        user = self._random.choice(self._users)
        fields: dict[str, Any] = {
            "event_id": f"event-{self._count:07d}",
            "event_time": now_ms - self._random.randrange(0, 2_000) - DAY_MS * self._random.randrange(DAYS),
            "user_id": user,
        }
        if self._random.random() < INVALID:
            return self._invalid(user, fields)
        if self._random.random() < SEARCHES:
            fields["search_query"] = self._random.choice(SEARCHED)
            return self._remembered(Message("searches", user.encode(), json.dumps(fields).encode()))
        shown = self._random.random() < SHOWN
        fields["event_type"] = "view_item_list" if shown else self._random.choice(ACTS)
        if shown or fields["event_type"] == "purchase":
            some = self._random.sample(self._items, self._random.randint(1, 3))
            fields["items"] = [{"item_id": item_id} for item_id in some]
        else:
            fields["item_id"] = self._random.choice(self._items)
        if self._random.random() < 0.5:
            fields["session_id"] = f"visit-{self._random.randrange(3)}"
        return self._remembered(Message("clicks", user.encode(), json.dumps(fields).encode()))

    def _remembered(self, message: Message) -> Message:
        self._sent.append(message)
        return message

    def _invalid(self, user: str, fields: dict[str, Any]) -> Message:
        """One of the ways in which a message can never be used."""
        sound = {**fields, "event_type": "view_item", "item_id": self._random.choice(self._items)}
        key = user.encode()
        return self._random.choice(
            [
                Message("clicks", key, None),
                Message("clicks", key, b"{" + json.dumps(sound).encode()),
                Message("clicks", key, b"[]"),
                Message("clicks", b"somebody-else", json.dumps(sound).encode()),
                Message("clicks", key, json.dumps({**sound, "event_time": 1_000}).encode()),
                Message("clicks", key, json.dumps({**sound, "event_type": "stare_at_item"}).encode()),
                Message("clicks", None, json.dumps(sound).encode()),
                Message("searches", key, json.dumps({**fields, "search_query": "  "}).encode()),
                Message("searches", key, json.dumps({**fields, "search_query": 7}).encode()),
            ]
        )
