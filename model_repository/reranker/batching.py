"""Many lists, one forward: the pure half of the model; `model.py` holds what touches Triton."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class BadFeatures(ValueError):
    """A request that cannot be scored; the message says what is wrong with it."""


def answer(
    requests: Sequence[Floats], width: int, score: Callable[[Floats], Floats]
) -> list[Floats | BadFeatures]:
    """Score the candidates of all requests at once and give each request its own, or what is wrong.

    Args:
        requests: features [lists, candidates, `width`] each; a bad one leaves the others alone.
        width: the number of features.
        score: rows [n, `width`] to scores [n]; not called without rows.
    """
    wrong = [_fault(features, width) for features in requests]
    good = [features for features, fault in zip(requests, wrong, strict=True) if fault is None]
    rows = [features.reshape(-1, width) for features in good]
    scores = score(np.concatenate(rows)) if sum(map(len, rows)) else np.zeros(0, np.float32)
    parts = iter(np.split(scores, np.cumsum([len(part) for part in rows], dtype=np.int64)))
    answers: list[Floats | BadFeatures] = []
    for features, fault in zip(requests, wrong, strict=True):
        if fault is not None:
            answers.append(fault)
            continue
        made = next(parts).reshape(features.shape[:2])
        finite = bool(np.isfinite(made).all())
        answers.append(made if finite else BadFeatures("FEATURES are too large to be scored"))
    return answers


def _fault(features: Floats, width: int) -> BadFeatures | None:
    if features.ndim != 3 or features.shape[2] != width:
        shape = list(features.shape)
        return BadFeatures(f"FEATURES has shape {shape}, expected [lists, candidates, {width}]")
    if not np.isfinite(features).all():
        _, candidate, feature = np.argwhere(~np.isfinite(features))[0]
        return BadFeatures(f"FEATURES[{candidate}, {feature}] is not a finite number")
    return None
