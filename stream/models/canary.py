"""A few requests to a version that was just loaded, compared with what it answered when it was made."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ModelRefused
from stream.models.manifest import Canary

Inputs = list[tuple[str, str, NDArray[Any]]]
Ask = Callable[[Inputs, str], Awaitable[NDArray[Any]]]

_NUMPY = {"FP32": np.float32, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32}
MOST_SPACES = 400


async def check(canary: Canary, ask: Ask) -> float:
    """Put every request to a version, one at a time, and return how near its worst answer is.

    Args:
        ask: takes inputs with the batch first and the output's name, gives the output.

    Raises:
        ModelRefused: an answer is not finite, has another size, or is too far from the recorded one.
    """
    # Spaces at the end change nothing for a tokenizer, and everything for a response cache.
    spaces = " " * random.randint(1, MOST_SPACES)
    measures = []
    for number, (request, expected) in enumerate(zip(canary.requests, canary.answers, strict=True), start=1):
        inputs = [
            (name, datatype, _array(request[name], datatype, spaces))
            for name, datatype in canary.inputs.items()
        ]
        given = np.asarray(await ask(inputs, canary.output), np.float64).ravel()
        wanted = np.array(expected, np.float64)
        if given.shape != wanted.shape:
            raise ModelRefused(f"canary {number}: {given.size} numbers in {canary.output}, not {wanted.size}")
        if not np.isfinite(given).all():
            raise ModelRefused(f"canary {number}: {canary.output} has numbers that are not finite")
        measures.append(nearness(canary, given, wanted))
        if measures[-1] < 0:
            what = "cosine below" if canary.compare == "cosine" else "a number further off than"
            raise ModelRefused(
                f"canary {number}: {canary.output} differs from the answer in the manifest ({what} "
                f"{canary.limit:g}): these are not the weights or not the code that were measured"
            )
    return min(measures)


def nearness(canary: Canary, given: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """By how much an answer is nearer than the limit asks; negative where it is too far."""
    if canary.compare == "difference":
        return canary.limit - float(np.abs(given - wanted).max(initial=0.0))
    lengths = float(np.linalg.norm(given) * np.linalg.norm(wanted))
    return (float(given @ wanted) / lengths if lengths else 0.0) - canary.limit


def _array(values: list[Any], datatype: str, spaces: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.array([[(value + spaces).encode() for value in values]], np.object_)
    return np.array([values], _NUMPY[datatype])
