"""`DeadLetter` to a record of `dead-letters` and back: the message as it was, the reason in the headers.

The letter's own headers come first. Those that the message brought follow, each with `original-` before its
name, so that a message can be put back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from stream.core.events import Source
from stream.errors import InvalidMessage
from stream.ports import DeadLetter, Headers, RawMessage

ORIGINAL = "original-"
CUT = "cut"
MAX_HEADERS = 100
MAX_HEADERS_BYTES = 64_000
MAX_REASON_BYTES = 1_000
REPLAYED_FROM = "replayed-from"
REPLAYS = "replays"


class Letter(NamedTuple):
    """A dead letter as it lies on its topic.

    `failed_at` is RFC 3339. `cut` names what of the message was too large to keep: a letter with something
    cut cannot be put back. `replays` is how often the message had been put back when it failed.
    """

    partition: int
    offset: int
    letter: DeadLetter
    failed_at: str
    cut: tuple[str, ...]
    replays: int

    @property
    def place(self) -> str:
        """Names the letter: PARTITION/OFFSET on the topic of the dead letters."""
        return f"{self.partition}/{self.offset}"


def users_of(one: Letter) -> set[str]:
    """The shoppers that a letter's message names: by its key, and by its value."""
    message = one.letter.message
    users = {(message.key or b"").decode(errors="replace")}
    try:
        content: Any = msgspec.json.decode(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return users
    return users | {str(content.get("user_id"))} if isinstance(content, dict) else users


def encode(
    letter: DeadLetter, failed_at: datetime, kept_bytes: int
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Write key, value and headers of a record.

    Args:
        kept_bytes: most bytes of the value; of the key a twentieth of it. What is larger is cut.
    """
    (source, key, value, brought), code, reason = letter
    kept_key = None if key is None else key[: kept_bytes // 20]
    kept_value = None if value is None else value[:kept_bytes]
    if kept_key is None and kept_value is None:
        kept_value = b""  # Kafka refuses a message of nothing
    kept_headers = list(_first(brought, min(MAX_HEADERS_BYTES, kept_bytes // 10)))
    cut = [
        name
        for name, was, kept in (
            ("key", len(key or b""), len(kept_key or b"")),
            ("value", len(value or b""), len(kept_value or b"")),
            ("headers", len(brought), len(kept_headers)),
        )
        if was != kept
    ]
    headers = [
        ("source-topic", source.topic.encode()),
        ("source-partition", str(source.partition).encode()),
        ("source-offset", str(source.offset).encode()),
        ("error-code", code.encode()),
        ("error-message", reason.encode(errors="replace")[:MAX_REASON_BYTES]),
        ("failed-at", failed_at.isoformat(timespec="milliseconds").encode()),
    ]
    if key is None and value is None:
        headers.append(("null-value", b"1"))
    if cut:
        headers.append((CUT, ",".join(cut).encode()))
    return kept_key, kept_value, headers + [(ORIGINAL + name, content) for name, content in kept_headers]


def decode(
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes]],
    appended_ms: int = 0,
) -> Letter:
    """Read a record.

    Raises:
        InvalidMessage: its headers are not those of a dead letter.
    """
    own: dict[str, bytes] = {}
    brought = []
    for name, content in headers:
        if name.startswith(ORIGINAL):
            brought.append((name.removeprefix(ORIGINAL), content))
        else:
            own[name] = content
    try:
        source = Source(
            own["source-topic"].decode(),
            int(own["source-partition"]),
            int(own["source-offset"]),
            appended_ms,
        )
        message = RawMessage(source, key, None if "null-value" in own else value, tuple(brought))
        return Letter(
            partition,
            offset,
            DeadLetter(message, own["error-code"].decode(), own["error-message"].decode(errors="replace")),
            own["failed-at"].decode(),
            tuple(own[CUT].decode().split(",")) if CUT in own else (),
            _replays(brought),
        )
    except (KeyError, ValueError) as error:
        raise InvalidMessage("damaged", f"dead letter {partition}/{offset}: {error!r}") from None


def replayed(letter: Letter) -> Headers:
    """The headers of a message that is put back: its own, and a mark that says where from and how often."""
    own = letter.letter.message.headers
    return (
        *((name, content) for name, content in own if name not in (REPLAYED_FROM, REPLAYS)),
        (REPLAYED_FROM, letter.place.encode()),
        (REPLAYS, str(letter.replays + 1).encode()),
    )


def _replays(headers: Iterable[tuple[str, bytes]]) -> int:
    """How often a message was put back; a mark that is no number, or not of ours, counts as none."""
    found = dict(headers).get(REPLAYS, b"")
    return int(found) if found.isdigit() and len(found) < 10 else 0


def _first(headers: Headers, most_bytes: int) -> Iterable[tuple[str, bytes]]:
    """The first headers, as many as there is room for."""
    left = most_bytes
    for name, content in headers[:MAX_HEADERS]:
        left -= len(ORIGINAL) + len(name.encode(errors="replace")) + len(content)
        if left < 0:
            return
        yield name, content
