"""What a source of candidates declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from stream.core.evidence import Evidence
from stream.core.items import IntArray

Reads = Literal["shopper", "rows", "popularity", "vectors", "words", "catalogue"]
"""What there is to look at: the shopper's facts, the items' rows of signals, the popularity of all items,
the index of vectors, the index of words, the facts about items."""


class Source(NamedTuple):
    """A way of finding candidates, in a file of its own; registered in `stream.core.sources`.

    `find` gives the slots of at most `limit` items, in no order that counts; what is forbidden is taken out
    afterwards. `cause` is the name under which lists give it as an item's `source`, where it is another.
    """

    name: str
    reads: tuple[Reads, ...]
    limit: int
    find: Callable[[Evidence], IntArray]
    cause: str = ""
