"""From candidates to a list: feature rows, scores, and the choice of the best with diversity.

The features are what the `reranker` in Triton reads and what `blended` weighs linearly where it cannot be
asked; both sets of weights are learnt beside each other (`stream.core.learning`), from lists that this
very code made.

How a search enters: the training data has no queries, so no weight can be trained for it, and none is
invented. Scores of both models are trained as logits of "this item is next" by softmax cross-entropy, so
they are log p(item | shopper) up to a constant; the encoder was trained with a softmax over 20 times the
cosine (sentence-transformers' MultipleNegativesRankingLoss, scale 20), so 20 times the match is
log p(query | item) up to a constant. Their sum is log p(item | shopper, query) where query and shopper are
independent given the item. The match is `cosine + .15 * BM25 / max BM25`, regularised by neighbours and
refined where the cross-encoder read the item, as in `stream.core.search`. A search ages as an item of the
session does: every distinct item touched after it takes its weight times `SESSION_RECENCY`. While nothing
was touched since, what does not match only fills up.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from stream.core import blend
from stream.core.candidates import Candidates
from stream.core.context import SESSION_RECENCY, Context, query_age
from stream.core.features import FEATURES as FEATURES
from stream.core.features import compute
from stream.core.items import FloatArray
from stream.core.search import best_matches, match, refined, regularised

QUERY_SCALE = 20.0
"""The scale of the encoder's training objective: what turns a cosine into a logit."""
CLIP = 10.0
"""A standardised feature counts at most this much, so that odd inputs give no odd scores."""
_computed: WeakKeyDictionary[Candidates, FloatArray] = WeakKeyDictionary()
_matched: WeakKeyDictionary[Candidates, FloatArray] = WeakKeyDictionary()


def features(context: Context, candidates: Candidates) -> FloatArray:
    """Compute the feature rows [N, len(FEATURES)] of the candidates; always finite.

    They are computed once for the same candidates, since ranking and explaining both need them.
    """
    table = _computed.get(candidates)
    if table is None:
        table = _computed[candidates] = compute(context, candidates)
    return table


def standardised(table: FloatArray) -> FloatArray:
    """Feature rows as the linear weights want them, each column centred, scaled and clipped."""
    scaled: FloatArray = table - blend.CENTRE
    scaled /= blend.SPREAD
    np.minimum(scaled, CLIP, out=scaled)
    return np.maximum(scaled, -CLIP, out=scaled)


def linear(table: FloatArray) -> FloatArray:
    """Score feature rows [N, len(FEATURES)] by the linear weights: [N]."""
    scores: FloatArray = standardised(table) @ blend.WEIGHTS
    return scores


def blended(context: Context, candidates: Candidates) -> FloatArray:
    """Score candidates [N] by the linear weights, where the reranker cannot be asked."""
    return linear(features(context, candidates))


def query_score(context: Context, candidates: Candidates) -> FloatArray:
    """What a search adds to the score of each candidate [N]; zero where there is none."""
    if context.query is None:
        return np.zeros(len(candidates), np.float32)
    weight = QUERY_SCALE * SESSION_RECENCY ** query_age(context.state, context.query)
    read = np.searchsorted(candidates.slots, context.read.slots)
    return np.float32(weight) * refined(_matches(context, candidates), read, context.read.scores)


def to_read(context: Context, candidates: Candidates, limit: int) -> NDArray[np.intp]:
    """The positions of a search's best matches, which the cross-encoder is asked to read; best first."""
    if context.query is None:
        return np.zeros(0, np.intp)
    found = np.flatnonzero(candidates.by("search"))
    return found[best_matches(_matches(context, candidates)[found], limit)]


def tiers(context: Context, candidates: Candidates) -> NDArray[np.int64]:
    """Which candidates [N] come before which others, whatever their scores: 0 first.

    Where the newest thing a shopper did is a search, what does not match it only fills up; items seen in the
    session come last of all.
    """
    tier = 2 * candidates.seen.astype(np.int64)
    if context.query is not None and not query_age(context.state, context.query):
        tier += ~candidates.by("search")
    return tier


def final_scores(context: Context, candidates: Candidates, scores: FloatArray) -> NDArray[np.float64]:
    """What each candidate [N] counts in the list; always finite, and less in each further tier.

    Scores that are not finite count as the least.
    """
    final = np.asarray(scores, np.float64) + query_score(context, candidates)
    finite = np.isfinite(final)
    if not finite.all():
        final[~finite] = final[finite].min(initial=0.0) - 1.0
    tier = tiers(context, candidates)
    if tier.any():
        final -= tier * (float(np.ptp(final)) + 1.0)
    return final


def _matches(context: Context, candidates: Candidates) -> FloatArray:
    """How well each candidate [N] matches the search; computed once for the same candidates."""
    matches = _matched.get(candidates)
    if matches is None:
        matches = match(candidates.cosine_query, candidates.bm25)
        found = np.flatnonzero(candidates.by("search"))
        matches[found] = regularised(matches[found], context.space.vectors[candidates.slots[found]])
        _matched[candidates] = matches
    return matches
