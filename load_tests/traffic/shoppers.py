"""Messages of made-up shoppers about the products of a running shop."""

from __future__ import annotations

import random
from typing import NamedTuple

import msgspec

from stream.core.events import ClickMessage, SearchMessage
from traffic.arrivals import SEARCH, Arrival

_encoder = msgspec.json.Encoder()
SYLLABLES = ("ba", "do", "ke", "li", "mu", "no", "pa", "re", "si", "tu", "va", "zo")


class Product(msgspec.Struct, frozen=True):
    """A product of the catalogue, as far as shoppers need it."""

    item_id: str
    title: str


class Message(NamedTuple):
    """An event as it goes to a topic."""

    event_id: str
    user_id: str
    is_search: bool
    value: bytes


class Shoppers:
    """Make events of arrivals.

    Args:
        run: what names of shoppers, events and sessions begin with, so that no other run has the same.
    """

    def __init__(self, run: str, products: list[Product]) -> None:
        self._run = run
        self._catalogue = products
        self.products = len(products)

    def name(self, shopper: int) -> str:
        """The id of a shopper."""
        return f"{self._run}-{shopper}"

    def message(self, arrival: Arrival, now_ms: int) -> Message:
        """Make the event of an arrival, said to have happened at `now_ms`."""
        user, event_id = self.name(arrival.shopper), f"{self._run}-event-{arrival.number}"
        product = self._catalogue[arrival.item]
        if arrival.act == SEARCH:
            made: SearchMessage | ClickMessage = SearchMessage(
                event_id=event_id,
                event_time=now_ms,
                user_id=user,
                search_query=_query(product.title, arrival),
                session_id=user,
            )
        else:
            made = ClickMessage(
                event_id=event_id,
                event_type=arrival.act,  # type: ignore[arg-type]
                event_time=now_ms,
                user_id=user,
                item_id=product.item_id,
                session_id=user,
            )
        return Message(event_id, user, arrival.act == SEARCH, _encoder.encode(made))


def _query(title: str, arrival: Arrival) -> str:
    """Two words of a product's title; a new search has one more that no title has."""
    draw = random.Random(arrival.number if arrival.new_words else arrival.item)
    words = title.split() or ["gift"]
    chosen = draw.sample(words, min(2, len(words)))
    if arrival.new_words:
        chosen.append("".join(draw.choices(SYLLABLES, k=4)))
    return " ".join(chosen)[:200]
