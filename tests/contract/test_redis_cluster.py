"""What stores promise on a Redis Cluster, beyond what their own suites demand there too."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from builders import NOW_MS, click
from redis_masters import Masters, three_masters
from secured_servers import PASSWORDS, tls_before, worker_rights

from stream.adapters import redis_client
from stream.adapters.redis_client import Client
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.adapters.redis_keys import Keys
from stream.adapters.redis_marks import RedisMarkStore
from stream.adapters.redis_signals import RedisSignalStore
from stream.adapters.redis_state import RedisStateStore
from stream.adapters.redis_workers import RedisWorkerReports
from stream.config import Redis as RedisSettings
from stream.core.marks import Mark
from stream.core.policy import Policy
from stream.core.signals import Increment, fold
from stream.core.state import UserState, apply, empty
from stream.errors import StateUnavailable
from stream.local import ports
from stream.ports import Place, VersionedSignals
from stream.secret import Secret

HERE: Place = ("clicks", 3)
THERE: Place = ("searches", 3)
SHOPPERS = [f"user-{n}" for n in range(200)]


@asynccontextmanager
async def _client(
    url: str, timeout_ms: int = 5_000, cluster: bool = True, **more: Any
) -> AsyncIterator[Client]:
    settings = RedisSettings(url=url, timeout_ms=timeout_ms, cluster=cluster, **more)
    async with redis_client.connect(settings) as client:
        yield client


def _state(user_id: str, sequence: int = 1) -> UserState:
    return apply(empty(user_id)._replace(sequence=sequence), click(item_id="mug"), Policy())


def test_names_of_keys_never_change() -> None:
    """What is stored is found by them: another name would lose it."""
    alone, spread = Keys("sr:", clustered=False), Keys("sr:", clustered=True)
    assert alone.of("u", "ann") == "sr:u:ann"
    assert (alone.tags, alone.shared("w")) == (("",), "sr:w")
    assert spread.of("u", "ann") == "sr:{1}:u:ann"
    assert spread.of("u", "{tag}") == "sr:{53}:u:{tag}"
    assert spread.of("i", "ユーザー") == "sr:{23}:i:ユーザー"
    assert spread.shared("lock:encoder") == "sr:{10}:lock:encoder"
    numbers = [int(tag[1:-2]) for tag in spread.tags]
    assert numbers == [
        *(10, 113, 21, 3, 61, 72, 50, 43, 11, 112, 20, 2, 60, 73, 51, 42),
        *(12, 111, 23, 1, 63, 70, 52, 41, 13, 110, 22, 0, 62, 71, 53, 40),
    ]


def test_every_master_has_its_share_of_shoppers(masters: Masters) -> None:
    async def body() -> None:
        before = [int(str(masters.ask(number, "DBSIZE"))) for number in range(3)]
        async with _client(masters.url) as client:
            await RedisStateStore(client, f"{uuid.uuid4().hex}:").save(
                [(_state(user), 0) for user in SHOPPERS]
            )
        after = [int(str(masters.ask(number, "DBSIZE"))) for number in range(3)]
        shares = [now - then for now, then in zip(after, before, strict=True)]
        assert sum(shares) == len(SHOPPERS)
        assert min(shares) > len(SHOPPERS) / 6

    asyncio.run(body())


def test_a_mark_is_as_far_as_its_lowest_bucket_and_the_others_stay(masters: Masters) -> None:
    async def body() -> None:
        prefix = f"{uuid.uuid4().hex}:"
        async with _client(masters.url) as client:
            keys = [
                Keys(prefix, clustered=True).within(tag, "m:group/clicks/3") for tag in Keys("", True).tags
            ]
            store = RedisMarkStore(client, "group", prefix)
            moved = {HERE: (None, Mark(50, 2)), THERE: (None, Mark(9))}
            assert await store.swap(moved) == {HERE: Mark(50, 2), THERE: Mark(9)}
            await client.delete(keys[7])
            assert await store.read([HERE, THERE]) == {THERE: Mark(9)}
            assert await store.swap({HERE: (None, Mark(0, 2))}) == {HERE: Mark(0, 2)}
            assert await store.swap({HERE: (Mark(0, 2), Mark(40, 2))}) == {HERE: Mark(40, 2)}
            assert await client.get(keys[7]) == b"40 2"
            assert {await client.get(key) for key in keys if key != keys[7]} == {b"50 2"}
            other = RedisMarkStore(client, "group", prefix)
            assert await other.swap({HERE: (Mark(40, 2), Mark(60, 2))}) == {HERE: Mark(50, 2)}
            assert await other.read([HERE]) == {HERE: Mark(50, 2)}
            assert await other.swap({HERE: (Mark(50, 2), Mark(70, 2))}) == {HERE: Mark(70, 2)}
            assert {await client.get(key) for key in keys} == {b"70 2"}

    asyncio.run(body())


def test_a_bucket_that_forgot_what_was_saved_keeps_its_mark_and_the_others_move(masters: Masters) -> None:
    async def body() -> None:
        prefix = f"{uuid.uuid4().hex}:"
        keys = Keys(prefix, clustered=True)
        names = [keys.within(tag, "m:group/clicks/3") for tag in keys.tags]
        saved = dict.fromkeys(SHOPPERS, 7)
        lost = SHOPPERS[0]
        elsewhere = {user: 7 for user in SHOPPERS if keys.tag(user) != keys.tag(lost)}
        async with _client(masters.url) as client:
            states, store = RedisStateStore(client, prefix), RedisMarkStore(client, "group", prefix)
            assert all(await states.save([(_state(user, 7), 0) for user in SHOPPERS]))
            assert await store.swap({HERE: (None, Mark(4))}, saved) == {HERE: Mark(4)}
            await client.delete(keys.of("u", lost))
            assert await store.swap({HERE: (Mark(4), Mark(5))}, elsewhere) == {HERE: Mark(5)}
            assert await store.swap({HERE: (Mark(5), Mark(6))}, saved) == {HERE: None}
            stayed = [name for name in names if await client.get(name) == b"5 0"]
            assert stayed == [keys.within(keys.tag(lost), "m:group/clicks/3")]
            assert {await client.get(name) for name in names if name not in stayed} == {b"6 0"}
            assert await store.read([HERE]) == {HERE: Mark(5)}
            assert await states.save([(_state(lost, 7), 0)]) == [True]
            assert await store.swap({HERE: (Mark(5), Mark(8))}, saved) == {HERE: Mark(8)}
            assert {await client.get(name) for name in names} == {b"8 0"}

    asyncio.run(body())


def test_the_memory_that_is_told_of_a_cluster_is_that_of_its_fullest_master(masters: Masters) -> None:
    async def body() -> None:
        async with _client(masters.url) as client:
            told = await redis_client.memory(client)
        assert (told.max_bytes, told.evicted) == (2**30, 0)

    bounds = (2**40, 2**30, 0)
    try:
        for number, bound in enumerate(bounds):
            masters.ask(number, "CONFIG", "SET", "maxmemory", bound)
        asyncio.run(body())
    finally:
        for number in range(3):
            masters.ask(number, "CONFIG", "SET", "maxmemory", 0)


def test_more_batches_at_once_than_connections_wait_for_one_another(masters: Masters) -> None:
    async def body() -> None:
        async with _client(masters.url, 30_000) as client:
            store = RedisStateStore(client, f"{uuid.uuid4().hex}:")
            saves = [store.save([(_state(user), 0)]) for user in SHOPPERS]
            assert all(saved for (saved,) in await asyncio.gather(*saves))
            loads = await asyncio.gather(*(store.load([user]) for user in SHOPPERS))
            assert [user for found in loads for user in found] == SHOPPERS

    asyncio.run(body())


def test_while_a_master_is_away_its_shoppers_wait_and_it_is_found_again_when_it_is_back(
    masters: Masters, soon: Any
) -> None:
    async def body() -> None:
        async with _client(masters.url, 2_000) as client:
            store = RedisStateStore(client, f"{uuid.uuid4().hex}:")
            assert all(await store.save([(_state(user), 0) for user in SHOPPERS]))
            masters.kill(1)
            try:
                with pytest.raises(StateUnavailable, match=rf"127\.0\.0\.1:{masters.ports[1]}|CLUSTERDOWN"):
                    await soon(store.load(SHOPPERS))
                with pytest.raises(StateUnavailable):
                    await soon(store.save([(_state(user, 2), 1) for user in SHOPPERS]))
            finally:
                masters.start(1)
                masters.settle()
            found = await soon(_until_loaded(store))
            assert {state.user_id for state in found.values() if state.sequence} == set(SHOPPERS)

    asyncio.run(body())


@pytest.mark.servers
def test_a_replica_that_takes_over_is_found(tmp_path: Path, soon: Any) -> None:
    with three_masters(tmp_path) as masters:
        masters.join_replica(0)

        async def body() -> None:
            async with _client(masters.url, 2_000) as client:
                store = RedisStateStore(client)
                assert all(await store.save([(_state(user), 0) for user in SHOPPERS]))
                masters.wait_for_replica(0)
                masters.kill(0)
                found = await soon(_until_loaded(store))
                assert {state.user_id for state in found.values() if state.sequence} == set(SHOPPERS)
                assert all(await store.save([(_state(user, 2), 1) for user in SHOPPERS]))

        asyncio.run(body())


async def _until_loaded(store: RedisStateStore) -> dict[str, UserState]:
    while True:
        try:
            return await store.load(SHOPPERS)
        except StateUnavailable:
            await asyncio.sleep(0.05)


def test_a_node_of_a_cluster_that_is_taken_for_one_redis_is_told(masters: Masters) -> None:
    async def body() -> None:
        async with _client(f"redis://127.0.0.1:{masters.ports[0]}", cluster=False) as client:
            with pytest.raises(StateUnavailable, match=r"set redis\.cluster to true"):
                await RedisStateStore(client).load(["bob"])  # whose key lies on the last master

    asyncio.run(body())


def test_one_redis_that_is_taken_for_a_cluster_is_told(stack: Any) -> None:
    async def body() -> None:
        async with _client(stack.endpoints.redis) as client:
            with pytest.raises(StateUnavailable, match=r"set redis\.cluster to false"):
                await RedisStateStore(client).load(["ann"])

    asyncio.run(body())


def test_a_cluster_of_which_no_node_answers_is_unavailable(closed_port: int, soon: Any) -> None:
    errors: set[str] = set()

    async def body() -> None:
        url = f"redis://127.0.0.1:{closed_port},127.0.0.1:1"
        settings = RedisSettings(url=url, timeout_ms=200, cluster=True)
        async with redis_client.connect(settings, failed=errors.add) as client:
            store = RedisStateStore(client)
            with pytest.raises(StateUnavailable, match=r"no answer at 127\.0\.0\.1"):
                await soon(store.load(["ann"]))
            with pytest.raises(StateUnavailable, match=r"no answer at 127\.0\.0\.1"):
                await soon(store.save([(_state("ann"), 0)]))
            with pytest.raises(StateUnavailable, match=r"did not tell of its memory.*no answer"):
                await soon(redis_client.memory(client))

    asyncio.run(body())
    assert errors == {"ConnectionError"}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Masters, dict[str, Any]]]:
    """A cluster that is reached over TLS, with the documented user; and the settings for it."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other-ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    outer = list(ports.choose(["a", "b", "c"]).values())
    with three_masters(tmp_path, outer) as masters, ExitStack() as fronts:
        for inner, announced in zip(masters.ports[:3], outer, strict=True):
            fronts.enter_context(tls_before(inner, announced, tmp_path))
        for number in range(3):
            masters.ask(number, "ACL", "SETUSER", *worker_rights(on_cluster=True))
        yield (
            masters,
            {
                "url": f"rediss://127.0.0.1:{outer[0]},127.0.0.1:{outer[1]}/0",
                "username": "worker",
                "password": Secret(PASSWORDS["worker"]),
                "ca_file": str(tmp_path / "ca.pem"),
            },
        )


