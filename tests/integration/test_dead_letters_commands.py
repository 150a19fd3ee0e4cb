"""`streamrec dead-letters` against a real broker."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from builders import source
from streamrec_command import streamrec

from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_publisher import DEAD_LETTER_KEPT_BYTES, KafkaPublisher
from stream.adapters.kafka_topics import create_topics
from stream.config import Config, load_config
from stream.ports import DeadLetter, RawMessage

pytestmark = pytest.mark.servers

TOPICS = ("clicks", "searches", "items", "item_signals", "dead_letters")


class Shop:
    """Topics of one test, and the command."""

    def __init__(self, stack: Any) -> None:
        name = uuid.uuid4().hex[:8]
        self.env = {
            **stack.environment,
            "STREAMREC_KAFKA__PARTITIONS": "2",
            **{f"STREAMREC_TOPICS__{topic.upper()}": f"{topic.replace('_', '-')}-{name}" for topic in TOPICS},
        }
        self.config: Config = load_config(env=self.env)
        asyncio.run(create_topics(self.config))

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        return streamrec("dead-letters", *arguments, env=self.env, code=code)

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def set_aside(self, *letters: DeadLetter) -> None:
        async def publish() -> None:
            publisher = KafkaPublisher(self.config)
            await publisher.start()
            try:
                for letter in letters:  # one by one, so that each has a time of its own
                    await publisher.publish_dead_letters([letter])
            finally:
                await publisher.stop()

        asyncio.run(publish())

    def publish(self, topic: str, key: bytes, value: bytes | None) -> int:
        """Publish a message to the second partition; return its offset."""

        async def send() -> int:
            async with producer(self.config.kafka) as client:
                return int((await client.send_and_wait(topic, value, key=key, partition=1)).offset)

        return asyncio.run(send())

    def read(self, topic: str, count: int) -> list[Any]:
        async def read() -> list[Any]:
            async with consumer(self.config.kafka, topic, auto_offset_reset="earliest") as reader:
                return [await asyncio.wait_for(reader.getone(), 300) for _ in range(count)]

        return asyncio.run(read())


@pytest.fixture
def shop(stack: Any) -> Shop:
    return Shop(stack)


def _click(shop: Shop, key: bytes = b"ann", code: str = "internal", **more: Any) -> DeadLetter:
    message = RawMessage(source(5, shop.config.topics.clicks, 1), key, b'{"user_id": "ann"}', **more)
    return DeadLetter(message, code, "ValueError at stream.core.state:apply:7, 3 times")


def _places(letters: Sequence[dict[str, Any]]) -> list[str]:
    return [one["letter"] for one in letters]


def test_letters_are_listed_filtered_and_counted_by_code(shop: Shop) -> None:
    assert shop.json("list") == {"letters": [], "codes": {}}
    search = RawMessage(source(6, shop.config.topics.searches, 0), b"bob", b"\xff\x1b[2J")
    shop.set_aside(
        _click(shop),
        _click(shop, b"bob", "key_mismatch"),
        DeadLetter(search, "not_json", "value: not JSON"),
    )
    found = shop.json("list")
    assert found["codes"] == {"internal": 1, "key_mismatch": 1, "not_json": 1}
    assert [one["code"] for one in found["letters"]] == ["internal", "key_mismatch", "not_json"]
    assert found["letters"][0] | {"letter": "", "failed_at": ""} == {
        "letter": "",
        "failed_at": "",
        "topic": shop.config.topics.clicks,
        "partition": 1,
        "offset": 5,
        "code": "internal",
        "reason": "ValueError at stream.core.state:apply:7, 3 times",
        "cut": [],
        "replays": 0,
    }
    assert shop.json("list", "--code", "internal")["codes"] == {"internal": 1}
    assert shop.json("list", "--topic", shop.config.topics.searches)["codes"] == {"not_json": 1}
    assert shop.json("list", "--user", "ann")["codes"] == {"internal": 1, "key_mismatch": 1}
    assert shop.json("list", "--user", "bob")["codes"] == {"key_mismatch": 1, "not_json": 1}
    assert shop.json("list", "--since", "2020-01-01")["codes"] == found["codes"]
    assert shop.json("list", "--since", "2100-01-01")["codes"] == {}
    newest = shop.json("list", "--limit", "1")
    assert (_places(newest["letters"]), newest["codes"]) == (_places(found["letters"][-1:]), found["codes"])
    shown = shop.run("list").stdout.decode()
    assert "ValueError at stream.core.state:apply:7, 3 times" in shown
    assert "send JSON in UTF-8" in shown


def test_a_letter_is_shown_with_its_bytes_and_its_cure(shop: Shop) -> None:
    value = b'{"user_id": "ann"}\x1b[2J\xff'
    letter = _click(shop, headers=(("trace", b"\x00"),))
    shop.set_aside(letter._replace(message=letter.message._replace(value=value)))
    [place] = _places(shop.json("list")["letters"])
    shown = shop.run("show", place).stdout
    assert b"\x1b" not in shown
    for part in (
        b"internal: ValueError at stream.core.state:apply:7",
        b"mend it, then replay",
        b"trace: \\x00",
    ):
        assert part in shown
    assert shop.run("show", place, "--raw").stdout == value
    plain = shop.json("show", place)
    assert base64.b64decode(plain["value"]) == value
    assert (plain["letter"], plain["code"]) == (place, "internal")
    for nowhere in ("0/999", "77/0"):
        assert b"lies there" in shop.run("show", nowhere, code=2).stderr


def test_letters_are_put_back_as_they_were_with_a_mark(shop: Shop) -> None:
    clicks = shop.config.topics.clicks
    shop.set_aside(
        _click(shop, headers=(("trace", b"1"),)), _click(shop, b"bob", "key_mismatch"), _click(shop, b"eve")
    )
    first, _, _ = _places(shop.json("list")["letters"])
    dry = shop.json("replay", "--code", "internal", "--dry-run")
    assert dry == {"dry_run": True, "letters": 2, "outcomes": {"put back": 2}}
    assert shop.json("replay", "--code", "internal")["outcomes"] == {"put back": 2}
    back = {one.key: one for one in shop.read(clicks, 2)}
    assert back.keys() == {b"ann", b"eve"}
    assert (back[b"ann"].partition, back[b"ann"].value) == (1, b'{"user_id": "ann"}')
    mark = ("replayed-from", first.encode())
    assert back[b"ann"].headers == (("trace", b"1"), mark, ("replays", b"1"))
    again = RawMessage(source(0, clicks, 1), b"ann", b"{}", tuple(back[b"ann"].headers))
    shop.set_aside(DeadLetter(again, "internal", "why"))
    assert shop.json("list", "--user", "ann")["letters"][-1]["replays"] == 1
    assert b"put back 1 times before" in shop.run("list").stdout


def test_an_old_message_about_a_product_never_takes_the_place_of_a_newer_one(shop: Shop) -> None:
    items = shop.config.topics.items
    offset = shop.publish(items, b"mug", b'{"title": 1}')
    only = shop.publish(items, b"cup", b'{"title": 1}')
    for key, at in ((b"mug", offset), (b"cup", only)):
        message = RawMessage(source(at, items, 1), key, b'{"title": 1}')
        shop.set_aside(DeadLetter(message, "internal", "why"))
    shop.publish(items, b"mug", b'{"title": "Mug"}')
    outcomes = {"put back": 1, "superseded: the product was published again since": 1}
    assert shop.json("replay", "--all", "--dry-run")["outcomes"] == outcomes
    assert shop.json("replay", "--all")["outcomes"] == outcomes
    assert [one.key for one in shop.read(items, 4)] == [b"mug", b"cup", b"mug", b"cup"]
    assert shop.json("replay", "--all")["outcomes"] == {
        "superseded: the product was published again since": 2
    }


def test_what_cannot_be_put_back_is_said(shop: Shop) -> None:
    large = RawMessage(source(1, shop.config.topics.clicks, 1), b"ann", b"x" * (DEAD_LETTER_KEPT_BYTES + 1))
    shop.set_aside(
        DeadLetter(large, "too_large", "value: too large"),
        DeadLetter(RawMessage(source(1, "elsewhere"), b"ann", b"{}"), "internal", "why"),
    )
    assert shop.json("replay", "--all")["outcomes"] == {
        "too large: not all of it was kept": 1,
        "its topic is none that workers read": 1,
    }
    first, _ = _places(shop.json("list")["letters"])
    assert b"not all of it was kept" in shop.run("replay", first, code=1).stderr
