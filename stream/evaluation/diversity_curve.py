"""What diversity and exploration cost in hits: one replay, composed with every strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from stream.core.policy import DiversityPolicy, ExplorationPolicy, Policy
from stream.errors import WrongFile

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
METHODS: tuple[Literal["mmr", "dpp"], ...] = ("mmr", "dpp")
PLAIN = "by score"
MOST_LOST = 0.01
"""Of the hit rate, what diversity may cost by default."""
EXPLORED: Mapping[str, ExplorationPolicy] = {
    "as by default": ExplorationPolicy(),
    "a new item in every list": ExplorationPolicy(share=1.0, kinds=("new",)),
    "an uncertain item in every list": ExplorationPolicy(share=1.0, kinds=("uncertain",)),
    "two slots in every list": ExplorationPolicy(slots=2, share=1.0),
}


def policies(policy: Policy, strengths: Sequence[float] = STRENGTHS) -> dict[str, Policy]:
    """The policies of the curve by name: without diversity and exploration first."""
    off = msgspec.structs.replace(
        policy, diversity=DiversityPolicy(strength=0.0), exploration=ExplorationPolicy(slots=0)
    )
    found = {PLAIN: off}
    for method in METHODS:
        for strength in strengths:
            diversity = DiversityPolicy(method=method, strength=strength)
            found[f"{method} {strength:g}"] = msgspec.structs.replace(off, diversity=diversity)
    for name, exploration in EXPLORED.items():
        found[name] = msgspec.structs.replace(off, exploration=exploration)
    return found


def figures(by_name: Mapping[str, Mapping[str, Any]], strengths: Sequence[float]) -> dict[str, Any]:
    """Lay out the figures of `policies` as a curve for each method and a row for each exploration."""
    curves = {
        method: [
            {"strength": 0.0, **by_name[PLAIN]},
            *({"strength": one, **by_name[f"{method} {one:g}"]} for one in strengths),
        ]
        for method in METHODS
    }
    within = {
        method: max(point["strength"] for point in points if point["hr_lost"]["value"] <= MOST_LOST)
        for method, points in curves.items()
    }
    return {
        "curves": curves,
        "strongest_within_1_percent": within,
        "exploration": {name: by_name[name] for name in EXPLORED},
    }


def plot(found: Mapping[str, Any], at: int, path: Path) -> None:
    """Write the curve as PNG: the hit rate over the diversity of a list.

    Raises:
        WrongFile: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise WrongFile("plots need matplotlib: pip install 'streamrec[evaluate]'") from None
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for method, points in found["curves"].items():
        diversity = [point["intra_list_diversity"] for point in points]
        rates = [point[f"hr_at_{at}"] for point in points]
        below = [rate["value"] - rate["low"] for rate in rates]
        above = [rate["high"] - rate["value"] for rate in rates]
        values = [rate["value"] for rate in rates]
        axes.errorbar(diversity, values, yerr=[below, above], marker=".", capsize=2, label=method)
        for point, x, y in zip(points, diversity, values, strict=True):
            axes.annotate(f"{point['strength']:g}", (x, y), textcoords="offset points", xytext=(4, 4))
    axes.set(xlabel="diversity of a list: mean of 1 - cosine over its pairs", ylabel=f"HR@{at}")
    axes.set_title("strength at the points; bars hold 95 of 100 resamples of the sessions", fontsize=9)
    axes.legend()
    try:
        figure.savefig(path, dpi=120, metadata={"Software": ""})
    except OSError as error:
        raise WrongFile(f"{path}: cannot be written ({error.strerror}); give another --plot") from None
    finally:
        pyplot.close(figure)
