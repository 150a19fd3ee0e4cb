"""What every memory of shoppers' lists promises."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from builders import NOW_MS
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.config import Redis as RedisSettings
from stream.core import attribution
from stream.core.attribution import MADE_KEPT, SHOWN_KEPT, KeptList, kept_of, marked
from stream.core.events import RecommendationList, RecommendedItem, Trigger
from stream.core.policy import HOUR_MS, Policy
from stream.errors import StateUnavailable
from stream.fakes import MemoryKeptLists
from stream.ports import KeptLists

Run = Callable[[Callable[[Any], Awaitable[None]]], None]


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a memory of its own."""
    if request.param == "fake":
        return lambda body: asyncio.run(_on_fake(body))
    at = redis_of(request)
    return lambda body: asyncio.run(_on_redis(body, at))


async def _on_fake(body: Callable[[KeptLists], Awaitable[None]]) -> None:
    await body(MemoryKeptLists())


async def _on_redis(body: Callable[[KeptLists], Awaitable[None]], at: RedisSettings) -> None:
    client = redis_client.connect(at)
    try:
        await body(RedisKeptLists(client, 72.0, f"{uuid.uuid4().hex}:"))
    finally:
        await client.aclose()


def made(number: int, user_id: str = "ann") -> RecommendationList:
    items = [
        RecommendedItem("mug", 1, 0.9, "session", "because you viewed カップ"),
        RecommendedItem(f"カップ-{number}", 2, 0.5, "new", "new", 0.25, True),
    ]
    return RecommendationList(
        schema_version=1,
        recommendation_id=f"r{number}",
        user_id=user_id,
        placement="home",
        sequence=number,
        generated_at=NOW_MS + number,
        expires_at=NOW_MS + number + HOUR_MS,
        trigger=Trigger("e1", "clicks", 0, 7, NOW_MS),
        model_versions={"reranker": "3"},
        degraded=[],
        items=items,
        policy="autumn",
    )


def shown(number: int) -> KeptList:
    one = kept_of(made(number))
    return one._replace(items=tuple(item._replace(shown_ms=NOW_MS + number) for item in one.items))


def names(lists: tuple[KeptList, ...]) -> set[str]:
    return {one.recommendation_id for one in lists}


def test_of_an_unknown_shopper_there_are_no_lists(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        assert await memory.recall(["nobody", "ann"]) == {"nobody": (), "ann": ()}
        assert await memory.recall([]) == {}
        await memory.remember([])
        await memory.mark({})

    run(body)


def test_a_list_is_recalled_as_it_was_made(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        await memory.remember([made(1), made(2, "ユーザー")])
        found = await memory.recall(["ann", "ユーザー"])
        assert found == {"ann": (kept_of(made(1)),), "ユーザー": (kept_of(made(2)),)}

    run(body)


def test_of_each_shopper_the_newest_few_are_kept(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        for number in range(MADE_KEPT + 3):
            await memory.remember([made(number)])
        assert names((await memory.recall(["ann"]))["ann"]) == {f"r{n}" for n in range(3, MADE_KEPT + 3)}

    run(body)


def test_a_list_that_was_shown_is_kept_beyond_newer_ones_and_recalled_once(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        await memory.remember([made(1)])
        await memory.mark({"ann": [shown(1)]})
        assert (await memory.recall(["ann"]))["ann"] == (shown(1),)
        for number in range(2, MADE_KEPT + 5):
            await memory.remember([made(number)])
        assert shown(1) in (await memory.recall(["ann"]))["ann"]

    run(body)


def test_a_mark_takes_the_place_of_the_one_before(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        for count in range(1, SHOWN_KEPT + 4):
            lists = [shown(number) for number in range(count)]
            await memory.mark({"ann": marked(lists, [], Policy())})
        found = (await memory.recall(["ann"]))["ann"]
        assert names(found) == {f"r{number}" for number in range(3, SHOWN_KEPT + 3)}

    run(body)


def test_a_shopper_is_forgotten_with_all_lists(run: Run) -> None:
    async def body(memory: KeptLists) -> None:
        await memory.remember([made(1), made(2, "bob")])
        await memory.mark({"ann": [shown(1)]})
        assert await memory.erase("ann")
        assert not await memory.erase("ann")
        assert {user: names(lists) for user, lists in (await memory.recall(["ann", "bob"])).items()} == {
            "ann": set(),
            "bob": {"r2"},
        }

    run(body)


def test_what_is_kept_expires_and_a_damaged_list_is_left_out(stack: Any) -> None:
    async def body() -> None:
        client = redis_client.connect(RedisSettings(url=stack.endpoints.redis, timeout_ms=5_000))
        prefix = f"{uuid.uuid4().hex}:"
        memory = RedisKeptLists(client, 2.0, prefix)
        await memory.remember([made(1)])
        await memory.mark({"ann": [shown(1)]})
        assert 0 < await client.pttl(f"{prefix}l:ann") <= HOUR_MS
        assert HOUR_MS < await client.pttl(f"{prefix}s:ann") <= 2 * HOUR_MS
        await client.lpush(f"{prefix}l:ann", b"\x01damaged")
        assert names((await memory.recall(["ann"]))["ann"]) == {"r1"}
        await client.aclose()

    asyncio.run(body())


@pytest.mark.servers
def test_a_list_of_a_newer_release_is_left_alone(stack: Any) -> None:
    async def body() -> None:
        client = redis_client.connect(RedisSettings(url=stack.endpoints.redis, timeout_ms=5_000))
        prefix = f"{uuid.uuid4().hex}:"
        newer = bytes([attribution.VERSION + 1]) + b"rest"
        await client.lpush(f"{prefix}l:ann", newer)
        with pytest.raises(StateUnavailable, match=f"version {attribution.VERSION + 1}"):
            await RedisKeptLists(client, 2.0, prefix).recall(["ann"])
        assert await client.lrange(f"{prefix}l:ann", 0, -1) == [newer]
        await client.aclose()

    asyncio.run(body())


def test_a_redis_that_is_away_is_noticed(closed_port: int, soon: Any) -> None:
    async def body() -> None:
        client = redis_client.connect(RedisSettings(url=f"redis://127.0.0.1:{closed_port}/0", timeout_ms=200))
        memory = RedisKeptLists(client, 1.0)
        for call in (memory.recall(["ann"]), memory.remember([made(1)]), memory.mark({"ann": [shown(1)]})):
            with pytest.raises(StateUnavailable):
                await soon(call)
        with pytest.raises(StateUnavailable):
            await soon(memory.erase("ann"))
        await client.aclose()

    asyncio.run(body())


def test_a_fake_that_is_told_to_fail_fails() -> None:
    memory = MemoryKeptLists()
    memory.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        asyncio.run(memory.recall(["ann"]))
