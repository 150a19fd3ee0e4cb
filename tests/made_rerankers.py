"""Versions of the reranker that are made up, for tests of how versions change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stream.core.learning import Learning, OnlineLearner
from stream.core.ranking import FEATURES
from stream.models import reranker_version
from stream.models.repository import new_version, versions


def add_version(repository: Path, *, liking: float) -> str:
    """Write a version that puts what the shopper touched in earlier sessions first, or (below 0) last."""
    learner = OnlineLearner(FEATURES, learning=Learning(hidden=1))
    state = learner.state()
    state["memory"][:] = 0.0
    linear = slice(-2 * len(FEATURES), -len(FEATURES))
    for row in state["memory"][:2]:  # the weights, and their average, which serves
        row[linear] = liking * (np.array(FEATURES) == "touches")
    learner = OnlineLearner.from_state(state)
    assert learner.network().linear.tolist() == (liking * (np.array(FEATURES) == "touches")).tolist()
    model = repository / "reranker"
    number = str(int(max(versions(repository, "reranker"), key=int)) + 1)
    with new_version(model, number) as folder:
        reranker_version.write(folder, learner, number, origin="made up", made="a test", training={})
    return number
