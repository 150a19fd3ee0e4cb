"""What search is compared with: plain BM25, and the reciprocal rank fusion of two systems."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RRF_K = 60
"""Cormack, Clarke and Büttcher 2009, doi:10.1145/1571941.1572114."""

RRF_HITS = 200

Scores = NDArray[np.float32]


class PlainBm25:
    """BM25 without stemming, stop words or anything else: k1 1.2, b 0.75, words of a-z and 0-9.

    Robertson and Zaragoza 2009, doi:10.1561/1500000019; the idf is Lucene's, which is never negative.
    """

    K1, B = 1.2, 0.75

    def __init__(self, texts: Sequence[str]) -> None:
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts))
        for place, text in enumerate(texts):
            counted = Counter(_plain_words(text))
            lengths[place] = counted.total()
            for word, count in counted.items():
                found[word].append((place, count))
        self._texts = len(texts)
        norms = self.K1 * (1 - self.B + self.B * lengths / max(lengths.mean(), 1e-9))
        self._weights: dict[str, tuple[NDArray[np.intp], Scores]] = {}
        for word, places in found.items():
            at, counts = np.array(places, np.intp).T
            idf = math.log(1 + (len(texts) - len(at) + 0.5) / (len(at) + 0.5))
            weight = idf * counts * (self.K1 + 1) / (counts + norms[at])
            self._weights[word] = at, weight.astype(np.float32)

    def scores(self, query: str) -> Scores:
        """Score every text, shape [texts]; 0 where no word of the query is in it."""
        scores = np.zeros(self._texts, np.float32)
        for word in _plain_words(query):
            if word in self._weights:
                at, weight = self._weights[word]
                scores[at] += weight
        return scores


def fuse_ranks(first: Scores, second: Scores) -> Scores:
    """Add 1 / (60 + rank) of the best 200 of each; what scores 0 or less has no rank."""
    fused = np.zeros(len(first), np.float32)
    for scores in (first, second):
        best = np.argsort(-scores, kind="stable")[:RRF_HITS]
        best = best[scores[best] > 0]
        fused[best] += 1.0 / (RRF_K + np.arange(1, len(best) + 1, dtype=np.float32))
    return fused


def _plain_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