@pytest.mark.servers
def test_a_cluster_over_tls_asks_no_more_rights_than_are_documented(
    secured: tuple[Masters, dict[str, Any]], tmp_path: Path
) -> None:
    masters, settings = secured

    async def body() -> None:
        async with _client(**settings) as client:
            store, marks = RedisStateStore(client), RedisMarkStore(client, "group")
            assert all(await store.save([(_state(user), 0) for user in SHOPPERS]))
            assert len(await store.load(SHOPPERS)) == len(SHOPPERS)
            moved = await marks.swap({HERE: (None, Mark(3))}, dict.fromkeys(SHOPPERS, 1))
            assert moved == await marks.read([HERE]) == {HERE: Mark(3)}
            assert (await redis_client.memory(client)).used_bytes > 100_000
            signals, lists = RedisSignalStore(client), RedisKeptLists(client, 72.0)
            row = fold(None, [Increment("clicks/0", 1, NOW_MS, 1.0, [], [])])
            assert await signals.save({"mug": VersionedSignals(row, 0)}) == {"mug": True}
            assert list((await signals.popularity(0))[0]) == ["mug"]
            assert await lists.recall(["ann", "bob"]) == {"ann": (), "bob": ()}
            assert await RedisWorkerReports(client).living() == []

        for change, said in (
            ({"ca_file": str(tmp_path / "other-ca.pem")}, r"not trusted .*: set redis\.ca_file"),
            ({"password": Secret("wrong")}, r"refused the user 'worker': redis\.username or redis\.password"),
        ):
            async with _client(**{**settings, **change}) as client:
                with pytest.raises(StateUnavailable, match=said):
                    await RedisStateStore(client).load(["ann"])
        for number in range(3):
            masters.ask(number, "ACL", "SETUSER", "worker", "-cluster")
        async with _client(**settings) as client:
            with pytest.raises(StateUnavailable, match=r"does not let the user 'worker' ask .*SECURITY\.md"):
                await RedisStateStore(client).load(["ann"])

    asyncio.run(body())
