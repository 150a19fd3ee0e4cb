"""What is said of lists: how often they hold the next item, and how they spread over the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.items import FloatArray

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]


def hits(ranks: Ranks, at: int) -> Floats:
    """Whether each list has its right item in the first places: 1 or 0; the mean is the hit rate HR@at.

    Args:
        ranks: place of the right item from 1, 0 where the list does not hold it.
    """
    return ((ranks > 0) & (ranks <= at)).astype(np.float64)


def reciprocal_ranks(ranks: Ranks, at: int) -> Floats:
    """1 / place of the right item, 0 beyond `at`; the mean is MRR@at.

    Voorhees, The TREC-8 Question Answering Track Report (1999).
    """
    return np.where(hits(ranks, at) > 0, 1.0 / np.maximum(ranks, 1), 0.0)


def gains(ranks: Ranks, at: int) -> Floats:
    """1 / log2(place + 1) of the one right item, 0 beyond `at`; the mean is NDCG@at, the ideal gain being 1.

    Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, ACM TOIS 20 (2002).
    """
    return np.where(hits(ranks, at) > 0, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)


def coverage(shown: Iterable[int], catalogue: int) -> float:
    """Share of the catalogue that any list showed.

    Ge, Delgado-Battenfeld and Jannach, Beyond Accuracy, RecSys 2010 ("catalog coverage").

    Args:
        shown: how often each item that was shown was.
        catalogue: how many items there are.
    """
    return sum(count > 0 for count in shown) / catalogue if catalogue else 0.0


def gini(shown: Iterable[int], catalogue: int) -> float:
    """How unequally lists show the items: 0 where all alike, towards 1 where one alone.

    The Gini index over all items of the catalogue, those never shown included; as in Fleder and Hosanagar,
    Blockbuster Culture's Next Rise or Fall, Management Science 55 (2009).
    """
    counts = np.sort(np.array([count for count in shown if count > 0], np.float64))
    total = counts.sum()
    if not total or not catalogue:
        return 0.0
    places = np.arange(catalogue - len(counts) + 1, catalogue + 1)
    return float((2 * places - catalogue - 1) @ counts / (catalogue * total))


def surprise(holding: int, sessions: int) -> float:
    """How unexpected an item is, in bits: -log2 of the share of the sessions so far that held it.

    Self-information, as in Zhou et al., Solving the apparent diversity-accuracy dilemma, PNAS 107 (2010);
    both counts are one larger, so that a new item has a finite one. Its mean over a list is its novelty.
    """
    return float(np.log2((sessions + 1) / (holding + 1)))


def intra_list_diversity(vectors: FloatArray) -> float:
    """Mean of 1 - cosine over all pairs of a list's items; NaN where fewer than two have a vector.

    Ziegler, McNee, Konstan and Lausen, Improving Recommendation Lists Through Topic Diversification,
    WWW 2005; Zhang and Hurley, Avoiding Monotony, RecSys 2008.

    Args:
        vectors: [n, dimensions], of length 1 each; rows of zeros are items without a vector.
    """
    known = vectors[np.any(vectors, axis=1)].astype(np.float64)
    if len(known) < 2:
        return float("nan")
    total = known.sum(axis=0)
    same = float(np.einsum("ij,ij->", known, known))
    return 1.0 - (float(total @ total) - same) / (len(known) * (len(known) - 1))


def mean(values: NDArray[Any]) -> float | None:
    """The mean of what is known, rounded to four places; None where nothing is."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return round(float(known.mean()), 4) if len(known) else None
