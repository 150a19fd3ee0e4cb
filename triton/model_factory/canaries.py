"""Requests and answers that a version is known by where it serves, see `stream.models.canary`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model_factory import served
from stream.models.manifest import Canary

TEXTS = ("red mug", "wireless ergonomic mouse for small hands", "Dishwasher, 60 cm, 14 place settings, A++")
PAIRS = (
    ("wireless mouse", "Logitech M185 wireless mouse, USB receiver, grey"),
    ("wireless mouse", "Cast iron frying pan 28 cm"),
    ("4k tv", "Samsung UE55 television, 55 inch, ultra high definition"),
)
LEAST_COSINE = 0.99
"""Rounding to 8 bits falls differently in another release of ONNX Runtime or on another processor: .9984 was
seen between 1.22 and 1.31. Other weights are much further off."""
MOST_OFF = 0.05
"""The same for the score of a pair."""
DIGITS = 5


def record(model: str, folder: Path) -> Canary | None:
    """Ask a version in `folder` with the code that serves it, each request alone; None for other models."""
    if model == "encoder":
        encoder = served.load_encoder(folder)
        return Canary(
            inputs={"TEXT": "BYTES"},
            output="EMBEDDING",
            requests=[{"TEXT": [text]} for text in TEXTS],
            answers=[_rounded(encoder.encode([text])[0]) for text in TEXTS],
            compare="cosine",
            limit=LEAST_COSINE,
        )
    if model == "cross_encoder":
        scorer = served.load_cross_encoder(folder)
        return Canary(
            inputs={"LEFT": "BYTES", "RIGHT": "BYTES"},
            output="SCORE",
            requests=[{"LEFT": [left], "RIGHT": [right]} for left, right in PAIRS],
            answers=[_rounded(scorer.score([pair])) for pair in PAIRS],
            compare="difference",
            limit=MOST_OFF,
        )
    return None


def _rounded(numbers: Any) -> list[float]:
    return [round(float(number), DIGITS) for number in np.ravel(numbers)]
