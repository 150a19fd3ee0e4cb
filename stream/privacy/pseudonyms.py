"""What logs call shoppers, and how lines are kept free of what shoppers sent: the one place that hashes ids.

A name in a log is a keyed hash: it says that two lines speak of the same shopper, and of whom only to who
has the key. Without a key in the settings each process draws its own, which is forgotten as it ends.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from stream.errors import PACKAGE, place_of
from stream.secret import Secret

LETTERS = 12
"""Of a name, in hexadecimal: of a million shoppers two share one with a chance of 1 in 560."""
LONGEST = 2_000
"""Characters of one thing that a library says."""

_key = secrets.token_bytes(32)


def use_key(key: Secret) -> None:
    """Hash with a key from here on; with an empty one, with the key that this process drew."""
    global _key
    if key:
        _key = hashlib.sha256(key.reveal().encode()).digest()


def pseudonym(name: str | bytes) -> str:
    """Name an id, or any text of a shopper, as it may be logged."""
    data = name.encode() if isinstance(name, str) else name
    return hashlib.blake2b(data, key=_key, digest_size=LETTERS // 2).hexdigest()


def told(error: BaseException) -> str:
    """Tell of an error by its kind and place; its text may hold what shoppers sent."""
    return f"{type(error).__name__} at {place_of(error)}"


def about(
    shopper: str | bytes, event_id: str = "", place: tuple[str, int, int] | None = None
) -> dict[str, Any]:
    """Say what a log line is about, as `extra` of a logger's call: JSON lines have it in fields of their own.

    Args:
        shopper: an id, which is hashed.
        event_id: "" where it is not known; hashed too, since a shop may have put anything into it.
        place: topic, partition and offset of the event.
    """
    fields: dict[str, Any] = {"user": pseudonym(shopper)}
    if event_id:
        fields["event"] = pseudonym(event_id)
    if place:
        fields |= zip(("topic", "partition", "offset"), place, strict=True)
    return {"about": fields}


class LogFormatter(logging.Formatter):
    """Lines without the texts of errors: of an exception only the kind and the lines of code are shown.

    What this package says of an error by its own words stands; where a library puts one into a line, its
    kind and place are put instead.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        if isinstance(record.args, tuple) and record.name.partition(".")[0] != PACKAGE:
            args = (told(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
            record.args = tuple(args)
        record.exc_text = None  # another handler's, with the text
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name is the standard library's
        """Format a line without its trace; what a library says at great length is cut."""
        surplus = len(record.message) - LONGEST
        if surplus > 0 and record.name.partition(".")[0] != PACKAGE:
            record.message = f"{record.message[:LONGEST]} ... and {surplus} characters more"
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802, the name is the standard library's
        """Format the lines that were run, and the kind of error."""
        error = ei[1] if isinstance(ei, tuple) else None
        if not isinstance(error, BaseException):
            return ""
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


class JsonLogFormatter(LogFormatter):
    """The same lines as JSON objects, one a line: `at`, `level`, `logger`, `message`, and what `about` names.

    What is in a line is told the same way, so nothing is in one that would not be in the other.
    """

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; the lines of an exception are in `message`, as they are in a text."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
            **getattr(record, "about", {}),
        }
        return msgspec.json.encode(line).decode()
