"""From logits to scores that mean what they say: Platt scaling, and how far scores are from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 100
RIDGE = 1e-3
"""Pulls towards slope 1 and shift 0, as strongly as this many pairs."""
LEAST_SLOPE = 1e-3
BINS = 10


@dataclass(frozen=True)
class Platt:
    """score = sigmoid(slope * logit + shift), Platt 1999; rising, since the slope is above 0."""

    slope: float = 1.0
    shift: float = 0.0

    def scores(self, logits: Floats) -> Floats:
        """Return scores between 0 and 1, aligned with the logits."""
        at = np.clip(self.slope * np.asarray(logits, np.float64) + self.shift, -60.0, 60.0)
        scores: Floats = 1.0 / (1.0 + np.exp(-at))
        return scores


def fit(logits: Floats, targets: Floats) -> Platt:
    """Fit slope and shift to targets in 0..1 by the least cross-entropy, with Newton's method."""
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    features = np.stack([logits, np.ones_like(logits)], axis=1)
    start = np.array([1.0, 0.0])
    at = start.copy()
    for _ in range(STEPS):
        scores = Platt(*at).scores(logits)
        gradient = features.T @ (scores - targets) + RIDGE * (at - start)
        curvature = (features * (scores * (1 - scores))[:, None]).T @ features + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        at -= np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return Platt(max(float(at[0]), LEAST_SLOPE), float(at[1]))


def cross_fitted(logits: Floats, targets: Floats, folds: NDArray[np.int64]) -> Floats:
    """Score each fold by what was fitted to the other folds."""
    scores = np.empty(len(logits))
    for fold in np.unique(folds):
        held_out = folds == fold
        scores[held_out] = fit(logits[~held_out], targets[~held_out]).scores(logits[held_out])
    return scores


def brier(scores: Floats, targets: Floats) -> float:
    """Return the mean squared difference, Brier 1950."""
    return float(np.mean((scores - targets) ** 2))


def bins(scores: Floats, targets: Floats) -> list[tuple[float, float, int]]:
    """Return mean score, mean target and count of each tenth of 0..1 that has scores."""
    number = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    return [
        (float(scores[rows].mean()), float(targets[rows].mean()), int(rows.sum()))
        for rows in (number == place for place in range(BINS))
        if rows.any()
    ]


def expected_error(scores: Floats, targets: Floats) -> float:
    """Return the expected calibration error: the bins' differences, weighted by their counts."""
    return sum(count * abs(said - true) for said, true, count in bins(scores, targets)) / len(scores)


def draw(path: Path, curves: Mapping[str, tuple[Floats, Floats]], title: str) -> None:
    """Draw reliability curves, (scores, targets) by name, into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for name, (scores, targets) in curves.items():
        said, true, _ = zip(*bins(scores, targets), strict=True)
        axes.plot(said, true, marker=".", label=f"{name}, error {expected_error(scores, targets):.3f}")
    axes.set(xlabel="mean score", ylabel="mean relevance", xlim=(0, 1), ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def auc(scores: Sequence[float] | Floats, positive: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the share of (positive, negative) couples in the right order; ties count half."""
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    values, places = np.unique(scores, return_inverse=True)
    right = np.bincount(places, positive, len(values))
    wrong = np.bincount(places, ~positive, len(values))
    below = np.cumsum(wrong) - wrong
    couples = right.sum() * wrong.sum()
    return float((right * (below + wrong / 2)).sum() / couples) if couples else float("nan")
