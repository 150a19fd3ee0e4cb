"""Open Icecat, as gathered by the Chorus project: an electronics catalogue.

Format: gzipped JSON lines, `id, title, description, brand, attributes{}`. It has neither prices nor
categories.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream.core.events import ItemMessage
from stream.errors import WrongFile


class Product(msgspec.Struct, frozen=True):
    """One line of the file."""

    id: str
    title: str
    description: str = ""
    brand: str | None = None
    attributes: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(Product)


def read_items(
    path: Path, skipped: Counter[str], progress: Callable[[int], None] | None = None
) -> Iterator[ItemMessage]:
    """Read the products.

    Args:
        skipped: counts, by reason, the lines that are none.
        progress: is told the bytes of the compressed file read so far, every thousand lines.

    Raises:
        WrongFile: it cannot be read.
    """
    try:
        with path.open("rb") as raw, gzip.open(raw) as lines:
            for number, line in enumerate(lines, 1):
                if progress is not None and number % 1000 == 0:
                    progress(raw.tell())
                try:
                    product = _decoder.decode(line)
                except msgspec.DecodeError:
                    skipped["malformed line"] += 1
                    continue
                if not product.id.strip() or not product.title.strip():
                    skipped["product without id or title"] += 1
                    continue
                yield ItemMessage(
                    item_id=product.id.strip(),
                    title=product.title.strip(),
                    description=product.description.strip(),
                    brand=(product.brand or "").strip() or None,
                    attributes=product.attributes or None,
                )
    except (OSError, EOFError) as error:
        raise WrongFile(f"{path}: not a readable gzipped file ({error})") from error
