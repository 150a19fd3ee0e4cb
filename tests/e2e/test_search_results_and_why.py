"""A shop's own results come back in order, and a worker says why, through the real topics and models."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from stream.core.events import results_key
from stream.core.state import UserState

pytestmark = pytest.mark.servers


def why(worker: Any, user: str, item: str) -> Any:
    """What a worker says of an item; it makes a list several times for it."""
    url = f"http://127.0.0.1:{worker.port}/explain?user={user}&item={item}"
    with urllib.request.urlopen(url, timeout=300) as answer:
        return json.load(answer)


def test_results_have_a_list_of_their_own_beside_the_recommendations(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        await engine.list_for(await engine.click("ann", items[3]))
        results = [items[40], items[0], "nobody-knows-it", items[12]]
        event = await engine.search("ann", "red mug", result_item_ids=results)
        home = await engine.list_for(event)
        [record] = [one for one in engine.lists if one.key == results_key("ann", "search")]
        made = json.loads(record.value)
        shown = [item["item_id"] for item in made["items"]]
        assert sorted(shown) == sorted(results)
        assert shown[0] == items[0]  # the red mug
        assert shown[2] == "nobody-knows-it"
        assert made["placement"] == "search"
        assert made["reordered"]
        assert made["trigger"]["event_id"] == event["event_id"]
        assert set(made["model_versions"]) == {"encoder", "reranker", "cross_encoder"}
        assert made["degraded"] == []
        assert home["placement"] == "home"
        assert home["sequence"] > made["sequence"]
        last = engine.lists[-1]
        assert (last.key, last.partition) == (b"ann", record.partition)

        first = home["items"][0]
        found = why(worker, "ann", first["item_id"])
        assert found["fate"]["stage"] == "listed"
        assert found["place"] == 1
        assert found["reason"] == first["reason"]
        score = found["score"]
        assert not score["exact"]
        parts = sum(part["by"] for part in score["contributions"])
        assert score["mean_score"] + parts == pytest.approx(score["score"], abs=1e-3)
        assert why(worker, "ann", "nobody-knows-it")["fate"]["stage"] == "unknown"
        state: UserState = await engine.state("ann")
        assert state.sequence == home["sequence"]  # nothing was saved by asking

    run(body)
