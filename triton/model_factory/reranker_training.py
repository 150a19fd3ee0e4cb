"""Listwise training in numpy: softmax cross-entropy over all candidates of a list, Adam.

The networks are the ones that serve (`model_repository/reranker/network.py`): one hidden layer beside a
linear path, or the linear path alone, whose weights go to `stream.core.blend`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0
HIDDEN = 32
GROUP = 8
"""Lists a step."""
LEARNING_RATE = 0.005
WARM_UP_STEPS = 200

Floats = NDArray[np.float32]


@dataclass
class Lists:
    """Lists to learn from: feature rows of all candidates and the place of the right one.

    `features` are kept in half precision, one array [candidates, features] for each list.
    """

    features: list[NDArray[np.float16]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, features: Floats, target: int) -> None:
        self.features.append(features.astype(np.float16))
        self.targets.append(target)


def standardisation(lists: Lists, seed: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature over a sample of lists; a constant one is spread by 1."""
    chosen = np.random.default_rng(seed).permutation(len(lists.features))[:2_000]
    rows = np.concatenate([lists.features[place] for place in chosen]).astype(np.float64)
    spread = rows.std(axis=0)
    return rows.mean(axis=0).astype(np.float32), np.where(spread > 1e-4, spread, 1.0).astype(np.float32)


def fit(
    lists: Lists,
    centre: Floats,
    spread: Floats,
    *,
    hidden: int,
    epochs: int,
    seed: int,
    progress: Callable[[int], None] = lambda lists: None,
) -> dict[str, Floats]:
    """Learn weights.

    Args:
        hidden: units of the hidden layer; 0 trains the linear path alone.
        progress: is told the number of lists of each step.

    Returns:
        `linear` [F], and with a hidden layer `hidden` [F, H], `bias` [H] and `output` [H].
    """
    random = np.random.default_rng(seed)
    width = len(centre)
    weights: dict[str, Floats] = {"linear": np.zeros(width, np.float32)}
    if hidden:
        start = random.standard_normal((width, hidden)) * np.sqrt(2 / width)
        weights["hidden"] = start.astype(np.float32)
        weights["bias"] = np.zeros(hidden, np.float32)
        weights["output"] = np.zeros(hidden, np.float32)
    adam = _Adam(weights, steps=epochs * (len(lists.targets) // GROUP))
    for _ in range(epochs):
        order = random.permutation(len(lists.targets))
        for begin in range(0, len(order) - GROUP + 1, GROUP):
            group = order[begin : begin + GROUP]
            parts = [lists.features[place] for place in group]
            rows = np.concatenate(parts).astype(np.float32)
            rows = np.clip((rows - centre) / spread, -CLIP, CLIP)
            starts = np.cumsum([0, *map(len, parts)])
            targets = starts[:-1] + [lists.targets[place] for place in group]
            adam.step(_gradients(weights, rows, starts, targets))
            progress(GROUP)
    return weights


def _gradients(
    weights: dict[str, Floats], rows: Floats, starts: NDArray[np.int64], targets: NDArray[np.int64]
) -> dict[str, Floats]:
    """Gradients of the mean cross-entropy of some lists, whose rows lie one after the other."""
    scores = rows @ weights["linear"]
    if "hidden" in weights:
        before = rows @ weights["hidden"] + weights["bias"]
        active = np.maximum(before, 0.0)
        scores = scores + active @ weights["output"]
    of_list = np.repeat(np.arange(len(targets)), np.diff(starts))
    scores = np.exp(scores - np.maximum.reduceat(scores, starts[:-1])[of_list])
    error = scores / np.add.reduceat(scores, starts[:-1])[of_list]
    error[targets] -= 1.0
    error /= len(targets)
    gradients = {"linear": rows.T @ error}
    if "hidden" in weights:
        inner = error[:, None] * weights["output"] * (before > 0)
        gradients |= {"hidden": rows.T @ inner, "bias": inner.sum(axis=0), "output": active.T @ error}
    return gradients


class _Adam:
    """Adam with a warm-up and a cosine to zero, in place."""

    def __init__(self, weights: dict[str, Floats], steps: int) -> None:
        self._weights = weights
        self._first = {name: np.zeros_like(values) for name, values in weights.items()}
        self._second = {name: np.zeros_like(values) for name, values in weights.items()}
        self._steps = steps
        self._done = 0

    def step(self, gradients: dict[str, Floats]) -> None:
        self._done += 1
        rate = LEARNING_RATE * min(1.0, self._done / WARM_UP_STEPS)
        rate *= 0.5 * (1 + np.cos(np.pi * self._done / self._steps))
        for name, gradient in gradients.items():
            first, second = self._first[name], self._second[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            mean = first / (1 - 0.9**self._done)
            scale = np.sqrt(second / (1 - 0.999**self._done)) + 1e-8
            self._weights[name] -= (rate * mean / scale).astype(np.float32)
