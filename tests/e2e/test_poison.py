"""What crashes the core is set aside with the place, the stream goes on, and after the fix it comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from streamrec_command import streamrec

pytestmark = pytest.mark.servers
FAULTY = str(Path(__file__).with_name("faulty_worker.py"))


async def dead_letters(engine: Any, *arguments: str) -> Any:
    """Run the command as an operator does, and return what it prints."""
    done = await asyncio.to_thread(streamrec, "dead-letters", *arguments, "--json", env=engine.env)
    return json.loads(done.stdout)


def test_what_crashes_the_core_is_set_aside_and_put_back_after_the_fix(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        faulty = await engine.worker(sys.executable, FAULTY).ready()
        items = await engine.load_shop(30)
        before = await engine.click("ann", items[0])
        poison = await engine.click("ann", "poison")
        after = await engine.click("ann", items[1])
        others = [await engine.click(user, items[2]) for user in ("bob", "eve")]
        await engine.load(
            {"item_id": "odd", "title": "violet xylophone", "attributes": {"margin": 10**400}},
            {"item_id": "even", "title": "violet zither"},
        )
        for event in (after, *others):
            await engine.list_for(event)
        await wait_until(
            lambda: faulty.metric("streamrec_catalogue_items") == 31, what="the product after the odd one"
        )
        await wait_until(lambda: len(engine.dead_letters) == 2, what="the letters")
        assert len((await engine.state("ann")).interactions) == 2
        assert faulty.status()[0] == 200
        assert faulty.metric("streamrec_dead_letters_total", code="internal") == 2

        told = await dead_letters(engine, "list")
        assert told["codes"] == {"internal": 2}
        reasons = {letter["topic"]: letter["reason"] for letter in told["letters"]}
        click_reason, item_reason = reasons[engine.config.topics.clicks], reasons[engine.config.topics.items]
        assert click_reason.startswith("ZeroDivisionError at stream.lists.recommender:")
        assert item_reason.startswith("OverflowError at stream.catalog.writer:")
        values = {record.value for record in engine.dead_letters}
        assert json.dumps(poison).encode() in values
        log = faulty.log.read_text()
        assert "is set aside: ZeroDivisionError at stream.lists.recommender:" in log
        assert "ann is not to be told" not in log
        assert faulty.terminate() == 0

        sound = await engine.worker().ready()
        assert (await dead_letters(engine, "replay", "--code", "internal"))["outcomes"] == {"put back": 2}
        await engine.list_for(poison)
        await wait_until(lambda: sound.metric("streamrec_catalogue_items") == 32, what="the odd product")
        facts = (await engine.state("ann")).facts
        seen = [one.item_id for one in (await engine.state("ann")).interactions]
        assert seen == [before["item_id"], "poison", after["item_id"]]  # in the order of their times

        outcomes = (await dead_letters(engine, "replay", "--all"))["outcomes"]
        superseded = "superseded: the product was published again since"
        assert outcomes == {"put back": 1, superseded: 1}
        last = await engine.click("ann", items[4])
        await engine.list_for(last)
        again = [one for one in (await engine.state("ann")).interactions if one.item_id != items[4]]
        assert tuple(again) == facts[1]  # what was put back twice counts once
        assert len(engine.dead_letters) == 2

    run(body)
