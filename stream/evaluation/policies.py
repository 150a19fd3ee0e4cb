"""Many policies on the lists of one replay: the same candidates and scores, composed by each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.items import FloatArray
from stream.core.listing import Composed, compose
from stream.core.policy import Policy
from stream.core.rules.in_force import NO_RULES
from stream.evaluation import metrics
from stream.evaluation.intervals import Bootstrap
from stream.evaluation.replay import ListAsked

RESAMPLES = 2_000


class Policies:
    """Composes each list by every policy, and remembers where the right item stood.

    The policies may differ in what comes after scoring: diversity, exploration, length and caps.

    Args:
        by_name: the first is the one that the others are compared with.
        at: length of the lists.
        seed: says what chance is drawn from, for a list.
    """

    def __init__(self, by_name: Mapping[str, Policy], at: int, seed: Callable[[ListAsked], int]) -> None:
        self._policies = {
            name: msgspec.structs.replace(policy, list_length=at) for name, policy in by_name.items()
        }
        self._at = at
        self._seed = seed
        self._sessions: list[str] = []
        self._catalogue = 0
        self._ranks: dict[str, list[int]] = {name: [] for name in by_name}
        self._diversity: dict[str, list[float]] = {name: [] for name in by_name}
        self._shown: dict[str, Counter[int]] = {name: Counter() for name in by_name}

    def watch(self, asked: ListAsked, scores: FloatArray, made: Composed) -> None:
        """Take in a list that was measured, see `stream.evaluation.next_item.Watch`."""
        context, candidates = asked.context, asked.candidates
        self._sessions.append(asked.session.session_id)
        self._catalogue = len(context.items)
        target = context.items.slot(asked.target)
        for name, policy in self._policies.items():
            composed = compose(context, candidates, scores, policy, NO_RULES, self._seed(asked))
            chosen = np.array([one.position for one in composed.chosen], np.intp)
            slots = candidates.slots[chosen[~candidates.seen[chosen]]]
            found = np.flatnonzero(slots == target) if target is not None else slots[:0]
            self._ranks[name].append(int(found[0]) + 1 if len(found) else 0)
            self._diversity[name].append(metrics.intra_list_diversity(context.space.vectors[slots]))
            self._shown[name].update(slots.tolist())

    def figures(self, seed: int = 0) -> dict[str, dict[str, Any]]:
        """Figures of each policy by name, as JSON values; `hr_lost` is the share that the first one has more.

        Intervals hold 95 of 100 resamples of the sessions; that of the difference is paired.
        """
        groups: NDArray[Any] = np.array(self._sessions)
        first, *_ = self._policies
        base = metrics.hits(np.array(self._ranks[first]), self._at)
        return {name: self._figures(name, base, groups, seed) for name in self._policies}

    def _figures(self, name: str, base: metrics.Floats, groups: NDArray[Any], seed: int) -> dict[str, Any]:
        at, ranks = self._at, np.array(self._ranks[name])
        hit = metrics.hits(ranks, at)
        drawn = Bootstrap(np.stack([hit, base], axis=1), groups, seed, RESAMPLES)
        lost = 1.0 - drawn.resampled[:, 0] / np.maximum(drawn.resampled[:, 1], 1e-12)
        low, high = np.percentile(lost, [2.5, 97.5])
        return {
            f"hr_at_{at}": drawn.mean(0).rounded(),
            f"mrr_at_{at}": metrics.mean(metrics.reciprocal_ranks(ranks, at)),
            "hr_lost": {
                "value": round(float(1.0 - hit.mean() / max(base.mean(), 1e-12)), 5),
                "low": round(float(low), 5),
                "high": round(float(high), 5),
            },
            "intra_list_diversity": metrics.mean(np.array(self._diversity[name])),
            "coverage": round(metrics.coverage(self._shown[name].values(), self._catalogue), 4),
            "gini": round(metrics.gini(self._shown[name].values(), self._catalogue), 4),
        }
