"""What a training is judged by while it runs: offers and queries that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from model_factory.training.pairs import Pairs, read_pairs, read_table
from model_factory.training.texts import Numbers, Texts

QUERIES = 400
PRODUCTS = 2_000
"""At most so many are judged, drawn by a fixed seed, so that a validation stays short."""
TOP = 10
METRIC = "score"
"""The mean of what there is of accuracy and nDCG; early stopping goes by it."""

Embed = Callable[[Numbers], Any]


class Judge:
    """Measures an encoder on the split `validation` of prepared data.

    `same_product_accuracy_at_1`: share of offers whose nearest other offer is of the same product, among
    those that have one. `query_ndcg_at_10`, `query_recall_at_10`: of the products that prepared queries
    belong to, each with gain 1, among the products of all of them.
    """

    def __init__(self, data: Path, texts: Texts) -> None:
        offers = read_table(data, "offers", "validation", ("title", "cluster"))
        self._offers = texts.add(offers["title"])
        self._clusters = np.unique(np.array(offers["cluster"], dtype=str), return_inverse=True)[1]
        sizes = np.bincount(self._clusters) if len(self._clusters) else np.zeros(0, np.int64)
        self._findable = sizes[self._clusters] > 1 if len(sizes) else np.zeros(0, bool)
        self._queries = _some(read_pairs(data, "validation", texts).get("query"))
        if not self._findable.any() and self._queries is None:
            raise typer.BadParameter(
                f"{data} has no offers and no query pairs of the split validation to judge by: "
                "prepare data with more offers or products."
            )

    def measure(self, embed: Embed) -> dict[str, float]:
        """Return the figures of the encoder that `embed` calls."""
        figures: dict[str, float] = {}
        if self._findable.any():
            figures["same_product_accuracy_at_1"] = self._same_product(embed)
        if self._queries is not None:
            figures |= self._search(embed, *self._queries)
        judged = [
            figures[name] for name in ("same_product_accuracy_at_1", "query_ndcg_at_10") if name in figures
        ]
        return {METRIC: sum(judged) / len(judged), **figures}

    def _same_product(self, embed: Embed) -> float:
        vectors = embed(self._offers)
        right = 0
        for start in range(0, len(vectors), 512):
            similar = vectors[start : start + 512] @ vectors.T
            rows = range(len(similar))
            similar[rows, range(start, start + len(similar))] = -2.0
            nearest = similar.argmax(dim=1).cpu().numpy()
            own = slice(start, start + len(similar))
            right += int(((self._clusters[nearest] == self._clusters[own]) & self._findable[own]).sum())
        return right / int(self._findable.sum())

    def _search(self, embed: Embed, queries: Numbers, products: Numbers, belong: Any) -> dict[str, float]:
        similar = (embed(queries) @ embed(products).T).cpu().numpy()
        order = np.argsort(-similar, axis=1, kind="stable")[:, :TOP]
        gains = np.take_along_axis(belong, order, axis=1)
        discounts = 1 / np.log2(np.arange(2, TOP + 2))[: order.shape[1]]
        possible = np.minimum(belong.sum(axis=1), order.shape[1])
        ideal = np.array([discounts[:count].sum() for count in possible])
        return {
            "query_ndcg_at_10": float(((gains * discounts).sum(axis=1) / ideal).mean()),
            "query_recall_at_10": float((gains.sum(axis=1) / possible).mean()),
        }


def _some(pairs: Pairs | None) -> tuple[Numbers, Numbers, Any] | None:
    """Choose queries and products to judge by: queries, products, and which belong together."""
    if pairs is None or not len(pairs.anchors):
        return None
    groups, first = np.unique(pairs.groups, return_index=True)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(groups))[:QUERIES]
    groups, queries = groups[chosen], pairs.anchors[first[chosen]]
    rows = np.flatnonzero(np.isin(pairs.groups, groups))
    right = np.unique(pairs.positives[rows])
    others = np.unique(np.concatenate([pairs.positives, *pairs.negatives]))
    others = rng.permutation(np.setdiff1d(others, right))[: max(0, PRODUCTS - len(right))]
    products = np.concatenate([right, others])
    return queries, products, pairs.belong(groups, products)
