"""What every store of shoppers' states promises."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import pytest
from bench_memory import shopper
from builders import NOW_MS, click
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client
from stream.adapters.redis_state import TTL_JITTER, RedisStateStore
from stream.config import Redis as RedisSettings
from stream.core import codec
from stream.core.policy import DAY_MS, Policy
from stream.core.state import UserState, apply, empty
from stream.errors import StateUnavailable
from stream.fakes import MemoryStateStore
from stream.ports import StateStore
from stream.privacy.erasing import mark
from stream.privacy.pseudonyms import pseudonym

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

    async def on_fake(body: Callable[[StateStore], Awaitable[None]]) -> None:
        await body(MemoryStateStore())

    async def on_redis(body: Callable[[StateStore], Awaitable[None]]) -> None:
        async with _redis(at.url, cluster=at.cluster) as client:
            await body(RedisStateStore(client, f"{uuid.uuid4().hex}:"))

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
            await body(RedisStateStore(client, prefix), client, prefix)

    return lambda body: asyncio.run(on(body))


def _state(user_id: str = "ann", sequence: int = 1, items: int = 1) -> UserState:
    state = empty(user_id)._replace(sequence=sequence)
    for offset in range(items):
        state = apply(state, click(item_id=f"item-{offset}", offset=offset), Policy())
    return state


async def _load(store: StateStore, user_id: str = "ann") -> UserState:
    return (await store.load([user_id]))[user_id]


def test_a_shopper_who_is_not_stored_has_an_empty_state(run: Run) -> None:
    async def body(store: StateStore) -> None:
        assert await store.load(["ann", "bob"]) == {"ann": empty("ann"), "bob": empty("bob")}

    run(body)


def test_asking_for_nobody_gives_nothing(run: Run) -> None:
    async def body(store: StateStore) -> None:
        assert await store.load([]) == {}
        assert await store.save([]) == []

    run(body)


def test_a_saved_state_is_read_as_it_was(run: Run) -> None:
    async def body(store: StateStore) -> None:
        state = _state(sequence=NOW_MS, items=40)
        assert await store.save([(state, 0)]) == [True]
        assert await _load(store) == state

    run(body)


@pytest.mark.parametrize(
    "user_id", ["a b", "ann:bob", "{tag}", "ユーザー", "a\nb\r\n", "🛒" * 256, "*", "\\"]
)
def test_any_user_id_will_do(run: Run, user_id: str) -> None:
    async def body(store: StateStore) -> None:
        assert await store.save([(_state(user_id), 0)]) == [True]
        assert await _load(store, user_id) == _state(user_id)
        assert await _load(store, user_id + "x") == empty(user_id + "x")

    run(body)


@pytest.mark.parametrize("expected", [0, 1, 6, 8, 2**40])
def test_a_save_that_expects_another_sequence_changes_nothing(run: Run, expected: int) -> None:
    async def body(store: StateStore) -> None:
        await store.save([(_state(sequence=7), 0)])
        assert await store.save([(_state(sequence=9, items=3), expected)]) == [False]
        assert await _load(store) == _state(sequence=7)
        assert await store.save([(_state(sequence=9, items=3), 7)]) == [True]
        assert await _load(store) == _state(sequence=9, items=3)

    run(body)


def test_a_save_that_expects_a_state_finds_none(run: Run) -> None:
    async def body(store: StateStore) -> None:
        assert await store.save([(_state(sequence=9), 7)]) == [False]
        assert await _load(store) == empty("ann")

    run(body)


def test_a_conflict_of_one_shopper_is_no_other_s(run: Run) -> None:
    async def body(store: StateStore) -> None:
        await store.save([(_state("bob", 7), 0)])
        saves = [(_state("ann"), 0), (_state("bob", 9), 3), (_state("cyd"), 0)]
        assert await store.save(saves) == [True, False, True]
        assert (await _load(store, "bob")).sequence == 7
        assert (await _load(store, "cyd")).sequence == 1

    run(body)


def test_of_savers_at_the_same_time_exactly_one_wins(run: Run) -> None:
    async def body(store: StateStore) -> None:
        await store.save([(_state(sequence=1), 0)])
        saves = [store.save([(_state(sequence=10 + n), 1)]) for n in range(20)]
        answers = [saved for (saved,) in await asyncio.gather(*saves)]
        assert answers.count(True) == 1
        assert (await _load(store)).sequence == 10 + answers.index(True)

    run(body)


def test_of_savers_of_the_very_same_state_exactly_one_wins(run: Run) -> None:
    """Two workers that both believed they had saved would publish two lists under one sequence."""

    async def body(store: StateStore) -> None:
        answers = await asyncio.gather(*(store.save([(_state(), 0)]) for _ in range(10)))
        assert [saved for (saved,) in answers].count(True) == 1

    run(body)


def test_a_chain_of_saves_goes_on_from_what_was_loaded(run: Run) -> None:
    async def body(store: StateStore) -> None:
        for number in range(1, 6):
            state = await _load(store)
            assert await store.save([(_state(sequence=number), state.sequence)]) == [True]
        assert (await _load(store)).sequence == 5

    run(body)


def test_of_an_erased_shopper_the_mark_is_kept_and_nothing_else(run: Run) -> None:
    async def body(store: StateStore) -> None:
        await store.save([(_state(sequence=7), 0)])
        until_ms = 4 * NOW_MS
        assert await mark(store, "ann", NOW_MS, until_ms) == _state(sequence=7)
        left = await _load(store)
        assert left == UserState("ann", sequence=NOW_MS, erased_ms=NOW_MS, marked_until_ms=until_ms)
        assert await store.save([(_state(sequence=8), 7)]) == [False]
        assert await store.save([(_state(sequence=8), 0)]) == [False]
        begun = apply(left, click(offset=9, at_ms=NOW_MS + 1), Policy())._replace(sequence=NOW_MS + 1)
        assert await store.save([(begun, NOW_MS)]) == [True]
        assert await _load(store) == begun

    run(body)


def test_a_shopper_of_whom_nothing_is_stored_is_marked_too(run: Run) -> None:
    async def body(store: StateStore) -> None:
        assert await mark(store, "ann", NOW_MS, 4 * NOW_MS) == empty("ann")
        assert (await _load(store)).erased_ms == NOW_MS

    run(body)


def test_a_mark_lives_as_long_as_it_must_and_no_longer(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        await mark(store, "ann", now_ms, now_ms + 5 * DAY_MS)
        left_ms = await client.pttl(f"{prefix}u:ann")
        assert 4 * DAY_MS < left_ms <= 5 * DAY_MS
        await mark(store, "ann", now_ms, now_ms + 400 * DAY_MS)
        state = await _load(store)
        again = apply(state, click(offset=9, at_ms=now_ms + 1), Policy())._replace(
            sequence=state.sequence + 1
        )
        assert await store.save([(again, state.sequence)]) == [True]
        assert 399 * DAY_MS < await client.pttl(f"{prefix}u:ann") <= 400 * DAY_MS

    on_redis(body)


def test_no_error_nor_log_line_of_redis_names_a_shopper(
    on_redis: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        await client.lpush(f"{prefix}u:ann-canary", b"a list, not a state")
        with pytest.raises(StateUnavailable) as raised:
            await store.save([(_state("ann-canary"), 0)])
        assert "WRONGTYPE" in str(raised.value)
        assert "canary" not in str(raised.value)
        await client.set(f"{prefix}u:bob-canary", b"\x01" + bytes(8) + b"damaged")
        await _load(store, "bob-canary")
        assert pseudonym("bob-canary") in caplog.text
        assert "canary" not in caplog.text

    on_redis(body)


def test_a_fake_that_is_told_to_fail_fails() -> None:
    store = MemoryStateStore()
    store.failure = StateUnavailable("away")
    for call in (store.load(["ann"]), store.save([(_state(), 0)])):
        with pytest.raises(StateUnavailable):
            asyncio.run(call)  # type: ignore[arg-type]


def test_states_live_as_long_as_told_and_not_all_equally_long(on_redis: Run) -> None:
    async def body(_: RedisStateStore, client: Redis, prefix: str) -> None:
        store = RedisStateStore(client, prefix, ttl_days=2)
        users = [f"user-{n}" for n in range(50)]
        await store.save([(_state(user, items=3), 0) for user in users])
        left = [await client.pttl(f"{prefix}u:{user}") for user in users]
        assert all(2 * DAY_MS - 60_000 < ms <= 2 * DAY_MS * (1 + TTL_JITTER) for ms in left)
        assert max(left) - min(left) > 0.02 * DAY_MS

    on_redis(body)


def test_a_shopper_of_50_interactions_takes_no_more_than_1000_bytes(on_redis: Run) -> None:
    """What docs/servers.md tells who has to plan for memory."""

    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        states = [shopper(number, interactions=50, hashed=False) for number in range(40)]
        await store.save([(state, 0) for state in states])
        used = [await client.memory_usage(f"{prefix}u:{state.user_id}", samples=0) for state in states]
        longer = len(prefix) - len("sr:")
        assert median(bytes_ - longer for bytes_ in used if bytes_) <= 1_000

    on_redis(body)


def test_a_save_makes_a_state_live_longer_again(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        await store.save([(_state(items=3), 0)])
        await client.pexpire(f"{prefix}u:ann", 60_000)
        await store.save([(_state(sequence=2, items=3), 1)])
        assert await client.pttl(f"{prefix}u:ann") > 89 * DAY_MS

    on_redis(body)


def test_a_shopper_of_one_or_two_acts_is_forgotten_sooner_until_there_are_more(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        bought = apply(empty("buyer"), click(event_type="purchase"), Policy())._replace(sequence=1)
        await store.save([(_state(items=2), 0), (bought, 0)])
        assert 7 * DAY_MS < await client.pttl(f"{prefix}u:ann") <= 8 * DAY_MS * (1 + TTL_JITTER)
        assert await client.pttl(f"{prefix}u:buyer") > 89 * DAY_MS
        await store.save([(_state(sequence=2, items=3), 1)])
        assert await client.pttl(f"{prefix}u:ann") > 89 * DAY_MS
        short = RedisStateStore(client, prefix, ttl_days=2)
        await short.save([(_state("bob"), 0)])
        assert await client.pttl(f"{prefix}u:bob") <= 2 * DAY_MS * (1 + TTL_JITTER)

    on_redis(body)


def test_a_batch_costs_one_read_and_one_write_command_a_shopper_and_no_other(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        await store.save([(_state("warm-up"), 0)])
        await client.config_resetstat()
        await store.load([f"user-{n}" for n in range(20)])
        await store.save([(_state(f"user-{n}"), 0) for n in range(20)])
        stats = await client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
        counted = ("mget", "eval", "ping")
        asked = {name: count for name, count in calls.items() if "|" in name or name in counted}
        assert {name: count for name, count in asked.items() if not name.startswith("config")} == {
            "mget": 1,
            "eval": 20,
        }

    on_redis(body)


def test_saves_go_on_after_redis_forgot_its_scripts(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, _: str) -> None:
        await store.save([(_state(), 0)])
        await client.script_flush()
        assert await store.save([(_state(sequence=2), 1)]) == [True]

    on_redis(body)


def test_a_save_whose_answer_was_lost_is_found_at_the_next_load(on_redis: Run) -> None:
    async def body(store: RedisStateStore, _: Redis, __: str) -> None:
        assert await store.save([(_state(sequence=5), 0)]) == [True]  # and the worker never heard of it
        assert await store.save([(_state(sequence=5), 0)]) == [False]
        assert await _load(store) == _state(sequence=5)
        assert await store.save([(_state(sequence=6), 5)]) == [True]

    on_redis(body)


@pytest.mark.parametrize(
    ("damage", "sequence"),
    [
        (lambda data: data[:-3], 7),
        (lambda data: data[:9] + bytes(len(data) - 9), 7),
        (lambda data: b"\x00" + data[1:], 7),
        (lambda data: data[:9], 7),
        (lambda data: data[:5], 0),
        (lambda data: data[:1], 0),
    ],
    ids=["truncated", "zeroes", "version 0", "sequence only", "too short", "version only"],
)
def test_a_damaged_state_is_given_up_and_its_shopper_goes_on(
    on_redis: Run, damage: Callable[[bytes], bytes], sequence: int
) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        await client.set(f"{prefix}u:ann", damage(codec.encode(_state(sequence=7))))
        state = await _load(store)
        assert state == empty("ann")._replace(sequence=sequence)
        assert await store.save([(_state(sequence=NOW_MS), state.sequence)]) == [True]
        assert await _load(store) == _state(sequence=NOW_MS)

    on_redis(body)


def test_a_state_of_a_newer_release_is_left_alone(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        data = bytes([codec.VERSION + 1]) + codec.encode(_state())[1:]
        await client.set(f"{prefix}u:ann", data)
        with pytest.raises(StateUnavailable, match=f"version {codec.VERSION + 1}"):
            await _load(store)
        assert await client.get(f"{prefix}u:ann") == data

    on_redis(body)


def test_shops_with_different_prefixes_do_not_see_each_other(on_redis: Run) -> None:
    async def body(store: RedisStateStore, client: Redis, prefix: str) -> None:
        await store.save([(_state(), 0)])
        assert await _load(RedisStateStore(client, f"{prefix}other:")) == empty("ann")

    on_redis(body)


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_redis_that_is_away_is_noticed(port: str, request: pytest.FixtureRequest, soon: Any) -> None:
    settings = RedisSettings(url=f"redis://127.0.0.1:{request.getfixturevalue(port)}/0", timeout_ms=200)
    errors: Counter[str] = Counter()

    async def body() -> None:
        async with redis_client.connect(settings, failed=lambda kind: errors.update([kind])) as client:
            store = RedisStateStore(client)
            for call in (store.load(["ann"]), store.save([(_state(), 0)])):
                with pytest.raises(StateUnavailable):
                    await soon(call)

    asyncio.run(body())
    assert errors.keys() == {"ConnectionError" if port == "closed_port" else "TimeoutError"}
    assert errors.total() >= 2


def test_errors_of_redis_are_counted_by_their_kind_and_its_memory_is_told(stack: Any) -> None:
    errors: list[str] = []

    async def body() -> None:
        settings = RedisSettings(url=stack.endpoints.redis, timeout_ms=5_000)
        async with redis_client.connect(settings, failed=errors.append) as client:
            key = uuid.uuid4().hex
            await client.set(key, b"text", ex=60)
            assert errors == []
            with pytest.raises(ResponseError):
                await client.lpush(key, b"more")
            assert errors == ["ResponseError"]
            told = await redis_client.memory(client)
            assert told.used_bytes > 100_000
            assert told.max_bytes == int((await client.config_get("maxmemory"))["maxmemory"])

    asyncio.run(body())


def test_more_batches_at_once_than_connections_wait_for_one_another(on_redis: Run) -> None:
    async def body(store: RedisStateStore, _: Redis, __: str) -> None:
        saves = [store.save([(_state(f"user-{n}"), 0)]) for n in range(100)]
        assert all(saved for (saved,) in await asyncio.gather(*saves))

    on_redis(body)


@pytest.mark.servers
def test_a_redis_that_freezes_is_noticed_and_recovered_from(stack: Any, soon: Any) -> None:
    async def body() -> None:
        async with _redis(stack.endpoints.redis, timeout_ms=2_000) as client:
            store = RedisStateStore(client, f"{uuid.uuid4().hex}:")
            await store.save([(_state(), 0)])
            stack.pause("redis")
            try:
                with pytest.raises(StateUnavailable):
                    await soon(_load(store))
            finally:
                stack.resume("redis")
            assert await soon(_until_loaded(store)) == _state()

    async def _until_loaded(store: RedisStateStore) -> UserState:
        while True:
            try:
                return await _load(store)
            except StateUnavailable:
                await asyncio.sleep(0.05)

    asyncio.run(body())
