"""A product that changes under load stays a product that the engine takes."""

from __future__ import annotations

import random

import msgspec
import pytest
from traffic.churn import changed

from stream.core.events import decode_item


@pytest.mark.parametrize("more", [{}, {"price": 3.5, "description": "A mug.", "colour": "red"}])
def test_a_change_touches_price_or_description_and_nothing_else(more: dict[str, object]) -> None:
    before = {"item_id": "mug", "title": "red mug", **more}
    touched = set()
    for seed in range(30):
        message = changed(msgspec.json.encode(before), random.Random(seed))
        decode_item(b"mug", message)
        after = msgspec.json.decode(message)
        touched |= {name for name in after if after[name] != before.get(name)}
        assert before.keys() <= after.keys()
    assert touched == {"price", "description"}
