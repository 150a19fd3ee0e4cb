"""Find texts that say the same, by MinHash with locality-sensitive hashing (`datasketch`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from model_factory.preparation.wording import telling, terms

PERMUTATIONS = 64
CLUSTER_SIMILARITY = 0.8
"""Jaccard similarity, of words and pairs of words, from which two texts belong to one cluster."""


def near_clusters(
    texts: Sequence[str], seed: int, progress: Callable[[int], None] | None = None
) -> list[int]:
    """Return for each text the number of its cluster; a chain of near duplicates is one cluster.

    Args:
        progress: is told after each text how many are done.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=CLUSTER_SIMILARITY, num_perm=PERMUTATIONS)
    parents = list(range(len(texts)))
    contents = [_shingles(text) for text in texts]
    blank = MinHash(num_perm=PERMUTATIONS, seed=seed)
    for place, shingles in enumerate(contents):
        minhash = blank.copy()
        minhash.update_batch([shingle.encode() for shingle in shingles])
        for other in index.query(minhash):
            if jaccard(shingles, contents[other]) >= CLUSTER_SIMILARITY:
                parents[_root(parents, place)] = _root(parents, other)
        index.insert(place, minhash)
        if progress is not None:
            progress(place + 1)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(_root(parents, place), len(numbers)) for place in range(len(texts))]


def repeated(texts: Sequence[str], clusters: Sequence[int]) -> dict[int, int]:
    """Return the places of texts that say what an earlier one of their cluster says, with its place.

    They differ in punctuation, order, plural and fillers only: one more number or colour is another product.
    """
    first: dict[tuple[int, frozenset[str]], int] = {}
    copies: dict[int, int] = {}
    for place, (text, cluster) in enumerate(zip(texts, clusters, strict=True)):
        original = first.setdefault((cluster, telling(text)), place)
        if original != place:
            copies[place] = original
    return copies


def jaccard(left: set[str], right: set[str]) -> float:
    """Share of common members; 1 for two empty sets."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def _shingles(text: str) -> set[str]:
    found = terms(text)
    return {*found, *(f"{left} {right}" for left, right in itertools.pairwise(found))} or {text}


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place
