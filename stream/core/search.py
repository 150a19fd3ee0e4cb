"""Hybrid search: what the words say and what the vectors say, in one score.

Measured on the Icecat judgements by `model-factory evaluate search`, with the classes that serve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.items import FloatArray

LEXICAL_WEIGHT = 0.15
"""What the best lexical hit adds to a cosine. Of 0 to .5: less ranks the whole Icecat catalogue worse, more
the judged products."""

NEIGHBOURS, NEIGHBOURS_SHARE = 20, 0.5
"""How many found products close to a found one have a say in its match, and how much. Of 5 to 30 neighbours
and a share of .3 or .5, all gain on the judged Icecat products."""

CROSS_BEST = 10
"""How many of the best matches of a search the cross-encoder reads; each costs milliseconds of a core."""

CROSS_WEIGHT = 0.05
"""What a pair's score of 0..1 adds to a match, beside the mean of those scored.

Scored by models that had not seen the query, best 10, on the Icecat judgements (86 queries, nDCG@10 of judged
products / whole catalogue, 95 % intervals of the paired difference to the matches with their neighbours' say,
encoder 2): .05 loses -.004 [-.010, .001] / -.003 [-.011, .004], .1 -.009 [-.016, -.003] / -.005. So, by
default, no list asks for it (`triton.cross_encoder_best`).
"""


def relative(bm25: FloatArray) -> FloatArray:
    """Divide BM25 scores by the best of the query, into [0, 1]; all 0 where nothing matched."""
    best = float(bm25.max(initial=0.0))
    return bm25 / best if best > 0.0 else np.zeros_like(bm25)


def match(cosine: FloatArray, relative_bm25: FloatArray) -> FloatArray:
    """Fuse aligned scores of the union of lexical and vector hits: cosine + .15 * BM25 / max BM25.

    Args:
        cosine: of query and item vectors, 0 where there is no vector.
        relative_bm25: from `relative`, 0 where the item is no lexical hit.
    """
    fused: FloatArray = cosine + np.float32(LEXICAL_WEIGHT) * relative_bm25
    return fused


def regularised(matches: FloatArray, vectors: FloatArray) -> FloatArray:
    """Let similar products match similarly: half the own match, half the mean of the 20 nearest found.

    Score regularisation over what a query found (Diaz 2005, doi:10.1145/1099554.1099722). It lifts products
    of the kind that the query asks for over single ones that happen to share its words.

    Args:
        matches: of the found products [n].
        vectors: theirs, zero where there is none [n, 384].
    """
    count = min(NEIGHBOURS, len(matches) - 1)
    if count < 1:
        return matches
    near = vectors @ vectors.T
    np.fill_diagonal(near, -2.0)  # not itself
    nearest = np.argpartition(-near, count - 1, axis=1)[:, :count]
    smooth: FloatArray = np.float32(1 - NEIGHBOURS_SHARE) * matches + np.float32(NEIGHBOURS_SHARE) * matches[
        nearest
    ].mean(axis=1)
    return smooth


def best_matches(matches: FloatArray, limit: int = CROSS_BEST) -> NDArray[np.intp]:
    """The positions of the best matches, best first: what the cross-encoder is asked about."""
    return np.argsort(-matches, kind="stable")[:limit]


def refined(matches: FloatArray, scored: NDArray[np.intp], scores: FloatArray) -> FloatArray:
    """Sharpen matches by what the cross-encoder says: match + weight * (score - mean of the scored).

    Beside the mean, so that those scored do not rise or fall as a whole against all others.

    Args:
        scored: positions in `matches`.
        scores: of those positions, 0..1.
    """
    sharper = matches.copy()
    if len(scored):
        sharper[scored] += np.float32(CROSS_WEIGHT) * (scores - scores.mean())
    return sharper
