"""From candidates to a list: feature rows, scores, and the choice of the best with diversity.

The features are what the `reranker` in Triton reads and what `blended` weighs linearly where it cannot be
asked; both sets of weights come out of one training (`model-factory train reranker`), on lists that this
very code made.

How a search enters: the training data has no queries, so no weight can be trained for it, and none is
invented. Scores of both models are trained as logits of "this item is next" by softmax cross-entropy, so
they are log p(item | shopper) up to a constant; the encoder was trained with a softmax over 20 times the
cosine (sentence-transformers' MultipleNegativesRankingLoss, scale 20), so 20 times the match is
log p(query | item) up to a constant. Their sum is log p(item | shopper, query) where query and shopper are
independent given the item. The match is `cosine + .15 * BM25 / max BM25`, as in `stream.core.search`. A
search ages as an item of the session does: every distinct item touched after it takes its weight
times `SESSION_RECENCY`. While nothing was touched since, what does not match only fills up.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from stream.core import blend
from stream.core.candidates import (
    BACKWARD,
    RECENCY,
    SESSION_RECENCY,
    SHRINK,
    Candidates,
    Context,
    query_age,
)
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS, Policy
from stream.core.search import match
from stream.core.signals import popularity_at

FEATURES = (
    "covisit_log",
    "covisit_ratio",
    "next_log",
    "next_ratio",
    "forward_log",
    "forward_ratio",
    "backward_log",
    "backward_ratio",
    "lift_log",
    "support",
    "profile_log",
    "profile_ratio",
    "bought",
    "bought_age",
    "touched_age",
    "touches",
    "transition_log",
    "transition_ratio",
    "popularity_1",
    "popularity_10",
    "popularity_30",
    "popularity_120",
    "trend",
    "similarity_last",
    "similarity_best",
    "similarity_session",
    "similarity_taste",
    "session_items",
    "history_items",
)
"""Names of the columns of `features`, in order."""

QUERY_SCALE = 20.0
"""The scale of the encoder's training objective: what turns a cosine into a logit."""
CLIP = 10.0
"""A standardised feature counts at most this much, so that odd inputs give no odd scores."""
_COSINE_FLOOR = np.float32(1e-4)
_LIFT_FLOOR = np.float32(1e-6)

_computed: WeakKeyDictionary[Candidates, FloatArray] = WeakKeyDictionary()


def features(context: Context, candidates: Candidates) -> FloatArray:
    """Compute the feature rows [N, len(FEATURES)] of the candidates; always finite.

    They are computed once for the same candidates, since ranking and explaining both need them.
    """
    table = _computed.get(candidates)
    if table is None:
        table = _computed[candidates] = _features(context, candidates)
    return table


def standardised(table: FloatArray) -> FloatArray:
    """Feature rows as the linear weights want them, each column centred, scaled and clipped."""
    scaled: FloatArray = np.clip((table - blend.CENTRE) / blend.SPREAD, -CLIP, CLIP)
    return scaled


def blended(context: Context, candidates: Candidates) -> FloatArray:
    """Score candidates [N] by the linear weights, where the reranker cannot be asked."""
    scores: FloatArray = standardised(features(context, candidates)) @ blend.WEIGHTS
    return scores


def query_score(context: Context, candidates: Candidates) -> FloatArray:
    """What a search adds to the score of each candidate [N]; zero where there is none."""
    if context.query is None:
        return np.zeros(len(candidates), np.float32)
    weight = QUERY_SCALE * SESSION_RECENCY ** query_age(context.state, context.query)
    return np.float32(weight) * match(candidates.cosine_query, candidates.bm25)


