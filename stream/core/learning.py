"""Learn to rank as the stream flows: softmax cross-entropy over all candidates of a list, Adam, in numpy.

The network is the one that serves (`model_repository/reranker/network.py`): one hidden layer beside a linear
path. A linear path alone is learnt from the same lists, for where the network cannot be asked (`blend.py`).
Numpy rather than a framework: a list costs a few hundred thousand multiplications, the engine runs without
anything else, and the same lists in the same order give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0
"""A standardised feature counts at most this much, as where it serves."""
LEAST_SPREAD = 1e-4
"""A feature that varies less in the first lists is spread by 1."""
MOMENTUM, SCALE_MEMORY, TINY = 0.9, 0.999, 1e-8

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """What serves, for F features and H hidden units; see `model_repository/reranker/network.py`."""

    centre: Floats
    spread: Floats
    hidden: Floats
    bias: Floats
    output: Floats
    linear: Floats


@dataclass(frozen=True)
class Learning:
    """How to learn.

    `hidden` units; Adam at `rate` after every `group` lists; features are standardised by the first
    `standardising` lists, which teach nothing else; what serves is the average of the weights of about the
    last `averaged` steps, 1 for the weights as they are.
    """

    hidden: int = 24
    rate: float = 0.002
    group: int = 4
    standardising: int = 200
    averaged: int = 1_000


class OnlineLearner:
    """Learn from one list after the other.

    Args:
        features: names of the columns of every row, which the weights belong to.
        seed: of the hidden layer's start; all else begins at zero.
    """

    def __init__(self, features: tuple[str, ...], seed: int = 0, learning: Learning | None = None) -> None:
        self.features = features
        self.learning = learning or Learning()
        width, hidden = len(features), self.learning.hidden
        self._moments = np.zeros((2, width), np.float64)
        self._rows_seen = 0
        self._centre = np.zeros(width, np.float32)
        self._spread = np.ones(width, np.float32)
        self.lists = 0
        self._steps = 0
        self._sizes = (width * hidden, hidden, hidden, width, width)
        # Weights, averages, gradients so far and Adam's two memories: one row each, laid out by `_Layers`.
        self._memory = np.zeros((5, sum(self._sizes)), np.float32)
        self._shape()
        start = np.random.default_rng(seed).standard_normal((width, hidden)) * np.sqrt(2 / max(1, width))
        self._weights.hidden[:] = start
        self._average.hidden[:] = start

    def learn(self, rows: NDArray[Any], target: int) -> None:
        """Learn from one list: feature rows [n, F] of all its candidates, and the place of the right one."""
        self.lists += 1
        if self.lists <= self.learning.standardising:
            self._standardise(rows)
            return
        self._add_gradients(self._scaled(rows), target)
        if (self.lists - self.learning.standardising) % self.learning.group == 0:
            self._step()

    def score(self, rows: NDArray[Any]) -> Floats:
        """Score rows [n, F] with the weights that serve: [n], higher is better; zeros before they are any."""
        scaled, average = self._scaled(rows), self._average
        active = np.maximum(scaled @ average.hidden + average.bias, 0.0)
        scores: Floats = active @ average.output + scaled @ average.linear
        return scores

    def score_linear(self, rows: NDArray[Any]) -> Floats:
        """Score rows as `score` with the linear path that was learnt alone."""
        scores: Floats = self._scaled(rows) @ self._average.alone
        return scores

    def network(self) -> Weights:
        """Return the weights that serve."""
        average = self._average
        arrays = (self._centre, self._spread, average.hidden, average.bias, average.output, average.linear)
        return Weights(*(array.copy() for array in arrays))

    def linear(self) -> Floats:
        """Return the weights [F] of the linear path that was learnt alone, for standardised features."""
        return self._average.alone.copy()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays; `from_state` goes on from them as if nothing had happened."""
        said = self.learning
        return {
            "features": np.array(self.features),
            "learning": np.array(
                [said.hidden, said.rate, said.group, said.standardising, said.averaged], np.float64
            ),
            "counts": np.array([self.lists, self._steps, self._rows_seen], np.int64),
            "moments": self._moments.copy(),
            "standardisation": np.stack([self._centre, self._spread]),
            "memory": self._memory.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> OnlineLearner:
        """Go on from what `state` gave.

        Raises:
            KeyError, ValueError: it is not such a state.
        """
        hidden, rate, group, standardising, averaged = state["learning"].tolist()
        learning = Learning(int(hidden), rate, int(group), int(standardising), int(averaged))
        learner = cls(tuple(map(str, state["features"])), 0, learning)
        learner.lists, learner._steps, learner._rows_seen = state["counts"].tolist()
        learner._moments[:] = state["moments"]
        learner._centre[:], learner._spread[:] = state["standardisation"]
        learner._memory[:] = state["memory"]
        return learner

    def _shape(self) -> None:
        self._weights, self._average, self._gradients = (self._layers(row) for row in self._memory[:3])

    def _layers(self, row: Floats) -> _Layers:
        hidden, *others = np.split(row, np.cumsum(self._sizes)[:-1])
        return _Layers(hidden.reshape(len(self.features), self.learning.hidden), *others)

    def _standardise(self, rows: NDArray[Any]) -> None:
        wide = np.asarray(rows, np.float64)
        self._moments += wide.sum(axis=0), np.square(wide).sum(axis=0)
        self._rows_seen += len(wide)
        if self.lists == self.learning.standardising and self._rows_seen:
            mean, square = self._moments / self._rows_seen
            spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
            self._centre[:] = mean
            self._spread[:] = np.where(spread > LEAST_SPREAD, spread, 1.0)

    def _scaled(self, rows: NDArray[Any]) -> Floats:
        scaled: Floats = np.subtract(rows, self._centre, dtype=np.float32)
        scaled /= self._spread
        np.maximum(scaled, -CLIP, out=scaled)
        np.minimum(scaled, CLIP, out=scaled)
        return scaled

    def _add_gradients(self, rows: Floats, target: int) -> None:
        """Add the gradients of one list's cross-entropy, for the network and for the linear path alone."""
        weights, gradients = self._weights, self._gradients
        active = np.maximum(rows @ weights.hidden + weights.bias, 0.0)
        error = _softmax(active @ weights.output + rows @ weights.linear)
        error[target] -= 1.0
        alone = _softmax(rows @ weights.alone)
        alone[target] -= 1.0
        inner = error[:, None] * weights.output
        inner *= active > 0
        gradients.hidden[:] += rows.T @ inner
        gradients.bias[:] += inner.sum(axis=0)
        gradients.output[:] += error @ active
        gradients.linear[:] += error @ rows
        gradients.alone[:] += alone @ rows

    def _step(self) -> None:
        """Move the weights by Adam (Kingma and Ba 2014, arXiv:1412.6980), and their average after them."""
        self._steps += 1
        weights, average, gradient, first, second = self._memory
        gradient /= self.learning.group
        first += np.float32(1 - MOMENTUM) * (gradient - first)
        second += np.float32(1 - SCALE_MEMORY) * (gradient * gradient - second)
        rate = self.learning.rate * np.sqrt(1 - SCALE_MEMORY**self._steps) / (1 - MOMENTUM**self._steps)
        weights -= np.float32(rate) * first / (np.sqrt(second) + np.float32(TINY))
        average += np.float32(1 / min(self._steps, self.learning.averaged)) * (weights - average)
        gradient[:] = 0.0


class _Layers(NamedTuple):
    """Views of one flat row of numbers: the network's layers, and the linear path that is learnt alone."""

    hidden: Floats
    bias: Floats
    output: Floats
    linear: Floats
    alone: Floats


def _softmax(scores: Floats) -> Floats:
    grown: Floats = np.exp(scores - scores.max())
    grown /= grown.sum()
    return grown
