"""What every publisher promises; what lies in the topics is read back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from builders import NOW_MS, direction, item_vector, source

from stream.adapters import kafka_topics, vector_record
from stream.adapters.kafka_publisher import DEAD_LETTER_KEPT_BYTES, KafkaPublisher
from stream.config import Config, load_config
from stream.core import list_log
from stream.core.events import (
    AttributedItem,
    Attribution,
    RecommendationList,
    RecommendedItem,
    Trigger,
    list_key,
    results_key,
)
from stream.core.list_log import LoggedList
from stream.core.signals import Increment, decode_increments
from stream.errors import PublishUnavailable
from stream.fakes import MemoryPublisher
from stream.ports import DeadLetter, Headers, ItemVector, Publisher, RawMessage
from stream.telemetry.tracing import Traces

FAKE_AND_REAL = ["fake", pytest.param("real", marks=pytest.mark.servers)]
TOPICS = ("recommendations", "attributions", "item_signals", "item_vectors", "list_log", "dead_letters")


class Written(NamedTuple):
    """A message as it lies in a topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Bench(Protocol):
    """A publisher and what it wrote."""

    publisher: Publisher

    async def lists(self) -> list[RecommendationList]: ...
    async def signals(self) -> list[tuple[str, Increment]]: ...
    async def attributions(self) -> list[Attribution]: ...
    async def vectors(self) -> list[tuple[str, ItemVector | None]]: ...
    async def list_log(self) -> list[LoggedList]: ...
    async def dead_letters(self) -> list[DeadLetter]: ...


class FakeBench:
    def __init__(self) -> None:
        self.publisher = MemoryPublisher()

    async def lists(self) -> list[RecommendationList]:
        return self.publisher.lists

    async def signals(self) -> list[tuple[str, Increment]]:
        return self.publisher.signals

    async def attributions(self) -> list[Attribution]:
        return self.publisher.attributions

    async def vectors(self) -> list[tuple[str, ItemVector | None]]:
        return self.publisher.vectors

    async def list_log(self) -> list[LoggedList]:
        return self.publisher.list_log

    async def dead_letters(self) -> list[DeadLetter]:
        return self.publisher.dead_letters


class KafkaBench:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.publisher = KafkaPublisher(config)

    async def read(self, topic: str) -> list[Written]:
        """All that lies in a topic, by the order in which the broker took it."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.config.kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, n) for n in range(self.config.kafka.partitions)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Any] = []
            async with asyncio.timeout(30):
                while len(found) < sum(ends.values()):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += records
        finally:
            await consumer.stop()
        found.sort(key=lambda record: (record.partition, record.offset))
        return [Written(record.key, record.value, dict(record.headers)) for record in found]

    async def lists(self) -> list[RecommendationList]:
        written = await self.read(self.config.topics.recommendations)
        lists = [msgspec.json.decode(one.value or b"", type=RecommendationList) for one in written]
        assert [one.key for one in written] == [list_key(made) for made in lists]
        return lists

    async def signals(self) -> list[tuple[str, Increment]]:
        return [
            (taught.item_id, increment)
            for one in await self.read(self.config.topics.item_signals)
            for taught in decode_increments(one.key, one.value)
            for increment in taught.increments
        ]

    async def attributions(self) -> list[Attribution]:
        written = await self.read(self.config.topics.attributions)
        records = [msgspec.json.decode(one.value or b"", type=Attribution) for one in written]
        assert [one.key for one in written] == [record.user_id.encode() for record in records]
        return records

    async def vectors(self) -> list[tuple[str, ItemVector | None]]:
        return [
            ((one.key or b"").decode(), None if one.value is None else vector_record.decode(one.value))
            for one in await self.read(self.config.topics.item_vectors)
        ]

    async def list_log(self) -> list[LoggedList]:
        written = await self.read(self.config.topics.list_log)
        logged = [list_log.decode(one.value or b"") for one in written]
        assert [one.key for one in written] == [one.user_id.encode() for one in logged]
        return logged

    async def dead_letters(self) -> list[DeadLetter]:
        letters = []
        for key, value, headers in await self.read(self.config.topics.dead_letters):
            at = source(int(headers["source-offset"]), headers["source-topic"].decode())
            at = at._replace(partition=int(headers["source-partition"]))
            assert headers["failed-at"].endswith(b"+00:00")
            letters.append(
                DeadLetter(
                    RawMessage(
                        at,
                        key,
                        value,
                        tuple(
                            (name.removeprefix("original-"), content)
                            for name, content in headers.items()
                            if name.startswith("original-")
                        ),
                    ),
                    headers["error-code"].decode(),
                    headers["error-message"].decode(),
                )
            )
        return letters


@asynccontextmanager
async def _kafka(stack: Any) -> AsyncIterator[KafkaBench]:
    name = uuid.uuid4().hex[:8]
    env = {
        "STREAMREC_KAFKA__BOOTSTRAP": stack.endpoints.kafka,
        "STREAMREC_KAFKA__PARTITIONS": "1",
        **{
            f"STREAMREC_TOPICS__{topic.upper()}": f"{topic}-{name}"
            for topic in (*TOPICS, "clicks", "searches", "items")
        },
    }
    config = load_config(env=env)
    await kafka_topics.create_topics(config)
    bench = KafkaBench(config)
    await bench.publisher.start()
    try:
        yield bench
    finally:
        await bench.publisher.stop()


Run = Callable[[Callable[[Any], Awaitable[None]]], None]


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a bench."""

    async def on_fake(body: Callable[[Any], Awaitable[None]]) -> None:
        await body(FakeBench())

    async def on_kafka(body: Callable[[Any], Awaitable[None]]) -> None:
        async with _kafka(request.getfixturevalue("stack")) as bench:
            await body(bench)

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    request.getfixturevalue("stack")
    return lambda body: asyncio.run(on_kafka(body))


