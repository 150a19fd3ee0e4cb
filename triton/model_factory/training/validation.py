"""What a training is judged by while it runs: offers and queries that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from model_factory.training.pairs import Pairs, read_pairs, read_table
from model_factory.training.texts import Numbers, Texts

QUERIES = 400
PRODUCTS = 2_000
"""At most so many are judged, drawn by a fixed seed, so that a validation stays short."""
TOP = 10
METRIC = "score"
"""The mean of what there is of `DECISIVE`; early stopping goes by it."""
DECISIVE = ("same_product_accuracy_at_1", "query_ndcg_at_10")

Embed = Callable[[Numbers], Any]


class Judged(NamedTuple):
    """What each offer or query came to for one figure, which is their mean."""

    values: NDArray[np.float64]
    groups: NDArray[np.int64]
    """Equal where they are not independent: the offers of one product."""


def keep(path: Path, judged: Mapping[str, Judged]) -> None:
    """Write what was judged, so that runs can be compared offer by offer and query by query."""
    np.savez(
        path,
        **{f"{part}/{name}": each for name, one in judged.items() for part, each in one._asdict().items()},
    )


def kept(path: Path) -> dict[str, Judged]:
    """Read what `keep` wrote."""
    with np.load(path, allow_pickle=False) as file:
        names = [name.removeprefix("values/") for name in file.files if name.startswith("values/")]
        return {name: Judged(file[f"values/{name}"], file[f"groups/{name}"]) for name in names}


def means(judged: Mapping[str, Judged]) -> dict[str, float]:
    """Return the figures, and the one that early stopping goes by."""
    figures = {name: float(one.values.mean()) for name, one in judged.items()}
    decisive = [figures[name] for name in DECISIVE if name in figures]
    return {METRIC: sum(decisive) / len(decisive), **figures}


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
        return means(self.judge(embed))

    def judge(self, embed: Embed) -> dict[str, Judged]:
        """Return what the figures are means of, by their names."""
        judged: dict[str, Judged] = {}
        if self._findable.any():
            judged["same_product_accuracy_at_1"] = Judged(
                self._same_product(embed), self._clusters[self._findable]
            )
        if self._queries is not None:
            for name, values in self._search(embed, *self._queries).items():
                judged[name] = Judged(values, np.arange(len(values)))
        return judged

    def _same_product(self, embed: Embed) -> NDArray[np.float64]:
        vectors = embed(self._offers)
        right = np.zeros(len(vectors))
        for start in range(0, len(vectors), 512):
            similar = vectors[start : start + 512] @ vectors.T
            rows = range(len(similar))
            similar[rows, range(start, start + len(similar))] = -2.0
            nearest = similar.argmax(dim=1).cpu().numpy()
            own = slice(start, start + len(similar))
            right[own] = self._clusters[nearest] == self._clusters[own]
        return right[self._findable]

    def _search(
        self, embed: Embed, queries: Numbers, products: Numbers, belong: Any
    ) -> dict[str, NDArray[np.float64]]:
        similar = (embed(queries) @ embed(products).T).cpu().numpy()
        order = np.argsort(-similar, axis=1, kind="stable")[:, :TOP]
        gains = np.take_along_axis(belong, order, axis=1)
        discounts = 1 / np.log2(np.arange(2, TOP + 2))[: order.shape[1]]
        possible = np.minimum(belong.sum(axis=1), order.shape[1])
        ideal = np.array([discounts[:count].sum() for count in possible])
        return {
            "query_ndcg_at_10": (gains * discounts).sum(axis=1) / ideal,
            "query_recall_at_10": gains.sum(axis=1) / possible,
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
