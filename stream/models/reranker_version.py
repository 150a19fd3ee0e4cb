"""The files of a version of the reranker: written from what was learnt, and read back."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stream.core.learning import OnlineLearner
from stream.core.ranking import FEATURES
from stream.core.versions import difference
from stream.errors import ModelRefused
from stream.models import manifest
from stream.models.manifest import Canary

WEIGHTS = "weights.npz"
LEARNER = "learner.npz"
"""All that the learner knows, beside the weights that serve: a trainer goes on from it."""
MODEL = (
    "from triton_model import TritonPythonModel  # noqa: F401  the code that all versions share lies above\n"
)
CANARY_LISTS = 2
CANARY_CANDIDATES = 8
CANARY_DIGITS = 5
CANARY_LIMIT = 0.01


def write(folder: Path, learner: OnlineLearner, version: str, **said: Any) -> None:
    """Fill the empty folder of a version with what a learner learnt.

    Args:
        said: what the manifest says beside the rest, as JSON values; see `stream.models.manifest.Manifest`.
    """
    (folder / "model.py").write_text(MODEL)
    np.savez(folder / WEIGHTS, features=np.array(learner.features), **learner.network()._asdict())
    np.savez(folder / LEARNER, **learner.state())  # type: ignore[arg-type]
    manifest.save(
        folder,
        {
            "model": "reranker",
            "version": version,
            "task": "scores of a list's candidates from their features, softmax over the list",
            "licence": "Apache-2.0 (the weights)",
            "parameters": {
                "features": list(learner.features),
                "hidden": learner.learning.hidden,
            },
            "made_with": {"numpy": version_of("numpy")},
            **said,
            "canary": msgspec.to_builtins(canary(learner)),
        },
    )


def canary(learner: OnlineLearner) -> Canary:
    """Made-up lists with the scores that the version must give them."""
    network = learner.network()
    rows = np.random.default_rng(0).standard_normal((CANARY_LISTS, CANARY_CANDIDATES, len(learner.features)))
    lists = (network.centre + network.spread * rows).astype(np.float32).round(CANARY_DIGITS)
    return Canary(
        inputs={"FEATURES": "FP32"},
        output="SCORES",
        requests=[{"FEATURES": rows.round(CANARY_DIGITS).tolist()} for rows in lists.astype(float)],
        answers=[learner.score(rows).astype(float).round(CANARY_DIGITS).tolist() for rows in lists],
        compare="difference",
        limit=CANARY_LIMIT,
    )


def read_learner(folder: Path) -> OnlineLearner:
    """Go on from the learner of a version.

    Raises:
        ModelRefused: the version has none, or a damaged one.
    """
    try:
        with np.load(folder / LEARNER, allow_pickle=False) as arrays:
            return OnlineLearner.from_state(arrays)
    except (OSError, KeyError, ValueError) as error:
        raise ModelRefused(f"{folder / LEARNER} cannot be read: {error}") from None


def refuse_other_features(folder: Path) -> None:
    """Let only a version pass that reads the features that this code computes.

    Raises:
        ModelRefused: it reads others, or does not say which.
    """
    named = manifest.read(folder).parameters.get("features")
    if named is None:
        raise ModelRefused(f"{folder / manifest.NAME} names no features: train the version anew")
    if differs := difference(named, FEATURES):
        raise ModelRefused(
            f"{folder} reads other features than this code computes ({differs}): train one with this code, "
            "`streamrec trainer warm-up`"
        )
