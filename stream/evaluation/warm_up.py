"""Warm the reranker up on a shop's log, as the trainer would have learnt had it run all the while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.items import FloatArray
from stream.core.learning import Learning, OnlineLearner
from stream.core.policy import DAY_MS
from stream.core.ranking import CLIP, FEATURES
from stream.evaluation import next_item
from stream.evaluation.next_item import Window
from stream.evaluation.replay import Vectors
from stream.evaluation.sessions import Session

MEASURED_DAYS = 92
"""The figures are of the lists of so many days before the end, each scored before it was learnt from."""
MEASURED_EVERY = 8


class Warm(NamedTuple):
    """What came of it; `figures` as `stream.evaluation.next_item.figures` gives them."""

    learner: OnlineLearner
    figures: dict[str, Any]
    window: Window
    learnt_every: int


class _Learning:
    """Ranks by what has been learnt so far; before the first list is ranked, what came goes over again.

    Args:
        passes: how often each list that came before is learnt from.
    """

    learns = True

    def __init__(self, learner: OnlineLearner, passes: int) -> None:
        self.learner = learner
        self._again = passes - 1
        self._kept: list[tuple[NDArray[np.float16], int]] = []

    @property
    def says(self) -> str:
        return f"learnt online from {self.learner.lists} lists"

    def score(self, rows: FloatArray) -> FloatArray:
        for _ in range(self._again):
            for kept, target in self._kept:
                self.learner.learn(kept, target)
        self._again = 0
        self._kept.clear()
        return self.learner.score(rows)

    def learn(self, rows: FloatArray, target: int) -> None:
        self.learner.learn(rows, target)
        if self._again:
            self._kept.append((rows.astype(np.float16), target))


def warm_up(
    sessions: Sequence[Session],
    vectors: Vectors,
    until_ms: int,
    *,
    lists: int,
    passes: int = 1,
    seed: int = 0,
    learning: Learning | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Warm:
    """Learn from what lies before `until_ms`.

    Args:
        sessions: in order.
        vectors: of the items' texts.
        lists: about so many are learnt from before those that are measured, of every n-th session.
        passes: how often each of them is learnt from; for more than one they are kept in memory.
        progress: is told how many sessions have ended.

    Raises:
        ValueError: there is no list to measure.
    """
    ranking = _Learning(OnlineLearner(FEATURES, seed, learning), passes)
    window = Window(until_ms - MEASURED_DAYS * DAY_MS, until_ms, MEASURED_EVERY)
    measured = next_item.run(
        sessions, vectors, window, ranking, plain=False, warm_up_lists=lists, progress=progress
    )
    return Warm(ranking.learner, next_item.figures(measured, seed), window, measured.learnt_every)


def blend_module(learner: OnlineLearner) -> str:
    """Write the linear weights as the module `stream.core.blend`."""
    network = learner.network()
    columns = "\n".join(
        f"{name}: FloatArray = np.array(\n    [\n"
        + "".join(
            f"        {float(f'{value:.6g}')!r},  # {feature}\n"
            for value, feature in zip(values.tolist(), learner.features, strict=True)
        )
        + "    ],\n    np.float32,\n)\n"
        for name, values in (
            ("WEIGHTS", learner.linear()),
            ("CENTRE", network.centre),
            ("SPREAD", network.spread),
        )
    )
    return (
        '"""Linear weights of the features, learnt beside the reranker, for where it cannot be asked.\n\n'
        "Written by `streamrec trainer warm-up --blend`; not to be edited. Each in the order of\n"
        "`stream.core.ranking.FEATURES`; a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.\n"
        f"Standardised features are clipped at {CLIP:g}.\n"
        '"""\n\nimport numpy as np\n\nfrom stream.core.items import FloatArray\n\n' + columns
    )
