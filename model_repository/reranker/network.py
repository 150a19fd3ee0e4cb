"""Features of candidates to scores: one hidden layer and a straight linear path, in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0
"""A standardised feature counts at most this much, so that odd inputs give no odd scores."""

Floats = NDArray[np.float32]


class Network(NamedTuple):
    """Weights for F features and H hidden units.

    `features` names the columns that the weights belong to, in order. `centre` and `spread` [F] standardise
    them; `hidden` [F, H], `bias` [H] and `output` [H] are the hidden layer (ReLU), `linear` [F] the path
    around it.
    """

    features: tuple[str, ...]
    centre: Floats
    spread: Floats
    hidden: Floats
    bias: Floats
    output: Floats
    linear: Floats

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read weights from an `.npz` file with one array for each field.

        Raises:
            ValueError: it names another number of features than it has weights for.
        """
        with np.load(path, allow_pickle=False) as arrays:
            features = tuple(map(str, arrays["features"]))
            network = cls(features, *(arrays[name].astype(np.float32) for name in cls._fields[1:]))
        if any(len(part) != len(features) for part in (network.centre, network.spread, network.linear)):
            raise ValueError(f"{path} names {len(features)} features, has weights of {len(network.linear)}")
        return network

    def save(self, path: Path) -> None:
        """Write weights so that `load` reads them."""
        np.savez(path, **self._asdict())

    def score(self, features: Floats) -> Floats:
        """Score rows: finite features [n, F] to finite scores [n], higher is better."""
        with np.errstate(over="ignore"):
            scaled = features - self.centre
            scaled /= self.spread
        np.maximum(scaled, -CLIP, out=scaled)
        np.minimum(scaled, CLIP, out=scaled)
        active = scaled @ self.hidden
        active += self.bias
        np.maximum(active, 0.0, out=active)
        scores: Floats = active @ self.output + scaled @ self.linear
        return scores
