"""Events in, lists out, through the real topics."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import pytest

from stream.adapters.kafka_reading import partition_of
from stream.privacy.erasing import mark

pytestmark = pytest.mark.servers


def test_every_event_leads_to_a_list_with_that_trigger_or_a_later_one(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop()
        sent: dict[str, list[str]] = {}
        for number in range(200):  # faster than one by one: bursts coalesce
            user = f"u{number % 7}"
            event = await (
                engine.search(user, "red mug") if number % 5 == 0 else engine.click(user, items[number % 60])
            )
            sent.setdefault(user, []).append(event["event_id"])

        def all_answered() -> bool:
            for user, events in sent.items():
                triggers = {made["trigger"]["event_id"] for made in engine.lists_of(user)}
                if events[-1] not in triggers:
                    return False
                assert triggers <= set(events)
            return True

        await wait_until(all_answered, what="each shopper's last event has its list")

    run(body)


def test_a_list_is_as_the_contract_says(run: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop()
        event = await engine.click("ann", items[0], placement="cart", session_id="s1")
        made = await engine.list_for(event)
        assert made["user_id"] == "ann"
        assert made["schema_version"] == 1
        assert made["placement"] == "cart"
        assert made["expires_at"] > made["generated_at"] > 0
        assert made["trigger"]["topic"] == engine.config.topics.clicks
        assert made["trigger"]["event_time"] == event["event_time"]
        assert made["degraded"] == []
        assert set(made["model_versions"]) == {"encoder", "reranker"}
        assert [item["rank"] for item in made["items"]] == list(range(1, len(made["items"]) + 1))
        assert len(made["items"]) == engine.config.policy.list_length
        assert all(item["source"] and item["reason"] for item in made["items"])
        scores = [item["score"] for item in made["items"]]
        assert all(isinstance(score, float) for score in scores)

    run(body)


def test_the_list_of_a_search_names_all_the_models_that_made_it(run: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        await engine.load_shop()
        made = await engine.list_for(await engine.search("sue", "red mug"))
        assert set(made["model_versions"]) == {"encoder", "reranker", "cross_encoder"}
        assert made["degraded"] == []
        read = worker.metric("streamrec_cache_lookups_total", cache="pairs", result="miss")
        assert read > 0
        again = await engine.list_for(await engine.search("pam", " Red  MUG "))
        assert again["model_versions"] == made["model_versions"]
        assert worker.metric("streamrec_cache_lookups_total", cache="pairs", result="miss") == read

    run(body)


def test_what_is_bought_in_view_or_withdrawn_is_not_recommended(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop(40)
        # Of one partition, so that who follows the removal has followed the withdrawal before.
        partitions = engine.config.kafka.partitions
        near = [item for item in items if partition_of(item.encode(), partitions) == 0]
        withdrawn, removed = near[:2]
        bought, viewed, carted = [item for item in items if item not in (withdrawn, removed)][:3]
        await engine.click("bob", bought, "purchase")
        await engine.click("bob", carted, "add_to_cart")
        await engine.load({"item_id": withdrawn, "title": "red mug", "available": False})
        await engine.send(engine.config.topics.items, removed, None)
        await wait_until(lambda: worker.metric("streamrec_catalogue_items") == 39, what="removal followed")
        event = await engine.click("bob", viewed)
        shown = [item["item_id"] for item in (await engine.list_for(event))["items"]]
        assert shown
        assert len(shown) == len(set(shown))
        assert not {bought, viewed, carted, withdrawn, removed} & set(shown)
        assert set(shown) <= set(items)

    run(body)


def test_a_change_of_the_catalogue_is_soon_in_force(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        await engine.load_shop()

        async def is_shown() -> bool:
            made = await engine.list_for(await engine.search("cat", "zebra umbrella"))
            return "novelty" in [item["item_id"] for item in made["items"]]

        async def is_gone() -> bool:
            return not await is_shown()

        novelty = {"item_id": "novelty", "title": "luminous zebra umbrella", "price": 3.0}
        took_s = []
        for item, in_force in (
            (novelty, is_shown),
            ({**novelty, "available": False}, is_gone),
            (novelty, is_shown),
            (None, is_gone),
        ):
            began_s = time.monotonic()
            await engine.send(engine.config.topics.items, "novelty", item)
            await wait_until(in_force, what=f"in force: {item}")
            took_s.append(time.monotonic() - began_s)
        print("catalogue changes in force after", [f"{one:.2f} s" for one in took_s])

    run(body)


def test_invalid_messages_are_set_aside_with_their_reason_and_the_stream_goes_on(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        await engine.load_shop(30)
        topic = engine.config.topics.clicks
        good = {
            "event_id": "e",
            "event_type": "view_item",
            "event_time": int(time.time() * 1000),
            "user_id": "u",
            "item_id": "item-001",
        }
        bad: list[tuple[Any, Any, str, str]] = [
            ("u", b"not json", "not_json", "value"),
            ("u", b"[1]", "not_an_object", "value"),
            ("u", {**good, "user_id": None}, "invalid_field", "user_id"),
            ("u", {key: good[key] for key in good if key != "event_time"}, "invalid_field", "event_time"),
            ("u", {**good, "item_id": "x" * 5000}, "invalid_field", "item_id"),
            ("u", {**good, "event_time": "yesterday"}, "invalid_time", "event_time"),
            ("u", json.dumps({**good, "price": float("nan")}).encode(), "invalid_field", "price"),
            ("u", {**good, "price": -1}, "invalid_field", "price"),
            ("u", {**good, "context": {"x": "y" * 1_100_000}}, "too_large", "bytes"),
            ("u", {**good, "event_type": "explode"}, "unknown_event_type", "event_type"),
            ("u", b'{"a":' * 100_000, "too_deep", "nested"),
            ("other", good, "key_mismatch", "user_id"),
            (None, good, "key_mismatch", "key"),
            ("u", None, "null_value", "value"),
        ]
        for key, value, _, _ in bad:
            await engine.send(topic, key, value)
        event = await engine.click("u", "item-002")
        await engine.list_for(event)
        await wait_until(lambda: len(engine.dead_letters) >= len(bad), what="all bad ones are set aside")
        assert len(engine.dead_letters) == len(bad)
        found = {}
        for record in engine.dead_letters:
            headers = {name: value.decode() for name, value in record.headers}
            assert headers["source-topic"] == topic
            assert headers["failed-at"]
            place = (int(headers["source-partition"]), int(headers["source-offset"]))
            found[place] = (record, headers)
        codes = sorted(headers["error-code"] for _, headers in found.values())
        assert codes == sorted(code for *_, code, _ in bad)
        for key, value, code, names in bad:
            data = (
                value if isinstance(value, bytes) else None if value is None else json.dumps(value).encode()
            )
            matches = [
                headers
                for record, headers in found.values()
                if record.value == data and record.key == (key.encode() if key else None)
            ]
            assert any(h["error-code"] == code and names in h["error-message"] for h in matches), code

    run(body)


def test_unknown_shoppers_items_and_an_empty_catalogue_are_no_errors(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        event = await engine.click("new", "never-heard-of")
        made = await engine.list_for(event)
        assert made["items"] == []
        assert "empty" in made["degraded"]
        items = await engine.load_shop(30)
        event = await engine.click("new", "never-heard-of-either")
        made = await engine.list_for(event)
        assert made["items"], "a cold shop still has something to show"
        assert {item["item_id"] for item in made["items"]} <= set(items)
        event = await engine.search("newer", "qwertzuiop")
        assert (await engine.list_for(event))["items"]
        # The event came before its item: once the item is there, it counts.
        await engine.load({"item_id": "never-heard-of", "title": "green kettle late"})
        await wait_until(lambda: worker.metric("streamrec_catalogue_items") == 31)
        event = await engine.click("new", items[1])
        shown = [item["item_id"] for item in (await engine.list_for(event))["items"]]
        assert shown

    run(body)


def test_lists_of_a_shopper_carry_growing_sequences(run: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop(30)
        for number in range(10):
            await engine.list_for(await engine.click("dora", items[number]))
        erased_ms = time.time_ns() // 1_000_000 - 1
        await mark(engine.states, "dora", erased_ms, 2 * erased_ms)
        later = await engine.click("dora", items[10], event_time=erased_ms + 1)
        await engine.list_for(later)
        sequences = [made["sequence"] for made in engine.lists_of("dora")]
        assert all(before < after for before, after in itertools.pairwise(sequences))
        ids = [made["recommendation_id"] for made in engine.lists_of("dora")]
        assert len(set(ids)) == len(ids)

    run(body)


def test_co_visited_items_are_learnt_from_the_stream(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop()
        pair = (items[3], items[44])
        for number in range(12):
            for item in pair:
                await engine.list_for(await engine.click(f"crowd-{number}", item))

        async def learnt() -> bool:
            user = f"asker-{time.monotonic_ns()}"
            made = await engine.list_for(await engine.click(user, pair[0]))
            first = next((item for item in made["items"] if item["item_id"] == pair[1]), None)
            return first is not None and "no 3" in first["reason"]

        await wait_until(learnt, what="the pair is recommended because of its other half")
        await asyncio.sleep(0)

    run(body)
