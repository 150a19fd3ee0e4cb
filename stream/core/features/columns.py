"""What several groups of features look at, worked out once for a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.candidates import Candidates
from stream.core.context import Context
from stream.core.evidence import BACKWARD, RECENCY_BY_AGE, SESSION_RECENCY_BY_AGE, SHRINK
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS
from stream.core.signals import popularity_at
from stream.core.sources import Source
from stream.core.sources.source import Reads

_COSINE_FLOOR = np.float32(1e-4)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """N candidates and R = `rows` rows of neighbours, of the session's items, newest first.

    `popularity` [N, half-lives] is the candidates' now; `row` [R] and `column` [N] are what divides a
    co-visitation weight to make it a cosine; `forward`, `backward` and `both` [R, N] are such cosines;
    `recent` and `steady` [R] are what items of the session count, sooner and later fading.
    """

    context: Context
    candidates: Candidates
    rows: int
    popularity: FloatArray
    row: FloatArray
    column: FloatArray
    forward: FloatArray
    backward: FloatArray
    both: FloatArray
    recent: FloatArray
    steady: FloatArray

    @classmethod
    def of(cls, context: Context, candidates: Candidates) -> Columns:
        """Work the columns out."""
        popularity = popularity_at(context.popularity.take(candidates.slots, axis=0), context.at_ms)
        column = 1.0 / np.sqrt(popularity[:, 3] + np.float32(SHRINK))
        row = 1.0 / np.sqrt(candidates.row_popularity + np.float32(SHRINK))
        rows = len(candidates.row_items)
        forward = candidates.forward * row[:, None] * column
        backward = candidates.backward * row[:, None] * column
        return cls(
            context=context,
            candidates=candidates,
            rows=rows,
            popularity=popularity,
            row=row,
            column=column,
            forward=forward,
            backward=backward,
            both=forward + np.float32(BACKWARD) * backward,
            recent=RECENCY_BY_AGE[:rows],
            steady=SESSION_RECENCY_BY_AGE[:rows],
        )


class Group(NamedTuple):
    """Features that are worked out together, in a file of their own; registered in `stream.core.features`.

    `compute` fills a table [len(names), N] of zeros. `merit` is the source to whose credit the features
    count when an item's source is named, None for those that are no source's.
    """

    name: str
    names: tuple[str, ...]
    reads: tuple[Reads, ...]
    merit: Source | None
    compute: Callable[[Columns, FloatArray], None]


def log_and_ratio(table: FloatArray, sums: FloatArray) -> None:
    """Fill rows in turns with the logarithm of sums [n, N] and with their share of the list's best."""
    table[0::2] = np.log(sums + _COSINE_FLOOR)
    table[1::2] = sums / np.maximum(sums.max(axis=1, initial=0.0, keepdims=True), 1e-9)


def log_days(at_ms: int, then_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(1 + days) since times, 0 for those that are 0."""
    days = np.maximum(at_ms - then_ms, 0) / DAY_MS
    return np.where(then_ms > 0, np.log1p(days), 0.0)
