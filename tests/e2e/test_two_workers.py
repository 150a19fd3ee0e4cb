"""Workers share the partitions, and one that dies loses nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.servers


def test_two_workers_share_the_shoppers_and_take_over_from_each_other(
    run: Any, wait_until: Any, quick_death: dict[str, str]
) -> None:
    async def body(engine: Any) -> None:
        first = await engine.worker().ready()
        second = await engine.worker(**quick_death).ready()
        items = await engine.load_shop()
        users = [f"user-{number}" for number in range(24)]

        async def both_work() -> bool:
            for user in users:
                await engine.list_for(await engine.click(user, items[0]))
            return all(worker.metric("streamrec_lists_total") > 0 for worker in (first, second))

        await wait_until(both_work, what="both workers make lists")

        before = [await engine.click(user, items[1]) for user in users]
        second.kill()
        killed_s = time.monotonic()
        after = [await engine.click(user, items[2]) for user in users]
        for event in (*before, *after):
            if event in after:
                await engine.list_for(event)
        moved_s = time.monotonic() - killed_s
        for user in users:
            seen = [i.item_id for i in (await engine.state(user)).interactions]
            assert seen[-2:] == [items[1], items[2]]
            sequences = [made["sequence"] for made in engine.lists_of(user)]
            assert sequences == sorted(sequences)
        print(f"all shoppers of the dead worker had lists again after {moved_s:.1f} s")
        assert first.process.poll() is None

    run(body)
