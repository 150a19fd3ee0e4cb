"""What the consumer passes over is worked on, though no later message of its partition reveals it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.servers

SKIPPING = str(Path(__file__).with_name("skipping_worker.py"))
EAGER = str(Path(__file__).with_name("eager_worker.py"))


def test_a_last_click_that_was_passed_over_is_answered_once(run: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(sys.executable, SKIPPING).ready()
        items = await engine.load_shop()
        await engine.list_for(await engine.click("somebody", items[0]))
        made = await engine.list_for(await engine.click("overlooked", items[1]))
        assert worker.metric("streamrec_rewinds_total", cause="skipped") == 1
        assert "passed over, and read again" in worker.log.read_text()
        assert [seen.item_id for seen in (await engine.state("overlooked")).interactions] == [items[1]]
        assert engine.lists_of("overlooked") == [made]
        assert worker.process.poll() is None

    run(body)


def test_what_is_fetched_before_the_committed_offsets_are_sought_is_not_passed_over(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        clicks = [await engine.click(f"user-{number}", "item-000") for number in range(8)]
        await engine.load({"item_id": "item-000", "title": "red mug", "category": ["home"], "price": 5.0})
        worker = engine.worker(sys.executable, EAGER)
        for click in clicks:
            await engine.list_for(click)
        await wait_until(lambda: worker.metric("streamrec_catalogue_items") == 1, what="the item is followed")
        assert engine.config.topics.clicks in worker.log.read_text()  # some of them were fetched too early
        assert worker.metric("streamrec_rewinds_total", cause="skipped") == 0

    run(body)