@pytest.fixture
def on_kafka(stack: Any) -> Run:
    """Run a test's body on Kafka only."""

    async def on(body: Callable[[Any], Awaitable[None]]) -> None:
        async with _kafka(stack) as bench:
            await body(bench)

    return lambda body: asyncio.run(on(body))


def _list(
    user_id: str = "ann", sequence: int = 1, reason: str = "because you viewed RED MUG"
) -> RecommendationList:
    return RecommendationList(
        schema_version=1,
        recommendation_id=f"r{sequence}",
        user_id=user_id,
        placement="home",
        sequence=sequence,
        generated_at=NOW_MS,
        expires_at=NOW_MS + 1,
        trigger=Trigger("e1", "clicks", 0, 7, NOW_MS),
        model_versions={"reranker": "1"},
        degraded=[],
        items=[RecommendedItem("mug", 1, 0.5, "similar", reason)],
    )


def _increments(first: int, count: int) -> list[Increment]:
    return [Increment("clicks/0", first + n, NOW_MS, 1.0, [("cup", 0.5)], []) for n in range(count)]


def test_nothing_given_nothing_written(run: Run) -> None:
    async def body(bench: Bench) -> None:
        await bench.publisher.publish_lists([])
        await bench.publisher.publish_signals({})
        await bench.publisher.publish_vectors([], [])
        await bench.publisher.publish_dead_letters([])
        await bench.publisher.publish_list_log([])
        assert await bench.list_log() == []
        assert await bench.lists() == []
        assert await bench.signals() == []
        assert await bench.vectors() == []
        assert await bench.dead_letters() == []

    run(body)


def test_lists_are_written_whole_and_in_order(run: Run) -> None:
    async def body(bench: Bench) -> None:
        await bench.publisher.publish_lists([_list("ann", 1), _list("ユーザー", 1, "because of カップ 🛒")])
        await bench.publisher.publish_lists([_list("ann", 2)])
        assert await bench.lists() == [
            _list("ann", 1),
            _list("ユーザー", 1, "because of カップ 🛒"),
            _list("ann", 2),
        ]

    run(body)


def test_a_list_that_is_traced_says_so_in_its_headers_and_no_other(on_kafka: Run) -> None:
    class OfAnn(Traces):
        def of_list(self, made: RecommendationList) -> Headers:
            return (("traceparent", b"00-a-b-01"),) if made.user_id == "ann" else ()

    async def body(bench: Any) -> None:
        publisher = KafkaPublisher(bench.config, OfAnn())
        await publisher.start()
        try:
            await publisher.publish_lists([_list("ann", 1), _list("bob", 1)])
        finally:
            await publisher.stop()
        written = await bench.read(bench.config.topics.recommendations)
        assert {one.key: one.headers for one in written} == {
            b"ann": {"traceparent": b"00-a-b-01"},
            b"bob": {},
        }

    on_kafka(body)


