"""A dead letter holds the message as it was, and says what was cut and how often it had been put back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from builders import source
from typer.testing import CliRunner

from stream.adapters import letter_record
from stream.adapters.kafka_publisher import KafkaPublisher
from stream.adapters.letter_record import Letter, decode, encode, replayed
from stream.cli.dead_letters import CURES, _printable
from stream.cli.root import app
from stream.config import Config
from stream.core.events import ErrorCode
from stream.errors import InvalidMessage
from stream.ports import DeadLetter, Headers, RawMessage

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROOM = 2_000_000


def _sent(message: RawMessage, kept_bytes: int = ROOM, reason: str = "why") -> Letter:
    """A message after its way to the topic of the dead letters and back."""
    key, value, headers = encode(DeadLetter(message, "internal", reason), AT, kept_bytes)
    return decode(3, 17, key, value, headers)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"ann", b"{}", ()),
        (None, b"x", ()),
        (b"ann", None, ()),
        (None, None, ()),
        (b"\xff", b"\xff\x00", (("trace", b"\xff"), ("trace", b""), ("", b"1"))),
        (b"ann", b"{}", (("source-topic", b"theirs"), ("cut", b"no"), ("original-a", b"b"))),
    ],
)
def test_a_message_comes_back_as_it_was(key: bytes | None, value: bytes | None, headers: Headers) -> None:
    message = RawMessage(source(9, "searches", 2, 0), key, value, headers)
    found = _sent(message)
    assert found.letter == DeadLetter(message, "internal", "why")
    assert (found.place, found.failed_at, found.cut, found.replays) == (
        *("3/17", "2026-01-31T12:00:00.000+00:00"),
        *((), 0),
    )


def test_what_is_too_large_is_cut_and_named() -> None:
    many = tuple((f"h{number}", b"x") for number in range(letter_record.MAX_HEADERS + 1))
    found = _sent(RawMessage(source(), b"k" * 51, b"v" * 1_001, many), 1_000, "r" * 2_000)
    message = found.letter.message
    assert (len(message.key or b""), len(message.value or b"")) == (50, 1_000)
    assert found.cut == ("key", "value", "headers")
    assert len(found.letter.reason) == letter_record.MAX_REASON_BYTES
    assert len(_sent(RawMessage(source(), b"k", b"v", many)).letter.message.headers) == 100
    large = tuple((f"h{number}", b"x" * 20_000) for number in range(5))
    assert len(_sent(RawMessage(source(), b"k", b"v", large)).letter.message.headers) == 3


def test_a_message_that_is_put_back_says_so_and_counts_on_when_it_fails_again() -> None:
    message = RawMessage(source(), b"ann", b"{}", (("trace", b"1"),))
    for times in range(3):
        found = _sent(message)
        assert found.replays == times
        message = message._replace(headers=replayed(found))
    assert message.headers == (("trace", b"1"), ("replayed-from", b"3/17"), ("replays", b"3"))


@pytest.mark.parametrize("mark", [b"", b"-1", b"many", b"9" * 50, "²".encode()])
def test_a_mark_that_is_no_number_counts_as_none(mark: bytes) -> None:
    assert _sent(RawMessage(source(), b"ann", b"{}", (("replays", mark),))).replays == 0


@pytest.mark.parametrize("missing", ["source-topic", "source-partition", "source-offset", "error-code"])
def test_a_record_without_the_headers_of_a_letter_is_none(missing: str) -> None:
    _, _, headers = encode(DeadLetter(RawMessage(source(), b"a", b"b"), "internal", "why"), AT, ROOM)
    with pytest.raises(InvalidMessage, match="dead letter 0/1"):
        decode(0, 1, b"a", b"b", [one for one in headers if one[0] != missing])


def test_every_code_has_a_cure() -> None:
    assert CURES.keys() == {code.value for code in ErrorCode}


def test_what_is_shown_of_a_message_cannot_command_the_terminal() -> None:
    assert _printable("a\x1b[2J\u202eb\n\x00é") == "a\\x1b[2J\\u202eb\\n\\x00é"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay"], "name one letter, or say by options which"),
        (["replay", "3/17", "--code", "internal"], "name one letter, or say by options which"),
        (["replay", "seventeen"], "'seventeen' is no place such as 3/17"),
        (["show", "3/-1"], "'3/-1' is no place such as 3/17"),
        (["list", "--since", "yesterday"], "'yesterday' is not a time"),
    ],
)
def test_a_wrong_call_is_refused_with_what_would_be_right(arguments: list[str], said: str) -> None:
    shown = CliRunner().invoke(app, ["dead-letters", *arguments], env={"COLUMNS": "200"})
    assert shown.exit_code == 2
    assert said in shown.output


@pytest.mark.parametrize("largest", [2_000_000, 500_000, 20_000, 1_200])
def test_a_topic_that_takes_small_messages_only_gets_what_it_can_take(largest: int) -> None:
    sizes: list[int] = []

    class Broker:
        async def send(self, topic: str, *, value: bytes | None, **_: object) -> asyncio.Future[None]:
            if len(value or b"") > largest:
                raise MessageSizeTooLargeError
            sizes.append(len(value or b""))
            taken = asyncio.get_running_loop().create_future()
            taken.set_result(None)
            return taken

    async def publish() -> None:
        publisher = KafkaPublisher(Config())
        publisher._producer = Broker()
        messages = (
            RawMessage(source(1), b"ann", b"x" * 3_000_000),
            RawMessage(source(2), b"bob", b"x" * 1_000),
        )
        await publisher.publish_dead_letters([DeadLetter(one, "internal", "why") for one in messages])

    asyncio.run(publish())
    kept, small = sizes[-2:]
    assert largest / 4 <= kept <= largest
    assert small == 1_000


def test_a_broker_that_takes_no_letter_at_all_is_an_error() -> None:
    class Broker:
        async def send(self, *_: object, **__: object) -> None:
            raise MessageSizeTooLargeError

    async def publish() -> None:
        publisher = KafkaPublisher(Config())
        publisher._producer = Broker()
        await publisher.publish_dead_letters([DeadLetter(RawMessage(source(), b"", b""), "internal", "why")])

    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(publish())
