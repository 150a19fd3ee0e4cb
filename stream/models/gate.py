"""Whether a version measured well enough to take over from another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stream.errors import ModelRefused
from stream.models.manifest import Measured


class Comparison(NamedTuple):
    """One metric on one data set; `gain` is positive where the candidate is better."""

    metric: str
    data: str
    active: float
    candidate: float
    gain: float


def compare(candidate: Sequence[Measured], active: Sequence[Measured]) -> list[Comparison]:
    """Pair the figures of two versions that were measured alike."""
    known = {(one.metric, one.data): one for one in active}
    return [
        Comparison(
            one.metric,
            one.data,
            before.value,
            one.value,
            (one.value - before.value) * (1 if one.higher_is_better else -1),
        )
        for one in candidate
        if (before := known.get((one.metric, one.data))) is not None
    ]


def gate(candidate: Sequence[Measured], active: Sequence[Measured], margin: float) -> list[Comparison]:
    """Return how two versions compare.

    Args:
        margin: how much worse than the active version a figure of the candidate may be.

    Raises:
        ModelRefused: there is nothing to compare, a figure is missing or no number, or one is worse.
    """
    if not candidate:
        raise ModelRefused(
            "the candidate's manifest has no measured figures: measure it with `model-factory evaluate`"
        )
    found = compare(candidate, active)
    missing = {(one.metric, one.data) for one in active} - {(one.metric, one.data) for one in found}
    if missing:
        raise ModelRefused(
            "the candidate lacks figures that the active version has:\n"
            + "\n".join(f"  {metric} on {data}" for metric, data in sorted(missing))
            + "\nmeasure both on the same data with `model-factory evaluate`"
        )
    if not found:
        raise ModelRefused(
            "the active version has no figures to compare with: measure both on the same data with "
            "`model-factory evaluate`"
        )
    worse = [one for one in found if not one.gain >= -margin]
    if worse:
        raise ModelRefused(
            f"the candidate is worse by more than {margin:g}:\n"
            + "\n".join(
                f"  {one.metric}: {one.candidate:.4f}, the active one has {one.active:.4f} (on {one.data})"
                for one in worse
            )
        )
    return found
