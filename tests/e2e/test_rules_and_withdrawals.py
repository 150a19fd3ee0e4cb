"""What is withdrawn leaves the lists that stand, and rules act at run time, on the real servers."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest

from stream.adapters.rule_records import remove_record, write_records
from stream.core.rules.reading import read_json

pytestmark = pytest.mark.servers

SHOPPERS = [f"u{number}" for number in range(100)]


async def withdrawn(engine: Any, item_id: str) -> int:
    """Withdraw an item and return when the broker took that in, epoch ms."""
    gone = {"item_id": item_id, "title": "sold out", "available": False}
    return int((await engine.send(engine.config.topics.items, item_id, gone)).timestamp)


def newest(engine: Any) -> dict[str, dict[str, Any]]:
    """Each shopper's newest list."""
    return {user: lists[-1] for user in SHOPPERS if (lists := engine.lists_of(user))}


def showing(engine: Any, item_id: str) -> set[str]:
    return {
        user
        for user, made in newest(engine).items()
        if item_id in [item["item_id"] for item in made["items"]]
    }


def most_shown(engine: Any) -> str:
    counts = Counter(item["item_id"] for made in newest(engine).values() for item in made["items"])
    return counts.most_common(1)[0][0]


async def gone(engine: Any, wait_until: Any, item_id: str, since_ms: int, what: str) -> None:
    """Wait until no newest list shows an item, and print how long that took by the broker's clock."""
    await wait_until(lambda: not showing(engine, item_id), what=what)
    times_ms = [record.timestamp for record in engine.lists if record.timestamp >= since_ms]
    assert times_ms, f"{item_id} stood in no list"
    took_ms = [time_ms - since_ms for time_ms in times_ms]
    print(f"{what}: {len(took_ms)} lists, the last after {max(took_ms)} ms")


def test_withdrawn_items_and_rules_put_at_run_time_reach_the_lists_that_stand(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        events = {
            user: await engine.click(
                user, items[number % 5], context={"segment": "vip" if number % 2 else ""}
            )
            for number, user in enumerate(SHOPPERS)
        }
        for event in events.values():
            await engine.list_for(event)

        item_id = most_shown(engine)
        before = newest(engine)
        since_ms = await withdrawn(engine, item_id)
        await gone(engine, wait_until, item_id, since_ms, "withdrawn")
        for user, made in newest(engine).items():
            assert made["trigger"]["event_id"] == events[user]["event_id"]
            if item_id in [item["item_id"] for item in before[user]["items"]]:
                assert made["sequence"] > before[user]["sequence"]
                assert len(made["items"]) == len(before[user]["items"]) - 1
            else:
                assert made == before[user]
        republished = worker.metric("streamrec_lists_republished_total")
        assert republished > 0
        mean_ms = 1000 * worker.metric("streamrec_republish_seconds_sum") / republished
        print(f"of which the worker took {mean_ms:.0f} ms a list, waiting for one another included")

        item_id = most_shown(engine)
        no_more = {"id": "no-more", "kind": "exclude", "where": {"item_ids": [item_id]}}
        first = {"id": "first", "kind": "pin", "item_id": items[50], "position": 1}
        for_vips = {**first, "audience": {"segments": ["vip"]}}
        rules = read_json(json.dumps([no_more, for_vips]).encode(), "test")
        since_ms = time.time_ns() // 1_000_000
        await write_records(engine.config, rules)
        await gone(engine, wait_until, item_id, since_ms, "kept out by a rule")
        vip = await engine.list_for(
            await engine.click("vip", items[1], context={"segment": "vip"}),
        )
        other = await engine.list_for(await engine.click("other", items[1]))
        assert (vip["items"][0]["item_id"], vip["items"][0]["source"]) == (items[50], "pinned")
        assert other["items"][0]["source"] != "pinned"
        assert all(item_id not in [one["item_id"] for one in made["items"]] for made in (vip, other))
        assert await remove_record(engine.config, "no-more")

        worker.kill()
        item_id = most_shown(engine)
        await withdrawn(engine, item_id)
        since_ms = time.time_ns() // 1_000_000
        await engine.worker().ready()
        await gone(engine, wait_until, item_id, since_ms, "withdrawn while no worker lived, since its start")
        item_id = most_shown(engine)
        since_ms = await withdrawn(engine, item_id)
        await gone(engine, wait_until, item_id, since_ms, "withdrawn after a restart")

        await engine.send(engine.config.topics.rules, "broken", b'{"id": "broken", "kind": "no"}')
        await wait_until(
            lambda: engine.workers[-1].metric("streamrec_rules_skipped_total") == 1,
            what="a rule that cannot be read is skipped",
        )
        for user in SHOPPERS:
            lists = engine.lists_of(user)
            sequences = [made["sequence"] for made in lists]
            assert sequences == sorted(sequences)
            # A worker that is killed may not have noted yet that a list is out: then the same comes again.
            by_sequence = dict(zip(sequences, lists, strict=True))
            assert all(by_sequence[made["sequence"]] == made for made in lists)

    run(body)