def test_reordered_results_have_a_key_of_their_own_and_lie_in_order_with_the_shoppers_lists(run: Run) -> None:
    async def body(bench: Bench) -> None:
        users = [f"user-{number}" for number in range(8)]
        for user in users:
            results = msgspec.structs.replace(_list(user, 1), placement="search", reordered=True)
            await bench.publisher.publish_lists([results, _list(user, 2)])
            await bench.publisher.publish_lists(
                [msgspec.structs.replace(results, sequence=3), _list(user, 4)]
            )
        written = await bench.lists()
        for user in users:
            of_user = [made for made in written if made.user_id == user]
            assert [made.sequence for made in of_user] == [1, 2, 3, 4]
            assert {list_key(made) for made in of_user} == {
                user.encode(),
                results_key(user, "search"),
            }

    run(body)


def test_increments_of_an_item_keep_their_order_over_calls(run: Run) -> None:
    async def body(bench: Bench) -> None:
        for call in range(20):
            await bench.publisher.publish_signals(
                {"mug": _increments(10 * call, 3), "cup": _increments(10 * call, 1)}
            )
        written = await bench.signals()
        mug = [increment for item_id, increment in written if item_id == "mug"]
        assert mug == [increment for call in range(20) for increment in _increments(10 * call, 3)]
        assert len(written) == 80

    run(body)


def test_attributions_are_written_in_order(run: Run) -> None:
    async def body(bench: Bench) -> None:
        records = [
            Attribution(
                schema_version=1,
                attribution_id=f"a{number}",
                user_id=user_id,
                outcome="purchase",
                event_id=f"e{number}",
                event_time=NOW_MS,
                recommendation_id="r1",
                placement="home",
                generated_at=NOW_MS - 5,
                matched="item",
                model_versions={"reranker": "3"},
                items=[AttributedItem("カップ", 2, "new", 0.25, True, 2, 1.5)],
                policy="autumn",
                currency="EUR",
                value=3.0,
            )
            for number, user_id in enumerate(["ann", "ユーザー", "ann"])
        ]
        await bench.publisher.publish_attributions([])
        await bench.publisher.publish_attributions(records)
        assert await bench.attributions() == records

    run(body)


def test_encoded_items_and_removals_are_written(run: Run) -> None:
    async def body(bench: Bench) -> None:
        mug = item_vector("mug", "red mug", vector=direction(1), price=2.5, category="home > cups", offset=3)
        cup = item_vector("カップ", available=False, first_seen_ms=5)
        await bench.publisher.publish_vectors([mug, cup], ["pot"])
        (_, found_mug), (_, found_cup), (gone, nothing) = sorted(
            await bench.vectors(), key=lambda entry: ["mug", "カップ", "pot"].index(entry[0])
        )
        assert found_mug is not None
        assert found_mug._replace(vectors={}) == mug._replace(vectors={})
        np.testing.assert_allclose(found_mug.vectors["1"], mug.vectors["1"], atol=1e-3)
        assert found_cup == cup
        assert (gone, nothing) == ("pot", None)

    run(body)


def test_what_lists_were_ranked_by_is_written_as_it_was(run: Run) -> None:
    async def body(bench: Bench) -> None:
        random = np.random.default_rng(0)
        names = [f"feature_{number}" for number in range(60)]
        items = [f"item-{number}" for number in range(300)]
        rows = random.standard_normal((300, 60)).astype(np.float32)
        given = [
            list_log.logged(_list(user, place), items, np.arange(300) == 7, names, rows)
            for place, user in enumerate(("ann", "ユーザー", "ann"))
        ]
        await bench.publisher.publish_list_log(given)
        assert await bench.list_log() == given

    run(body)


def test_dead_letters_keep_the_message_and_say_why(run: Run) -> None:
    async def body(bench: Bench) -> None:
        letters = [
            DeadLetter(
                RawMessage(source(7, "searches", 0), b"ann", b"\xff no json"), "not_json", "value: not JSON"
            ),
            DeadLetter(RawMessage(source(8, "clicks", 3), None, b""), "not_json", "value: not JSON"),
            DeadLetter(RawMessage(source(9, "clicks", 3), b"ann", None), "null_value", "value: null"),
            DeadLetter(
                RawMessage(source(10, "clicks", 3), b"\xfe", b"{}"), "key_mismatch", "key: not UTF-8 é"
            ),
            DeadLetter(
                RawMessage(source(11), b"ann", b"{}", (("source-topic", b"theirs"), ("trace", b"\xff\x00"))),
                "internal",
                "ValueError at stream.core.state:apply:1",
            ),
        ]
        await bench.publisher.publish_dead_letters(letters)
        assert await bench.dead_letters() == letters

    run(body)


