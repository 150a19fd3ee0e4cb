"""A catalogue with bad products in it, through the real topics and models."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.servers

STUFFED = "red mug laptop tv headphones shoes printer camera"


def test_a_bad_product_blocks_nothing_is_held_back_and_comes_back_when_corrected(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        await engine.load_shop()
        for item_id, title in (("bad", STUFFED), ("odd", "\u202e"), ("fine", "zebra striped mug")):
            await engine.send(engine.config.topics.items, item_id, {"item_id": item_id, "title": title})

        async def found(user: str, query: str) -> set[str]:
            made = await engine.list_for(await engine.search(user, query))
            return {item["item_id"] for item in made["items"]}

        numbers = iter(range(1_000))

        async def offered() -> set[str]:
            return await found(f"u{next(numbers)}", "zebra striped mug")

        async def fine_is_there() -> bool:
            return "fine" in await offered()

        await wait_until(fine_is_there, what="the good product is in a list")
        await wait_until(
            lambda: worker.metric("streamrec_catalogue_held_back", finding="keywords") == 1,
            what="the stuffed product is counted",
        )
        assert not {"bad", "odd"} & await found("eve", "red mug laptop")
        corrected = {"item_id": "bad", "title": "zebra striped red mug"}
        await engine.send(engine.config.topics.items, "bad", corrected)

        async def bad_is_there() -> bool:
            return "bad" in await offered()

        await wait_until(bad_is_there, what="the corrected product is in a list")
        assert worker.metric("streamrec_catalogue_held_back", finding="keywords") == 0

    run(body)
