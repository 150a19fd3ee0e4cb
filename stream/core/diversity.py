"""Reorder the best of a list's candidates so that it does not show the same thing over and over.

Both methods weigh an item's score, which is a logarithm of probability, against how much like the items
chosen before it is, in the same unit:

- `mmr`, maximal marginal relevance (Carbonell, Goldstein, "The use of MMR, diversity-based reranking for
  reordering documents and producing summaries", SIGIR 1998): (1 - strength) * score - strength * greatest
  likeness to a chosen item.
- `dpp`, a determinantal point process: (1 - strength) * score + strength * log of the volume the item adds
  to that of the chosen ones, greedily, with incremental Cholesky factors (Chen, Zhang, Zhou, "Fast greedy
  MAP inference for determinantal point process to improve recommendation diversity", NeurIPS 2018).

With `strength` 0 the order stays, with 0.5 the copy of a chosen item loses 1 (`mmr`), a factor of e of its
probability; with 1 only likeness counts. What an item gains never grows along the list.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream.core.items import BoolArray, FloatArray, IntArray

Method = Literal["mmr", "dpp"]

WINDOW = 60
"""Of a list's candidates only the best this many may move up."""
SAME_CATEGORY = 0.5
"""How like two items of one category are taken to be where a vector of theirs is missing."""
_LEAST_VOLUME = 1e-6
"""Of what adds nothing, such as a copy: its logarithm is still a number."""


def likeness(vectors: FloatArray, known: BoolArray, categories: IntArray) -> NDArray[np.float64]:
    """How like items are [n, n]: the cosine, or one category (`SAME_CATEGORY`) where a vector is missing.

    Args:
        vectors: [n, dimensions], L2-normalised.
        known: which of them [n] are known.
        categories: number of each item's category [n], 0 for none.
    """
    like: NDArray[np.float64] = (vectors @ vectors.T).astype(np.float64)
    if not known.all():
        same = (categories[:, None] == categories) & (categories > 0)
        like = np.where(known[:, None] & known, like, SAME_CATEGORY * same)
    np.fill_diagonal(like, 1.0)
    return like


def diversified(
    scores: NDArray[np.float64],
    like: NDArray[np.float64],
    length: int,
    strength: float,
    method: Method = "mmr",
) -> NDArray[np.intp]:
    """Choose greedily `length` of n items that come best first; the others follow in their old order.

    Args:
        scores: of each item [n], finite, never growing.
        like: how like the items are [n, n], see `likeness`.
        strength: 0 to 1, what likeness counts beside the score.

    Returns:
        A permutation of the places 0 to n - 1; the first item always stays first.
    """
    count = len(scores)
    if strength <= 0.0 or count < 3 or length < 2:
        return np.arange(count)
    worth = (1.0 - strength) * scores
    greedy = _mmr if method == "mmr" else _dpp
    chosen = np.array(greedy(worth, like, min(length, count), strength), np.intp)
    rest = np.ones(count, np.bool_)
    rest[chosen] = False
    return np.concatenate([chosen, np.flatnonzero(rest)])


def _mmr(worth: NDArray[np.float64], like: NDArray[np.float64], length: int, strength: float) -> list[int]:
    beside = worth - strength * like  # of each item, beside each of the chosen
    left = worth.copy()
    chosen = [0]
    for _ in range(length - 1):
        last = chosen[-1]
        np.minimum(left, beside[last], out=left)
        left[last] = -np.inf
        chosen.append(int(left.argmax()))
    return chosen


def _dpp(worth: NDArray[np.float64], like: NDArray[np.float64], length: int, strength: float) -> list[int]:
    factors = np.zeros((length, len(worth)))
    volume = np.ones(len(worth))
    chosen: list[int] = []
    best = 0
    for place in range(length):
        chosen.append(best)
        worth[best] = -np.inf
        if volume[best] > _LEAST_VOLUME:
            factor = (like[best] - factors[:place, best] @ factors[:place]) / np.sqrt(volume[best])
            factors[place] = factor
            volume = np.maximum(volume - factor * factor, _LEAST_VOLUME)
        best = int((worth + strength * np.log(volume)).argmax())
    return chosen