def test_a_fake_that_is_told_to_fail_fails() -> None:
    publisher = MemoryPublisher()
    publisher.failure = PublishUnavailable("away")
    for call in (publisher.publish_lists([_list()]), publisher.publish_signals({})):
        with pytest.raises(PublishUnavailable):
            asyncio.run(call)
    assert publisher.lists == []


def test_what_a_reader_sees_is_plain_json(on_kafka: Run) -> None:
    async def body(bench: KafkaBench) -> None:
        await bench.publisher.publish_lists([_list()])
        [written] = await bench.read(bench.config.topics.recommendations)
        assert written.key == b"ann"
        fields = json.loads(written.value or b"")
        assert fields["items"] == [
            {
                "item_id": "mug",
                "rank": 1,
                "score": 0.5,
                "source": "similar",
                "reason": "because you viewed RED MUG",
            }
        ]
        assert set(fields) == {
            *("schema_version", "recommendation_id", "user_id", "placement", "sequence", "generated_at"),
            *("expires_at", "trigger", "model_versions", "degraded", "items"),
        }

    on_kafka(body)


def test_a_message_too_large_to_keep_is_kept_in_part(on_kafka: Run) -> None:
    async def body(bench: KafkaBench) -> None:
        value = b"x" * (DEAD_LETTER_KEPT_BYTES + 50_000)
        await bench.publisher.publish_dead_letters(
            [DeadLetter(RawMessage(source(1), b"k" * 1_000, value), "too_large", "value: 2050000 bytes")]
        )
        [written] = await bench.read(bench.config.topics.dead_letters)
        assert written.value == value[:DEAD_LETTER_KEPT_BYTES]
        assert written.headers["error-code"] == b"too_large"

    on_kafka(body)


def test_a_key_and_headers_too_large_to_keep_are_cut_and_the_letter_says_so(on_kafka: Run) -> None:
    async def body(bench: KafkaBench) -> None:
        large = RawMessage(
            source(1),
            b"k" * DEAD_LETTER_KEPT_BYTES,
            b"x" * (DEAD_LETTER_KEPT_BYTES + 1),
            tuple((f"h{number}", b"y" * 1_000) for number in range(1_000)),
        )
        await bench.publisher.publish_dead_letters([DeadLetter(large, "key_mismatch", "z" * 100_000)])
        [written] = await bench.read(bench.config.topics.dead_letters)
        assert len(written.value or b"") == DEAD_LETTER_KEPT_BYTES
        assert len(written.key or b"") == DEAD_LETTER_KEPT_BYTES // 20
        assert written.headers["cut"] == b"key,value,headers"
        assert sum(name.startswith("original-") for name in written.headers) == 63
        assert len(written.headers["error-message"]) == 1_000

    on_kafka(body)


def test_a_message_without_key_and_value_becomes_a_dead_letter_too(on_kafka: Run) -> None:
    async def body(bench: KafkaBench) -> None:
        letter = DeadLetter(RawMessage(source(1), None, None), "null_value", "value: null")
        await bench.publisher.publish_dead_letters([letter])
        [written] = await bench.read(bench.config.topics.dead_letters)
        assert (written.key, written.value) == (None, b"")

    on_kafka(body)


def test_a_reason_with_a_lone_surrogate_does_not_stop_the_letter(on_kafka: Run) -> None:
    async def body(bench: KafkaBench) -> None:
        letter = DeadLetter(
            RawMessage(source(1), b"ann", b"{}"), "invalid_field", "\ud800: nan is no JSON number"
        )
        await bench.publisher.publish_dead_letters([letter])
        [written] = await bench.read(bench.config.topics.dead_letters)
        assert written.headers["error-message"] == b"?: nan is no JSON number"

    on_kafka(body)


def test_a_broker_that_is_away_is_noticed(closed_port: int, soon: Any) -> None:
    async def body() -> None:
        config = load_config(env={"STREAMREC_KAFKA__BOOTSTRAP": f"127.0.0.1:{closed_port}"})
        publisher = KafkaPublisher(config)
        try:
            with pytest.raises(PublishUnavailable):
                await soon(publisher.start())
        finally:
            await publisher.stop()

    asyncio.run(body())
