"""How often the nearest offer, by title alone, is of the same product: other shops' words for one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import served
from model_factory.evaluation import inputs, options, report
from model_factory.evaluation.inputs import Offer
from model_factory.evaluation.titles import Likeness, Scores, TfIdf, characters, plain_words
from model_factory.evaluation.vectors import Encoder
from stream.evaluation.intervals import LEVEL, RESAMPLES, Bootstrap

METRICS = {
    "accuracy_at_1": "share of offers whose nearest other offer is of the same cluster",
    "mrr_at_10": "1 / rank of the nearest offer of the same cluster, 0 beyond rank 10",
    "hit_at_10": "share of offers with one of the same cluster among the nearest ten",
}
SYSTEMS = {
    "tfidf_words": "TF-IDF over words",
    "tfidf_characters": "TF-IDF over characters",
    "published": "published encoder",
    "encoder": "encoder",
    "lexical": "lexical likeness",
    "fused": "lexical likeness + encoder",
}
REFERENCES = ("tfidf_words", "published")

ENCODER_WEIGHT = 0.15
"""What a cosine of vectors counts beside the likeness. Of 0 to 1 with an encoder tuned on other categories:
.15 is best on televisions and .3 on dishwashers; anything from .05 to .3 is within .003 of that on both."""

_CUT = 10
_BLOCK = 128


def evaluate_pairs(
    offers: Annotated[
        Path, typer.Option(help="CSV (.gz too): product_id, product_title, cluster_id, category_label.")
    ],
    encoder: options.Encoder = None,
    threads: options.Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the resamples, and of the order of ties.", min=0)] = 0,
    cache: options.Cache = None,
    json_: options.Json = None,
    markdown: options.Markdown = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy@1 with intervals into this PNG (needs matplotlib).")
    ] = None,
) -> None:
    """Measure how well the same product is found in other words: the nearest other offer by title.

    Example: model-factory evaluate pairs --offers ../shared/data/pricerunner/offers.csv.gz --json -
    """
    report.check(json_, plot)
    figures = evaluate(offers, encoder, threads, seed, cache)
    report.publish(figures, tables(figures), json_, markdown)
    if plot is not None:
        bars = {SYSTEMS[name]: system["all"]["accuracy_at_1"] for name, system in figures["systems"].items()}
        report.draw(plot, {"same product in other words": bars}, "accuracy@1")


def evaluate(
    path: Path,
    encoder_folder: Path | None = None,
    threads: int = 1,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Find the nearest other offer of each one whose cluster has another; return figures as JSON values.

    Args:
        encoder_folder: by default the highest version of the model repository.
        cache: folder of vectors, see `Encoder`.

    Raises:
        typer.BadParameter: the file or folder is not what it has to be.
    """
    left_out: Counter[str] = Counter()
    offers = in_random_order(inputs.read_offers(path, left_out), seed)
    _, clusters = np.unique([offer.cluster for offer in offers], return_inverse=True)
    queries = np.flatnonzero(np.bincount(clusters)[clusters] > 1)
    if not len(queries):
        raise typer.BadParameter(f"{path}: no two offers share a cluster_id, so there is nothing to find.")
    published = Encoder(served.PUBLISHED_ENCODER, threads, cache)
    ours = Encoder(encoder_folder or served.ENCODER, threads, cache)
    titles = [offer.title for offer in offers]
    systems = Systems(titles, published, ours)
    ranks: dict[str, NDArray[np.int64]] = {name: np.zeros(len(queries), np.int64) for name in SYSTEMS}
    own = _members(clusters)
    for start in track(range(0, len(queries), _BLOCK), "comparing", console=Console(stderr=True)):
        block = queries[start : start + _BLOCK]
        for name, scores in systems.scores(block).items():
            ranks[name][start : start + _BLOCK] = [
                rank(row, query, own[clusters[query]]) for row, query in zip(scores, block, strict=True)
            ]
    columns = {(name, metric): place for place, (name, metric) in enumerate(_pairs())}
    values = np.column_stack([_metrics(found) for found in ranks.values()])
    categories = np.array([offers[query].category for query in queries])
    bootstraps = {"all": Bootstrap(values, clusters[queries], seed)}
    for category in sorted(set(categories.tolist())):
        inside = categories == category
        bootstraps[category] = Bootstrap(values[inside], clusters[queries][inside], seed)
    return {
        "data": {
            "sha256": inputs.files_sha256(path),
            "offers": len(offers),
            "clusters": int(clusters.max()) + 1,
            "queries": len(queries),
            "queries_by_category": dict(sorted(Counter(categories.tolist()).items())),
            "left_out": {reason: count for reason, count in left_out.items() if count},
        },
        "models": {
            "published": {"folder": str(published.folder), "sha256": published.sha256},
            "encoder": {"folder": str(ours.folder), "sha256": ours.sha256},
        },
        "metrics": METRICS,
        "interval": f"percentile bootstrap over clusters, {LEVEL:.0%}, {RESAMPLES} resamples, seed {seed}; "
        "differences are paired",
        "systems": _figures(bootstraps, columns),
        **{f"against_{name}": _figures(bootstraps, columns, name) for name in REFERENCES},
    }