def select(
    context: Context, candidates: Candidates, scores: FloatArray, policy: Policy
) -> list[tuple[int, float]]:
    """Choose the list: the best by score, at most `policy.max_per_category` of one category.

    Where the newest thing a shopper did is a search, what does not match it only fills up; items seen in the
    session come last of all. Scores that are not finite count as the least.

    Returns:
        Positions in `candidates` with their final scores, which never grow along the list.
    """
    if not len(candidates):
        return []
    final = np.asarray(scores, np.float64) + query_score(context, candidates)
    finite = np.isfinite(final)
    final = np.where(finite, final, final[finite].min(initial=0.0) - 1.0)
    tier = 2 * candidates.seen
    if context.query is not None and not query_age(context.state, context.query):
        tier = tier + ~candidates.by("search")
    final -= tier * (float(np.ptp(final)) + 1.0)
    categories = context.items.category[candidates.slots]
    used: dict[int, int] = {}
    chosen: list[tuple[int, float]] = []
    for position in np.argsort(-final, kind="stable").tolist():
        category = int(categories[position])
        if category:
            if used.get(category, 0) >= policy.max_per_category:
                continue
            used[category] = used.get(category, 0) + 1
        chosen.append((position, float(final[position])))
        if len(chosen) == policy.list_length:
            break
    return chosen


def _features(context: Context, candidates: Candidates) -> FloatArray:
    count = len(candidates)
    rows = candidates.session_rows
    popularity = popularity_at(context.popularity[candidates.slots], context.at_ms)
    column = 1.0 / np.sqrt(popularity[:, 3] + np.float32(SHRINK))
    row = 1.0 / np.sqrt(candidates.row_popularity + np.float32(SHRINK))
    ages = np.arange(rows, dtype=np.float32)
    recent = np.float32(RECENCY) ** ages
    steady = np.float32(SESSION_RECENCY) ** ages
    forward, backward = candidates.forward * row[:, None], candidates.backward * row[:, None]
    forward *= column
    backward *= column
    both = forward + np.float32(BACKWARD) * backward
    table = np.zeros((len(FEATURES), count), np.float32)
    at = {name: table[place] for place, name in enumerate(FEATURES)}
    if rows:
        _log_and_ratio(recent @ both[:rows], at["covisit_log"], at["covisit_ratio"])
        _log_and_ratio(forward[0], at["next_log"], at["next_ratio"])
        _log_and_ratio(steady @ forward[:rows], at["forward_log"], at["forward_ratio"])
        _log_and_ratio(recent @ backward[:rows], at["backward_log"], at["backward_ratio"])
        at["lift_log"][:] = np.log(((recent * row[:rows]) @ both[:rows]) * column + _LIFT_FLOOR)
        at["support"][:] = (both[:rows] > 0).sum(axis=0) / rows
        at["similarity_last"][:] = candidates.cosine_rows[0]
        at["similarity_best"][:] = candidates.cosine_rows.max(axis=0)
    if len(row) > rows:
        _log_and_ratio(both[rows:].sum(axis=0), at["profile_log"], at["profile_ratio"])
    at["bought"][:] = candidates.bought_ms > 0
    at["bought_age"][:] = _age(context.at_ms, candidates.bought_ms)
    at["touched_age"][:] = _age(context.at_ms, candidates.touched_ms)
    at["touches"][:] = np.log1p(candidates.touches)
    at["transition_log"][:] = np.log1p(candidates.transition)
    at["transition_ratio"][:] = candidates.transition / max(candidates.transition.max(initial=0.0), 1e-9)
    levels = np.log1p(popularity.T)
    first = FEATURES.index("popularity_1")
    table[first : first + len(levels)] = levels - levels.max(axis=1, initial=0.0, keepdims=True)
    at["trend"][:] = np.log((popularity[:, 1] + 1.0) / (popularity[:, 3] + np.float32(SHRINK)))
    at["similarity_session"][:] = candidates.cosine_session
    at["similarity_taste"][:] = candidates.cosine_taste
    at["session_items"][:] = np.log1p(rows)
    at["history_items"][:] = np.log1p((candidates.touched_ms > 0).sum())
    return np.ascontiguousarray(table.T)


def _log_and_ratio(values: FloatArray, log: FloatArray, ratio: FloatArray | None = None) -> None:
    np.log(values + _COSINE_FLOOR, out=log)
    if ratio is not None:
        np.divide(values, max(float(values.max(initial=0.0)), 1e-9), out=ratio)


def _age(at_ms: int, then_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    days = np.maximum(at_ms - then_ms, 0) / DAY_MS
    return np.where(then_ms > 0, np.log1p(days), 0.0)
