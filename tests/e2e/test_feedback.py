"""What came of a list is told on `attributions`, and what a machine does teaches nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stream.adapters.redis_signals import RedisSignalStore

pytestmark = pytest.mark.servers


def told_of(records: list[Any], user: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in records if record.key == user.encode()]


def test_list_impression_click_and_purchase_are_joined_and_reported(
    run: Any, wait_until: Any, tmp_path: Path
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(STREAMREC_POLICY__NAME="autumn").ready()
        items = await engine.load_shop()
        attributions = await engine.follow(engine.config.topics.attributions)
        made = await engine.list_for(await engine.click("ann", items[0]))
        shown = made["items"][:4]
        named = {"recommendation_id": made["recommendation_id"]}
        lists_before = len(engine.lists_of("ann"))
        now_ms = int(time.time() * 1000)
        lines = [{"item_id": item["item_id"]} for item in shown]
        await engine.click("ann", None, "view_item_list", items=lines, event_time=now_ms, **named)
        third = shown[2]
        await engine.click("ann", third["item_id"], "select_item", event_time=now_ms + 1, **named)
        # By the clock of the broker, so that nothing happens before it was shown.
        paid = {"event_time": int(time.time() * 1000) + 1, "price": 4.5, "quantity": 2}
        purchase = await engine.click("ann", third["item_id"], "purchase", **paid)
        told = await wait_until(
            lambda: (found := told_of(attributions, "ann"))[2:] and found, what="three attributions"
        )
        assert [record["outcome"] for record in told] == ["impression", "click", "purchase"]
        for record in told:
            assert record["recommendation_id"] == made["recommendation_id"]
            assert record["model_versions"] == made["model_versions"]
            assert record["policy"] == "autumn"
        assert [(item["item_id"], item["rank"]) for item in told[0]["items"]] == [
            (item["item_id"], item["rank"]) for item in shown
        ]
        for record in told[1:]:
            [item] = record["items"]
            assert (item["item_id"], item["rank"], item["source"]) == (third["item_id"], 3, third["source"])
        assert (told[2]["matched"], told[2]["value"]) == ("item", 9.0)

        await engine.list_for(purchase)
        triggers = {one["trigger"]["event_id"] for one in engine.lists_of("ann")[lists_before:]}
        assert all(record["event_id"] not in triggers for record in told[:1]), "no list answers an impression"
        await wait_until(
            lambda: worker.metric("streamrec_attributed_items_total", outcome="click", position="3") == 1,
            what="the click is counted",
        )

        report = await asyncio.to_thread(
            subprocess.run,
            [str(Path(sys.executable).with_name("streamrec")), "report", "--json", "-"],
            env={**engine.env, "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        figures = json.loads(report.stdout)
        assert (figures["total"]["shown"], figures["total"]["click"]["hits"]) == (4, 1)
        assert figures["value"] == {"(none)": 9.0}

    run(body)


def test_the_clicks_of_a_machine_do_not_make_an_item_popular(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        store = RedisSignalStore(engine.redis, engine.config.redis.key_prefix)
        began_ms = int(time.time() * 1000) - 30_000
        pushed = items[59]
        for number in range(25):  # 40 ms apart by their own times
            await engine.click("bot", items[number], event_time=began_ms + 40 * number)
        last = await engine.click("bot", pushed, event_time=began_ms + 1_000)
        assert (await engine.list_for(last))["items"], "it still gets its list"
        await engine.list_for(await engine.click("ann", items[58]))

        async def learnt() -> Any:
            return await store.load([items[58], items[0], pushed])

        async def others_count() -> bool:
            return {items[58], items[0]} <= (await learnt()).keys()

        await wait_until(others_count, what="a person's click is learnt, and what came before it was noticed")
        assert pushed not in await learnt()
        assert worker.metric("streamrec_automated_events_total", sign="burst") >= 6

    run(body)
