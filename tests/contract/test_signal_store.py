"""What every store of what is learnt about items promises."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from builders import NOW_MS
from redis.asyncio import Redis
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client, redis_signals
from stream.adapters.redis_signals import RedisSignalStore
from stream.config import Redis as RedisSettings
from stream.core.policy import DAY_MS
from stream.core.signals import EMPTY, Increment, ItemSignals, fold
from stream.errors import StateUnavailable
from stream.fakes import MemorySignalStore
from stream.ports import SignalStore, VersionedSignals

Run = Callable[[Callable[..., Awaitable[None]]], None]


@asynccontextmanager
async def _redis(url: str, timeout_ms: int = 5_000, cluster: bool = False) -> AsyncIterator[Any]:
    client = redis_client.connect(RedisSettings(url=url, timeout_ms=timeout_ms, cluster=cluster))
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a store of its own."""

    async def on_fake(body: Callable[[SignalStore], Awaitable[None]]) -> None:
        await body(MemorySignalStore())

    async def on_redis(body: Callable[[SignalStore], Awaitable[None]]) -> None:
        async with _redis(at.url, cluster=at.cluster) as client:
            await body(RedisSignalStore(client, f"{uuid.uuid4().hex}:"))

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    at = redis_of(request)
    return lambda body: asyncio.run(on_redis(body))


@pytest.fixture
def on_redis(stack: Any) -> Run:
    """Run a test's body on Redis: it gets the store, the client and the prefix of its keys."""

    async def on(body: Callable[..., Awaitable[None]]) -> None:
        prefix = f"{uuid.uuid4().hex}:"
        async with _redis(stack.endpoints.redis) as client:
            await body(RedisSignalStore(client, prefix), client, prefix)

    return lambda body: asyncio.run(on(body))


def _row(offset: int = 0, neighbours: int = 3) -> ItemSignals:
    pairs = [(f"item-{n}", 1.0 / (n + 1)) for n in range(neighbours)]
    return fold(None, [Increment("clicks/0", offset, NOW_MS, 1.0, pairs, pairs[:1])])


def _same(one: ItemSignals, other: ItemSignals) -> bool:
    return (
        one.applied == other.applied
        and one.neighbours == other.neighbours
        and one.popularity == pytest.approx(other.popularity)
        and np.array_equal(one.forward, other.forward)
        and np.array_equal(one.backward, other.backward)
    )


