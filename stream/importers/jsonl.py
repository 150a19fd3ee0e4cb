"""Products as JSON lines of the contract's item message, plain or gzipped."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from stream.core.events import ItemMessage, decode_item
from stream.errors import InvalidMessage, WrongFile


def read_items(
    path: Path, skipped: Counter[str], progress: Callable[[int], None] | None = None
) -> Iterator[ItemMessage]:
    """Read the products.

    Args:
        skipped: counts, by error code and message, the lines that are none.
        progress: is told the bytes of the file read so far, every thousand lines.

    Raises:
        WrongFile: it cannot be read.
    """
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as lines:
            for number, line in enumerate(lines, 1):
                if progress is not None and number % 1000 == 0:
                    progress(raw.tell())
                if not line.strip():
                    continue
                try:
                    yield _item(line)
                except InvalidMessage as error:
                    skipped[f"{error.code}: {error.message}"] += 1
    except (OSError, EOFError) as error:
        raise WrongFile(f"{path}: cannot be read ({error})") from error


def _item(line: bytes) -> ItemMessage:
    try:
        key = msgspec.json.decode(line, type=ItemMessage).item_id.encode()
    except msgspec.DecodeError:
        key = None  # decode_item says what is wrong before it looks at the key
    item = decode_item(key, line)[1]
    assert item is not None  # only a null value is a removal
    return item
