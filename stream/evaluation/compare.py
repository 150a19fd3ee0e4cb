"""Two policies on the same replay, list by list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream.evaluation.intervals import Bootstrap
from stream.evaluation.next_item import LIST, RESAMPLES, Measured, figures, paired


def compared(runs: Mapping[str, Measured], seed: int = 0) -> dict[str, Any]:
    """Figures of two runs, by the name of their policy, and by how much the second has more.

    Differences are of the same lists, one by one; their intervals hold 95 of 100 resamples of the sessions.

    Raises:
        ValueError: the two did not measure the same lists.
    """
    (first_name, first), (second_name, second) = runs.items()
    if (first.asked.sessions, first.asked.positions) != (second.asked.sessions, second.asked.positions):
        raise ValueError("the two runs measured different lists")
    groups = np.array(first.asked.sessions)
    one, other = first.rankers[LIST], second.rankers[LIST]
    at = first.window.at
    difference = paired(np.array(other.ranks), np.array(one.ranks), at, groups, seed)
    for name, values, others in (
        ("novelty", one.novelty, other.novelty),
        ("intra_list_diversity", one.diversity, other.diversity),
    ):
        table = np.array([others, values]).T
        known = ~np.isnan(table).any(axis=1)
        if known.any():
            bootstrap = Bootstrap(table[known], groups[known], seed, RESAMPLES)
            difference[name] = bootstrap.difference(0, 1).rounded()
    changed = np.array(first.asked.digests) != np.array(second.asked.digests)
    said = []
    for name, measured in ((first_name, first), (second_name, second)):
        found = figures(measured, seed)
        said.append({"policy": name, **{key: value for key, value in found.items() if key != "baselines"}})
    return {
        "at": at,
        "lists": len(groups),
        "sessions": said[0]["sessions"],
        "difference": difference,
        "lists_that_differ": round(float(changed.mean()), 4),
        "policies": said,
    }