class Systems:
    """Every system's scores of all offers for one of them."""

    def __init__(self, titles: Sequence[str], published: Encoder, ours: Encoder) -> None:
        self._lexical: dict[str, TfIdf | Likeness] = {
            "tfidf_words": TfIdf(map(plain_words, titles)),
            "tfidf_characters": TfIdf(map(characters, titles)),
            "lexical": Likeness(titles),
        }
        distinct, self._number = np.unique(titles, return_inverse=True)  # equal titles: equal vectors
        texts = distinct.tolist()
        self._published = published.encode(texts, "titles with the published encoder")
        self._ours = (
            self._published
            if ours.sha256 == published.sha256
            else ours.encode(texts, "titles with our encoder")
        )

    def scores(self, queries: NDArray[np.intp]) -> dict[str, Scores]:
        """Score all offers for some of them, shape [queries, offers] a system; equal titles are alike."""
        scored = {name: system.scores(queries) for name, system in self._lexical.items()}
        rows = self._number[queries]
        scored["published"] = (self._published[rows] @ self._published.T)[:, self._number]
        scored["encoder"] = (self._ours[rows] @ self._ours.T)[:, self._number]
        scored["fused"] = scored["lexical"] + np.float32(ENCODER_WEIGHT) * scored["encoder"]
        return scored


def rank(scores: Scores, query: int, own: NDArray[np.intp]) -> int:
    """Return the rank, from 1, of the best offer of the query's own cluster among all others.

    Equal scores, to six digits, rank in the order of the offers.

    Args:
        own: places of the offers of the cluster, the query's too.
    """
    rounded = np.round(scores, 6)
    rounded[query] = -np.inf
    best = rounded[own].max()
    first = own[rounded[own] == best].min()
    return int((rounded > best).sum() + (rounded[:first] == best).sum()) + 1


def in_random_order(offers: Sequence[Offer], seed: int) -> list[Offer]:
    """Shuffle, so that ties favour nobody: files list the offers of a cluster one after the other.

    The order in the file makes no difference.
    """
    ordered = sorted(offers, key=lambda offer: offer.offer_id)
    return [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered))]


def tables(figures: Mapping[str, Any]) -> list[report.Table]:
    """Lay out the figures for people: all offers, and accuracy@1 by category."""
    systems, data = figures["systems"], figures["data"]
    categories = data["queries_by_category"]
    return [
        report.Table(
            f"same product in other words ({data['queries']} of {data['offers']} offers have another)",
            ("system", *METRICS, *(f"accuracy_at_1 against {name}" for name in REFERENCES)),
            [
                (
                    SYSTEMS[name],
                    *(report.written(system["all"][metric]) for metric in METRICS),
                    *(
                        report.written(figures[f"against_{other}"][name]["all"]["accuracy_at_1"], sign=True)
                        if name != other
                        else ""
                        for other in REFERENCES
                    ),
                )
                for name, system in systems.items()
            ],
        ),
        report.Table(
            "accuracy_at_1 by category",
            ("category (offers)", *(SYSTEMS[name] for name in systems)),
            [
                (
                    f"{category} ({count})",
                    *(f"{system[category]['accuracy_at_1']['value']:.3f}" for system in systems.values()),
                )
                for category, count in categories.items()
            ],
        ),
    ]


def _members(clusters: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.cumsum(np.bincount(clusters))[:-1])


def _pairs() -> Iterator[tuple[str, str]]:
    return ((name, metric) for name in SYSTEMS for metric in METRICS)


def _metrics(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    hit = ranks <= _CUT
    return np.column_stack([ranks == 1, hit / ranks, hit])


def _figures(
    bootstraps: Mapping[str, Bootstrap],
    columns: Mapping[tuple[str, str], int],
    reference: str | None = None,
) -> dict[str, Any]:
    """Return figures by system, category and metric; with a reference, differences from it."""
    figures: dict[str, Any] = {}
    for (name, metric), column in columns.items():
        for category, bootstrap in bootstraps.items():
            if name != reference:
                interval = (
                    bootstrap.difference(column, columns[reference, metric])
                    if reference
                    else bootstrap.mean(column)
                )
                figures.setdefault(name, {}).setdefault(category, {})[metric] = interval.rounded()
    return figures
