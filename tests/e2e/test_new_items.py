"""A new item reaches its first lists by its text, and by the places that try items out."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.servers


async def load_shop(engine: Any, wait_until: Any) -> list[dict[str, Any]]:
    """Load a hundred items of five kinds."""
    kinds = ["mug", "lantern", "cushion", "kettle", "clock"]
    colours = ["red", "blue", "green", "white", "pink", "black", "grey", "yellow", "teal", "ivory"]
    items = [
        {
            "item_id": f"item-{number:03d}",
            "title": f"{colours[number // 5 % 10]} {kinds[number % 5]} no {number}",
        }
        for number in range(100)
    ]
    await engine.load(*items)
    await wait_until(lambda: engine.workers[-1].metric("streamrec_catalogue_items") >= len(items))
    await encoded(engine, wait_until)
    return items


async def encoded(engine: Any, wait_until: Any) -> None:
    """Wait until every item has its vector, however slow the encoder is."""
    await wait_until(lambda: engine.workers[-1].metric("streamrec_catalogue_items_without_vector") == 0)


async def first_place(
    engine: Any, wait_until: Any, new: dict[str, Any], clicked: list[str]
) -> dict[str, Any]:
    """Publish an item, let shoppers click others, and return its place in the first list that shows it."""
    known = engine.workers[-1].metric("streamrec_catalogue_items")
    await engine.load(new)
    await wait_until(lambda: engine.workers[-1].metric("streamrec_catalogue_items") > known)
    await encoded(engine, wait_until)
    for number in range(200):
        made = await engine.list_for(
            await engine.click(f"{new['item_id']}-{number}", clicked[number % len(clicked)])
        )
        for item in made["items"]:
            if item["item_id"] == new["item_id"]:
                return item
    pytest.fail("none of 200 lists shows the new item")


def test_a_new_item_reaches_the_lists_of_those_who_look_at_alike_ones(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker(STREAMREC_POLICY__EXPLORATION='{"slots": 0}').ready()
        items = await load_shop(engine, wait_until)
        mugs = [item["item_id"] for item in items if "mug" in item["title"]]
        new = {"item_id": "new-mug", "title": "purple mug no 500"}
        started_s = time.monotonic()
        place = await first_place(engine, wait_until, new, mugs)
        print(f"first list after {time.monotonic() - started_s:.1f} s: {place}")
        assert place.get("propensity", 1.0) == 1.0

    run(body)


def test_a_place_of_every_list_tries_an_item_out_and_says_how_likely_that_was(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        policy = '{"slots": 1, "share": 1.0, "place": 10}'
        await engine.worker(STREAMREC_POLICY__EXPLORATION=policy).ready()
        items = await load_shop(engine, wait_until)
        tried = set()
        for number in range(30):
            made = await engine.list_for(await engine.click(f"shopper-{number}", items[number]["item_id"]))
            explored = [(place, item) for place, item in enumerate(made["items"], 1) if item.get("explored")]
            (only,) = explored
            place, item = only
            assert place == 10
            assert 0 < item["propensity"] < 1
            assert all(other.get("propensity", 1.0) == 1.0 for other in made["items"] if other is not item)
            tried.add(item["item_id"])
        assert len(tried) > 1

    run(body)
