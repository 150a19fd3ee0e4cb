"""What each source of candidates adds: where the next item stands when a source is left out of the lists.

Left out are the candidates that no other source named, and the columns whose merit is the source's: each gets
its mean over the list, so that it says nothing about any candidate. The model is not trained anew, so this
is what a shop would lose that switched the source off today; one that learns on would win some of it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.candidates import OFFERS, Candidates
from stream.core.features import GROUPS
from stream.core.items import FloatArray
from stream.evaluation import metrics
from stream.evaluation.intervals import Bootstrap

RESAMPLES = 2_000


class LeftOut:
    """Takes in lists, by score alone, and says what each source adds to them."""

    def __init__(self) -> None:
        self._whole: list[int] = []
        self._without: Mapping[str, list[int]] = {offer: [] for offer in OFFERS}
        self._columns = _columns_by_source()

    def note(
        self,
        candidates: Candidates,
        rows: FloatArray,
        scores: FloatArray,
        place: int | None,
        score: Callable[[FloatArray], FloatArray],
    ) -> None:
        """Take in one list.

        Args:
            rows: features of the candidates [N, F]; `scores` [N] are what `score` gives them.
            place: of the right item among the candidates, None where it is not there.
        """
        unseen = ~candidates.seen
        self._whole.append(_rank(scores, place, unseen))
        for bit, (offer, ranks) in enumerate(self._without.items()):
            named = candidates.by(offer)
            if not named.any():
                ranks.append(self._whole[-1])
                continue
            kept = unseen & (candidates.offered != 1 << bit)
            columns = self._columns.get(offer)
            without = scores
            if columns is not None and place is not None and kept[place]:
                blinded = rows.copy()
                blinded[:, columns] = blinded[:, columns].mean(axis=0)
                without = score(blinded)
            ranks.append(_rank(without, place, kept))

    def figures(self, at: int, groups: NDArray[Any], seed: int) -> dict[str, dict[str, Any]]:
        """By source, what is lost without it, paired list by list; intervals by resampled groups of lists."""
        ranks = [np.array(one) for one in (self._whole, *self._without.values())]
        measures = {f"hr_at_{at}": metrics.hits, f"mrr_at_{at}": metrics.reciprocal_ranks}
        drawn = [
            Bootstrap(np.stack([measure(one, at) for one in ranks], axis=1), groups, seed, RESAMPLES)
            for measure in measures.values()
        ]
        return {
            offer: {
                name: one.difference(0, column).rounded() for name, one in zip(measures, drawn, strict=True)
            }
            for column, offer in enumerate(self._without, start=1)
        }


def _columns_by_source() -> dict[str, NDArray[np.intp]]:
    """The columns of the features that count towards each source's merit."""
    found: dict[str, list[int]] = {}
    start = 0
    for group in GROUPS:
        if group.merit is not None:
            found.setdefault(group.merit.name, []).extend(range(start, start + len(group.names)))
        start += len(group.names)
    return {name: np.array(columns) for name, columns in found.items()}


def _rank(scores: FloatArray, place: int | None, kept: NDArray[np.bool_]) -> int:
    """The place of the right item among those that are kept, from 1; 0 where it is not among them."""
    if place is None or not kept[place]:
        return 0
    return int((scores[kept] > scores[place]).sum()) + 1
