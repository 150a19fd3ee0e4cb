"""The commands on a real Kafka and a real Redis, as a user runs them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import item_vector
from streamrec_command import PROGRAM

from stream.adapters import redis_client
from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_publisher import KafkaPublisher
from stream.adapters.kafka_reading import last_value, last_values, partition_of
from stream.adapters.kafka_topics import create_topics
from stream.adapters.redis_state import RedisStateStore
from stream.adapters.vector_record import encode
from stream.config import Config, load_config
from stream.core.events import (
    ClickMessage,
    ItemMessage,
    SearchMessage,
    Source,
    decode_click,
    decode_search,
    results_key,
)
from stream.core.policy import DEFAULT_POLICY
from stream.core.state import apply, empty
from stream.ports import DeadLetter, RawMessage

TOPICS = (
    *("clicks", "searches", "items", "recommendations", "attributions", "rules", "dead_letters"),
    *("item_vectors", "item_signals", "list_log", "model_versions"),
)
NOW = Source("t", 0, 0, 1_900_000_000_000)


class Shop:
    """Topics and keys of one test."""

    def __init__(self, stack: Any, folder: Path) -> None:
        name = uuid.uuid4().hex[:8]
        self.folder = folder
        self.env = {
            **stack.environment,
            "STREAMREC_KAFKA__PARTITIONS": "3",
            "STREAMREC_REDIS__KEY_PREFIX": f"{name}:",
            **{f"STREAMREC_TOPICS__{topic.upper()}": f"{topic.replace('_', '-')}-{name}" for topic in TOPICS},
        }
        self.config: Config = load_config(env=self.env)
        asyncio.run(create_topics(self.config))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
            cwd=self.folder,
        )

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=300)
        assert process.returncode == code, err
        return subprocess.CompletedProcess(arguments, code, out, err)

    def read(self, topic: str, count: int) -> list[Any]:
        """The first messages of a topic, in order of each partition."""

        async def read() -> list[Any]:
            async with consumer(self.config.kafka, topic, auto_offset_reset="earliest") as reader:
                return [await asyncio.wait_for(reader.getone(), 300) for _ in range(count)]

        return asyncio.run(read())

    def send(self, topic: str, *messages: tuple[bytes, bytes | None]) -> None:
        async def send() -> None:
            async with producer(self.config.kafka) as client:
                for key, value in messages:
                    await client.send_and_wait(topic, value, key=key)

        asyncio.run(send())


@pytest.fixture
def shop(stack: Any, tmp_path: Path) -> Shop:
    return Shop(stack, tmp_path)


def _list(user: str, sequence: int, item: str = "i1") -> bytes:
    return json.dumps(
        {
            "schema_version": 1,
            "recommendation_id": f"{user}-{sequence}",
            "user_id": user,
            "placement": "default",
            "sequence": sequence,
            "generated_at": 1_700_000_000_000,
            "expires_at": 1_700_086_400_000,
            "trigger": {"event_id": "e", "topic": "clicks", "partition": 0, "offset": 0, "event_time": 0},
            "model_versions": {},
            "degraded": ["reranker"],
            "items": [
                {"item_id": item, "rank": 1, "score": 1.0, "source": "trending", "reason": "popular now"}
            ],
        }
    ).encode()


def test_topics_are_made_and_listed_by_command(shop: Shop) -> None:
    assert "exists, 3 partitions" in shop.run("topics", "create").stdout
    listed = json.loads(shop.run("topics", "list", "--json").stdout)
    assert [topic["partitions"] for topic in listed] == [3] * 11


def test_publish_sends_valid_lines_with_their_key_and_names_the_others(shop: Shop) -> None:
    good = {"event_id": "1", "event_type": "view_item", "event_time": 1_700_000_000_000, "user_id": "ann"}
    lines = [json.dumps({**good, "item_id": "i1"}), "", json.dumps(good), "nonsense"]
    shown = shop.run("publish", "clicks", "--json", stdin="\n".join(lines), code=1)
    told = json.loads(shown.stdout)
    assert told["sent"] == 1
    assert [(bad["line"], bad["code"]) for bad in told["rejected"]] == [(3, "invalid_field"), (4, "not_json")]
    (message,) = shop.read(shop.config.topics.clicks, 1)
    assert message.key == b"ann"
    assert decode_click(NOW, message.key, message.value).event_id == "1"


def test_publish_raw_sends_invalid_lines_as_they_are(shop: Shop) -> None:
    path = shop.folder / "lines.jsonl"
    path.write_text('{"user_id": "ann"}\nnonsense')
    shop.run("publish", "clicks", "lines.jsonl", "--raw")
    found = {(message.key, message.value) for message in shop.read(shop.config.topics.clicks, 2)}
    assert found == {(b"ann", b'{"user_id": "ann"}'), (None, b"nonsense")}


def test_publish_ends_at_once_on_ctrl_c_while_it_waits_for_a_line(shop: Shop) -> None:
    process = shop.start("publish", "clicks")
    assert process.stdin is not None
    process.stdin.write(
        '{"event_id":"1","event_type":"view_item","event_time":1700000000000,"user_id":"u","item_id":"i"}\n'
    )
    process.stdin.flush()
    shop.read(shop.config.topics.clicks, 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stdin.close()


def test_a_catalogue_is_imported_and_products_are_withdrawn(shop: Shop) -> None:
    shown = shop.run("catalog", "import", "synthetic", "--json")
    assert json.loads(shown.stdout) == {"sent": 600, "skipped": {}}
    shop.run("catalog", "remove", "01001")
    left = asyncio.run(last_values(shop.config.kafka, shop.config.topics.items))
    assert len(left) == 599
    assert b"01001" not in left


def test_products_that_are_held_back_are_reported_with_what_is_wrong(shop: Shop) -> None:
    shop.send(
        shop.config.topics.item_vectors,
        (b"mug", encode(item_vector("mug", "red mug for tea"))),
        (b"bad", encode(item_vector("bad", "mug tv", quality=0.2, quality_findings=("keywords", "markup")))),
        (
            b"odd",
            encode(
                item_vector(
                    "odd", "iron pan", category="lamp", quality=0.6, quality_findings=("misfit",), fit=0.1
                )
            ),
        ),
        (b"gone", encode(item_vector("gone", quality=0.1, quality_findings=("empty",)))),
        (b"gone", None),
        (b"damaged", b"\x02?"),
    )
    shown = shop.run("catalog", "quality")
    assert "1 of 3 products are held back: quality below 0.5" in shown.stdout
    assert "the fit of category and text was read of 1 of 1 products with a category" in shown.stdout
    assert "0.60  odd          misfit (0.1): iron pan" in shown.stdout
    assert "0.20  bad          keywords, markup: mug tv" in shown.stdout
    assert "unrelated kinds of products are listed" in shown.stdout
    assert "1 records of" in shown.stderr
    report = json.loads(shop.run("catalog", "quality", "--worst", "1", "--json").stdout)
    assert (report["items"], report["held_back"], report["unreadable"]) == (3, 1, 1)
    assert report["fit"] == {"min_fit": 0.17, "with_category": 1, "read": 1}
    assert report["findings"]["keywords"]["held_back"] == 1
    assert [item["item_id"] for item in report["worst"]] == ["bad"]


def test_an_imported_file_says_what_it_skipped_and_why(shop: Shop) -> None:
    (shop.folder / "items.jsonl").write_text('{"item_id":"a","title":"A"}\n{"item_id":"b"}\n')
    shown = shop.run("catalog", "import", "jsonl", "items.jsonl")
    assert "1 products are in" in shown.stderr
    assert "skipped 1 lines:" in shown.stderr
    assert "invalid_field: title: missing" in shown.stderr


def _sales(folder: Path, count: int) -> Path:
    path = folder / "events.csv.gz"
    header = "invoice,stock_code,description,quantity,ts,unit_price,customer_id,country\n"
    lines = [f"{n},{10000 + n},A,1,2010-01-01 07:{n % 60:02d},1,{n % 5},UK\n" for n in range(count)]
    path.write_bytes(
        gzip.compress((header + "C1,85048,X,-1,2010-01-01 07:00,1,1,UK\n" + "".join(lines)).encode())
    )
    return path


def test_a_replay_is_resumed_where_it_was_broken_off(shop: Shop) -> None:
    path = str(_sales(shop.folder, 60))
    shown = shop.run("replay", "online-retail", path, "--speed", "max", "--limit", "20")
    assert "sent 20 events" in shown.stderr
    assert "1  cancellation" in shown.stderr
    rest = shop.run("replay", "online-retail", path, "--speed", "max", "--resume", "--json")
    assert json.loads(rest.stdout)["sent"] == 40
    messages = shop.read(shop.config.topics.clicks, 60)
    ids = [decode_click(NOW, message.key, message.value).event_id for message in messages]
    assert sorted(ids) == sorted(f"online-retail-{n}-1" for n in range(60))
    assert json.loads(shop.run("replay", "online-retail", path, "--resume", "--json").stdout)["sent"] == 0


def test_a_replay_broken_off_by_ctrl_c_notes_its_place(shop: Shop) -> None:
    process = shop.start("replay", "synthetic", "--rate", "50", "--checkpoint", "c.json")
    shop.read(shop.config.topics.clicks, 10)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    row = json.loads((shop.folder / "c.json").read_text())["row"]
    assert row >= 10


def test_a_synthetic_replay_says_in_every_event_that_it_is(shop: Shop) -> None:
    shop.run("replay", "synthetic", "--speed", "max", "--limit", "50")
    values = [json.loads(message.value) for message in shop.read(shop.config.topics.clicks, 40)]
    assert all(value["context"] == {"synthetic": True} for value in values)
    assert min(value["event_time"] for value in values) > (time.time() - 600) * 1000


def test_watch_follows_one_shoppers_lists_with_titles_and_reasons(shop: Shop) -> None:
    shop.send(shop.config.topics.items, (b"i1", b'{"item_id":"i1","title":"Red Mug"}'))
    topic = shop.config.topics.recommendations
    shop.send(topic, (b"bob", _list("bob", 1)), (b"ann", _list("ann", 1)), (b"ann", _list("ann", 2)))
    shown = shop.run("watch", "--user", "ann", "--from-beginning", "--limit", "2").stdout
    assert "ann  list 1  2023-11-14 22:13:20.000Z" in shown
    assert "without: reranker" in shown
    assert "Red Mug" in shown
    assert "popular now" in shown
    assert "bob" not in shown
    lines = shop.run("watch", "--from-beginning", "--limit", "3", "--json").stdout.splitlines()
    assert {json.loads(line)["user_id"] for line in lines} == {"ann", "bob"}


def test_watch_ends_on_ctrl_c_with_130(shop: Shop) -> None:
    process = shop.start("watch", "--json", "--from-beginning")
    shop.send(shop.config.topics.recommendations, (b"ann", _list("ann", 1)))
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["user_id"] == "ann"
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130


def _remember(shop: Shop, user: str) -> None:
    """Save a state as a worker would."""
    click = ClickMessage("e1", "purchase", 1_700_000_000_000, user, item_id="i1")
    search = SearchMessage("e2", 1_700_000_001_000, user, "red mugs")
    key, encode = user.encode(), msgspec.json.encode
    state = empty(user)
    for event in (decode_click(NOW, key, encode(click)), decode_search(NOW, key, encode(search))):
        state = apply(state, event, DEFAULT_POLICY)

    async def save() -> None:
        async with redis_client.connect(shop.config.redis) as client:
            store = RedisStateStore(client, shop.config.redis.key_prefix)
            assert await store.save([(state._replace(sequence=1), 0)]) == [True]

    asyncio.run(save())


def test_a_shoppers_state_and_last_list_are_shown(shop: Shop) -> None:
    _remember(shop, "ann")
    shop.send(shop.config.topics.items, (b"i1", b'{"item_id":"i1","title":"Red Mug"}'))
    shop.send(shop.config.topics.recommendations, (b"ann", _list("ann", 1)), (b"ann", _list("ann", 2)))
    shown = shop.run("user", "show", "ann").stdout
    for expected in ("purchase", "Red Mug", "red mugs", "list 2", "popular now", "bought (1)"):
        assert expected in shown
    told = json.loads(shop.run("user", "show", "ann", "--json").stdout)
    assert told["list"]["sequence"] == 2
    assert told["state"]["interactions"][0]["item_id"] == "i1"
    assert told["state"]["searches"] == [{"at_ms": 1_700_000_001_000, "query": "red mugs"}]


def test_the_last_list_is_found_behind_many_others(shop: Shop) -> None:
    others = [(b"bob", _list("bob", n)) for n in range(2_500)]
    topic = shop.config.topics.recommendations

    async def send() -> None:
        async with producer(shop.config.kafka) as client:
            await client.send_and_wait(topic, _list("ann", 7), key=b"ann", partition=0)
            for key, value in others:
                await client.send(topic, value, key=key)

    asyncio.run(send())
    newest = asyncio.run(last_value(shop.config.kafka, topic, b"bob"))
    assert newest is not None
    assert json.loads(newest)["sequence"] == 2_499


def test_an_unknown_shopper_is_shown_as_unknown(shop: Shop) -> None:
    shown = shop.run("user", "show", "nobody").stdout
    assert "nobody: no state is stored" in shown
    assert "no list is published" in shown


def test_erasing_removes_the_state_and_the_list_and_says_so(shop: Shop) -> None:
    _remember(shop, "ann")
    topic = shop.config.topics.recommendations
    shop.send(topic, (b"ann", _list("ann", 1)))
    shown = shop.run("user", "erase", "ann").stdout
    assert "erased the state of ann: 1 interactions, 1 searches, 1 bought items" in shown
    assert "erased the last list" in shown
    assert asyncio.run(last_value(shop.config.kafka, topic, b"ann")) is None
    assert "ann: no state is stored; erased at" in shop.run("user", "show", "ann").stdout
    again = json.loads(shop.run("user", "erase", "ann", "--json").stdout)
    assert again["removed"]["lists"]["count"] == again["removed"]["state"]["interactions"] == 0


def test_the_receipt_of_an_erasure_says_what_was_removed_where_and_what_is_left_until_when(
    shop: Shop,
) -> None:
    _remember(shop, "ann")
    topics = shop.config.topics
    shop.send(
        topics.recommendations,
        (b"ann", _list("ann", 1)),
        (b"bob", _list("bob", 1)),
    )
    results = partition_of(b"ann", 3)

    async def send() -> None:
        async with producer(shop.config.kafka) as client:
            for place in ("search", "aisle"):
                key = results_key("ann", place)
                await client.send_and_wait(
                    topics.recommendations, _list("ann", 2), key=key, partition=results
                )

    asyncio.run(send())
    receipt = json.loads(shop.run("user", "erase", "ann", "--json").stdout)
    removed = receipt["removed"]
    assert removed["state"] | {"where": ""} == {"where": "", "interactions": 1, "searches": 1, "owned": 1}
    assert (removed["lists"]["count"], removed["search_results"]["count"]) == (1, 2)
    left = {one["where"]: one for one in receipt["left"]}
    assert all(f"topic {name}" in left for name in (topics.clicks, topics.searches, topics.list_log))
    assert all(one["what"] and one["why"] for one in receipt["left"])
    erased_at = datetime.fromisoformat(receipt["erased_at"])
    clicks_days = (datetime.fromisoformat(left[f"topic {topics.clicks}"]["gone_after"]) - erased_at).days
    letters_days = (datetime.fromisoformat(receipt["mark"]["until"]) - erased_at).days
    assert 7 <= clicks_days < letters_days <= 400
    values = asyncio.run(last_values(shop.config.kafka, topics.recommendations))
    assert values.keys() == {b"bob"}


def test_an_erased_shoppers_events_do_not_come_back_by_a_replay_and_later_ones_count(shop: Shop) -> None:
    _remember(shop, "ann")
    erased_at = datetime.fromisoformat(
        json.loads(shop.run("user", "erase", "ann", "--json").stdout)["erased_at"]
    )
    erased_ms = round(erased_at.timestamp() * 1000)

    def event(number: int, at_ms: int) -> Any:
        message = ClickMessage(f"again-{number}", "view_item", at_ms, "ann", item_id="i1")
        return decode_click(NOW, b"ann", msgspec.json.encode(message))

    async def fold() -> Any:
        async with redis_client.connect(shop.config.redis) as client:
            store = RedisStateStore(client, shop.config.redis.key_prefix)
            state = (await store.load(["ann"]))["ann"]
            for at_ms in (1_700_000_000_000, erased_ms):
                assert apply(state, event(1, at_ms), DEFAULT_POLICY) is state
            later = apply(state, event(2, erased_ms + 1), DEFAULT_POLICY)
            assert await store.save([(later._replace(sequence=state.sequence + 1), state.sequence)]) == [True]

    asyncio.run(fold())
    told = json.loads(shop.run("user", "show", "ann", "--json").stdout)["state"]
    assert [one["at_ms"] for one in told["interactions"]] == [erased_ms + 1]


def test_a_persons_data_are_exported_and_nobody_elses(shop: Shop) -> None:
    _remember(shop, "ann")
    topics = shop.config.topics
    click = {"event_id": "1", "event_type": "view_item", "event_time": 1_700_000_000_000, "item_id": "i1"}
    for user in ("ann", "bob"):
        key = user.encode()
        shop.send(topics.clicks, (key, json.dumps({**click, "user_id": user}).encode()))
        shop.send(topics.searches, (key, json.dumps({"user_id": user, "search_query": "mugs"}).encode()))
        shop.send(topics.recommendations, (key, _list(user, 1)))
        shop.send(topics.attributions, (key, json.dumps({"user_id": user, "outcome": "click"}).encode()))

    async def set_aside() -> None:
        publisher = KafkaPublisher(shop.config)
        await publisher.start()
        letters = [
            DeadLetter(RawMessage(NOW, key, b'{"user_id": "' + key + b'", broken'), "not_json", "why")
            for key in (b"ann", b"bob")
        ]
        await publisher.publish_dead_letters(letters)
        await publisher.stop()

    asyncio.run(set_aside())
    out = shop.run("user", "export", "ann").stdout
    found = json.loads(out)
    assert found["user_id"] == "ann"
    assert found["state"]["searches"] == [{"at_ms": 1_700_000_001_000, "query": "red mugs"}]
    assert [one["sequence"] for one in found["lists"]] == [1]
    assert found["clicks"] == [{**click, "user_id": "ann"}]
    assert found["searches"] == [{"user_id": "ann", "search_query": "mugs"}]
    assert found["attributions"] == [{"user_id": "ann", "outcome": "click"}]
    assert [one["value"] for one in found["dead_letters"]] == ['{"user_id": "ann", broken']
    assert "bob" not in out


def test_what_logs_call_a_shopper_is_told_where_there_is_a_key(shop: Shop) -> None:
    assert "set telemetry.hash_key_file" in shop.run("user", "log-name", "ann", code=2).stderr
    shop.env["STREAMREC_TELEMETRY__HASH_KEY"] = "a key"
    names = {shop.run("user", "log-name", "ann").stdout for _ in range(2)}
    assert len(names) == 1
    assert re.fullmatch(r"[0-9a-f]{12}\n", names.pop())


def test_a_missing_topic_is_named_with_its_cure(shop: Shop) -> None:
    shop.env["STREAMREC_TOPICS__RECOMMENDATIONS"] = "nowhere"
    shown = shop.run("watch", code=1)
    assert "`streamrec topics create` makes it" in shown.stderr


def test_an_item_message_is_published_by_command(shop: Shop) -> None:
    shop.run("publish", "items", stdin='{"item_id": "x1", "title": "Red mug"}')
    found = asyncio.run(last_values(shop.config.kafka, shop.config.topics.items))
    assert msgspec.json.decode(found[b"x1"], type=ItemMessage).title == "Red mug"