def test_items_of_which_nothing_is_known_are_left_out(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        assert await store.load(["mug", "cup"]) == {}
        assert await store.load([]) == {}
        assert await store.save({}) == {}

    run(body)


@pytest.mark.parametrize("item_id", ["mug", "a b", "i:x", "カップ", "a\nb", "🛒"], ids=ascii)
def test_a_saved_row_is_read_as_it_was_with_its_version(run: Run, item_id: str) -> None:
    async def body(store: SignalStore) -> None:
        assert await store.save({item_id: VersionedSignals(_row(), 0)}) == {item_id: True}
        found = await store.load([item_id, "cup"])
        assert list(found) == [item_id]
        assert _same(found[item_id].signals, _row())
        assert found[item_id].version == 1

    run(body)


def test_versions_go_on_from_save_to_save(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        for number in range(4):
            assert await store.save({"mug": VersionedSignals(_row(number), number)}) == {"mug": True}
        assert (await store.load(["mug"]))["mug"].version == 4

    run(body)


@pytest.mark.parametrize("version", [0, 1, 3, 2**40])
def test_a_save_that_expects_another_version_changes_nothing(run: Run, version: int) -> None:
    async def body(store: SignalStore) -> None:
        await store.save({"mug": VersionedSignals(_row(1), 0)})
        await store.save({"mug": VersionedSignals(_row(2), 1)})
        assert await store.save({"mug": VersionedSignals(_row(9), version)}) == {"mug": False}
        assert (await store.load(["mug"]))["mug"].signals.applied == {"clicks/0": 2}

    run(body)


def test_a_conflict_of_one_item_is_no_other_s(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        rows = {
            "mug": VersionedSignals(_row(), 0),
            "cup": VersionedSignals(_row(), 5),
            "pot": VersionedSignals(_row(), 0),
        }
        assert await store.save(rows) == {"mug": True, "cup": False, "pot": True}
        assert set(await store.load(list(rows))) == {"mug", "pot"}

    run(body)


def test_of_savers_at_the_same_time_exactly_one_wins(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        saves = [store.save({"mug": VersionedSignals(_row(n), 0)}) for n in range(20)]
        answers = [saved["mug"] for saved in await asyncio.gather(*saves)]
        assert answers.count(True) == 1
        found = (await store.load(["mug"]))["mug"]
        assert found.signals.applied == {"clicks/0": answers.index(True)}

    run(body)


def test_popularity_is_followed_from_a_mark(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        nothing, mark = await store.popularity(0)
        assert nothing == {}
        await store.save({name: VersionedSignals(_row(), 0) for name in ("mug", "cup")})
        first, mark = await store.popularity(mark)
        assert set(first) == {"mug", "cup"}
        np.testing.assert_allclose(first["mug"], _row().popularity, rtol=1e-6)
        await store.save({"pot": VersionedSignals(_row(), 0)})
        second, later = await store.popularity(mark)
        assert "pot" in second
        assert later >= mark

    run(body)


def test_who_follows_popularity_from_the_beginning_sees_the_last_value_of_all(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        row = _row(0)
        for version in range(3):
            row = fold(row, [Increment("clicks/0", version + 1, NOW_MS, 1.0)])
            await store.save({"mug": VersionedSignals(row, version)})
        found, _ = await store.popularity(0)
        np.testing.assert_allclose(found["mug"], row.popularity, rtol=1e-6)

    run(body)


def test_a_save_that_lost_does_not_show_in_popularity(run: Run) -> None:
    async def body(store: SignalStore) -> None:
        await store.save({"mug": VersionedSignals(_row(), 4)})
        assert (await store.popularity(0))[0] == {}

    run(body)


def test_a_fake_that_is_told_to_fail_fails() -> None:
    store = MemorySignalStore()
    store.failure = StateUnavailable("away")
    for call in (store.load(["mug"]), store.save({}), store.popularity(0)):
        with pytest.raises(StateUnavailable):
            asyncio.run(call)  # type: ignore[arg-type]


def test_any_number_of_changes_is_read_to_the_end(on_redis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_signals, "PAGE", 7)

    async def body(store: RedisSignalStore, _: Redis, __: str) -> None:
        names = {f"item-{n}" for n in range(40)}
        await store.save({name: VersionedSignals(_row(), 0) for name in names})
        found, mark = await store.popularity(0)
        assert set(found) == names
        assert set((await store.popularity(mark))[0]) == names  # clocks may differ: a while is read again

    on_redis(body)


def test_what_was_learnt_is_forgotten_after_long(on_redis: Run) -> None:
    async def body(store: RedisSignalStore, client: Redis, prefix: str) -> None:
        await store.save({name: VersionedSignals(_row(), 0) for name in ("mug", "cup", "jug")})
        lives_ms = redis_signals.TTL_DAYS * DAY_MS
        assert 0 <= lives_ms - await client.pttl(f"{prefix}i:mug") < 60_000
        old_ms = int(await client.zscore(f"{prefix}c", "mug")) - lives_ms
        await client.zadd(f"{prefix}c", {"mug": old_ms - 1, "cup": old_ms + 60_000})
        await store.save({"jug": VersionedSignals(_row(3), 1)})
        assert set((await store.popularity(0))[0]) == {"cup", "jug"}
        assert set(await client.hkeys(f"{prefix}p")) == {b"cup", b"jug"}

    on_redis(body)


def test_changes_of_long_ago_are_not_read_again(on_redis: Run) -> None:
    async def body(store: RedisSignalStore, client: Redis, prefix: str) -> None:
        await store.save({name: VersionedSignals(_row(), 0) for name in ("mug", "cup")})
        await client.zadd(f"{prefix}c", {"mug": 1})
        _, mark = await store.popularity(0)
        assert set((await store.popularity(mark))[0]) == {"cup"}

    on_redis(body)


@pytest.mark.parametrize(
    ("damage", "version"),
    [
        (lambda data: data[:-3], 1),
        (lambda data: data[:9], 1),
        (lambda data: data[:9] + b"\x00" + data[10:], 1),
        (lambda data: data[:4], 0),
    ],
    ids=["truncated", "version only", "unknown format", "too short"],
)
def test_a_damaged_row_begins_anew(on_redis: Run, damage: Callable[[bytes], bytes], version: int) -> None:
    async def body(store: RedisSignalStore, client: Redis, prefix: str) -> None:
        await store.save({"mug": VersionedSignals(_row(), 0)})
        data = await client.get(f"{prefix}i:mug")
        await client.set(f"{prefix}i:mug", damage(data))
        found = (await store.load(["mug"])).get("mug", VersionedSignals(EMPTY, 0))
        assert found == VersionedSignals(EMPTY, version)
        assert await store.save({"mug": VersionedSignals(_row(3), version)}) == {"mug": True}
        assert _same((await store.load(["mug"]))["mug"].signals, _row(3))

    on_redis(body)


@pytest.mark.parametrize("place", [0, 9], ids=["format", "row"])
def test_a_row_of_a_newer_release_is_left_alone(on_redis: Run, place: int) -> None:
    async def body(store: RedisSignalStore, client: Redis, prefix: str) -> None:
        await store.save({"mug": VersionedSignals(_row(), 0)})
        data = bytearray(await client.get(f"{prefix}i:mug"))
        data[place] += 1
        await client.set(f"{prefix}i:mug", bytes(data))
        with pytest.raises(StateUnavailable, match=f"version {data[place]}"):
            await store.load(["mug"])
        assert await client.get(f"{prefix}i:mug") == bytes(data)

    on_redis(body)


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_redis_that_is_away_is_noticed(port: str, request: pytest.FixtureRequest, soon: Any) -> None:
    url = f"redis://127.0.0.1:{request.getfixturevalue(port)}/0"

    async def body() -> None:
        async with _redis(url, timeout_ms=200) as client:
            store = RedisSignalStore(client)
            rows = {"mug": VersionedSignals(_row(), 0)}
            for call in (store.load(["mug"]), store.save(rows), store.popularity(0)):
                with pytest.raises(StateUnavailable):
                    await soon(call)

    asyncio.run(body())
