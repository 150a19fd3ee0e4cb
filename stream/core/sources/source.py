"""What a source of candidates declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.context import Context
from stream.core.evidence import Evidence
from stream.core.items import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from stream.core.candidates import Candidates  # which merges what the sources find

Reads = Literal["shopper", "rows", "popularity", "vectors", "words", "catalogue"]
"""What there is to look at: the shopper's facts, the items' rows of signals, the popularity of all items,
the index of vectors, the index of words, the facts about items."""


class Grounds(NamedTuple):
    """What can be said of a list's N candidates, worked out once; rows of neighbours as in `Candidates`.

    `carried` [R, N] is how much of a candidate's co-visitation goes with the row, -inf where the row says
    nothing of it; `likeness` [R, N] holds cosines; `unseen` [N] marks those that were not touched in this
    session.
    """

    context: Context
    candidates: Candidates
    carried: FloatArray
    likeness: FloatArray
    unseen: BoolArray


class Say(NamedTuple):
    """What a source has to say when it did most for a candidate.

    `shown` marks the candidates [N] for which it has something to show: of no other is it named. `reason` is
    the sentence for the candidate at a position, given the item that it names. That item is of the row that
    `row` [N] gives, or with `itself` the candidate; with `search` the shopper's search is named.
    With `last_resort` it is named only where none of the others has anything to show.
    """

    shown: Callable[[Grounds], BoolArray]
    reason: Callable[[Context, Candidates, int, str], str]
    row: Callable[[Grounds], NDArray[np.intp]] | None = None
    itself: bool = False
    search: bool = False
    last_resort: bool = False


class Source(NamedTuple):
    """A way of finding candidates, in a file of its own; registered in `stream.core.sources`.

    `find` gives the slots of at most `limit` items, in no order that counts; what is forbidden is taken out
    afterwards. Lists give `name` as an item's `source`, or `cause`, the name of the source that has the say
    for it.
    """

    name: str
    reads: tuple[Reads, ...]
    limit: int
    find: Callable[[Evidence], IntArray]
    say: Say | None = None
    cause: str = ""


def strongest(table: FloatArray) -> NDArray[np.intp]:
    """The row [N] of a table [rows, N] that has most in each column; 0 where there are no rows."""
    if not len(table):
        return np.zeros(table.shape[1], np.intp)
    rows: NDArray[np.intp] = table.argmax(axis=0)
    return rows
