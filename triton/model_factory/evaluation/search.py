"""How well product search finds what people judged relevant, with the classes that serve it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import served
from model_factory.evaluation import inputs, options, report
from model_factory.evaluation.baselines import PlainBm25, Scores, fuse_ranks
from model_factory.evaluation.inputs import Product
from model_factory.evaluation.vectors import MAX_CHARS, Encoder, model_sha256, refusing
from stream.adapters.lexical_index import LexicalIndex
from stream.core.disguise import clean_query
from stream.core.search import best_matches, match, refined, regularised, relative
from stream.core.spelling import Vocabulary
from stream.evaluation.intervals import LEVEL, RESAMPLES, Bootstrap
from stream.lists.list_context import LEXICAL, NEAREST

METRICS = {
    "ndcg_at_10": "gain 2^grade - 1, discount log2(rank + 1)",
    "mrr": "1 / rank of the first product with a grade above 0",
    "recall_at_100": "share of the products with a grade above 0 that are among the first 100",
}
SCOPES = {
    "judged": "the judged products of a query are ranked",
    "catalogue": "all products are ranked; one that was not judged counts as grade 0",
}
SYSTEMS = {
    "bm25": "BM25",
    "lexical_index": "the engine's lexical index",
    "published": "published encoder",
    "rrf": "RRF of BM25 and published encoder",
    "encoder": "encoder",
    "hybrid": "hybrid",
    "hybrid_cross_encoder": "hybrid + cross-encoder",
}
REFERENCES = ("published", "bm25")
CUT, DEEP = 10, 100

Places = NDArray[np.intp]
Grades = NDArray[np.float64]


class Judged(NamedTuple):
    """The judged products of a query: their places in the catalogue, in its order, and their grades."""

    places: Places
    grades: Grades


class Scored(NamedTuple):
    """Scores of the judged products, aligned with them, and of all products; -inf: not found at all."""

    judged: Scores
    catalogue: Scores


def evaluate_search(
    products: options.Products,
    qrels: options.Qrels,
    encoder: options.Encoder = None,
    cross_encoder: options.CrossEncoder = None,
    threads: options.Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
    cache: options.Cache = None,
    json_: options.Json = None,
    markdown: options.Markdown = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw nDCG@10 with intervals into this PNG (needs matplotlib).")
    ] = None,
) -> None:
    """Measure search on human judgements: nDCG@10, MRR and recall@100 of seven systems, with intervals.

    Example: model-factory evaluate search --products ../shared/data/icecat/products.jsonl.gz
    --qrels ../shared/data/icecat/qrels.csv --json -
    """
    report.check(json_, plot)
    figures = evaluate(products, qrels, encoder, threads, cross_encoder, seed=seed, cache=cache)
    report.publish(figures, tables(figures), json_, markdown)
    if plot is not None:
        bars = {
            scope: {SYSTEMS[name]: system[scope]["ndcg_at_10"] for name, system in figures["systems"].items()}
            for scope in SCOPES
        }
        report.draw(plot, bars, "nDCG@10")


def evaluate(
    products_path: Path,
    qrels_path: Path,
    encoder_folder: Path | None = None,
    threads: int = 1,
    cross_encoder_folder: Path | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Score every system on every query that has a relevant product; return the figures as JSON values.

    Args:
        encoder_folder, cross_encoder_folder: by default the highest version of the model repository.
        cache: folder of vectors, see `Encoder`.

    Raises:
        typer.BadParameter: a file or folder is not what it has to be.
    """
    left_out: Counter[str] = Counter()
    products, judgements = read_judged(products_path, qrels_path, left_out)
    published = Encoder(served.PUBLISHED_ENCODER, threads, cache)
    ours = Encoder(encoder_folder or served.ENCODER, threads, cache)
    pairs = CrossEncoder.open(cross_encoder_folder, threads)
    scorer = Scorer(products, list(judgements), published, ours, pairs)
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for query, judged in track(judgements.items(), "searching", console=Console(stderr=True)):
        for name, scored in scorer.score(query, judged.places).items():
            for scope, metrics in measure(scored, judged).items():
                for metric, value in metrics.items():
                    values[name, scope, metric].append(value)
    columns = {key: place for place, key in enumerate(values)}
    bootstrap = Bootstrap(np.array(list(values.values())).T, seed=seed)
    return {
        "data": {
            "sha256": inputs.files_sha256(products_path, qrels_path),
            "products": len(products),
            "queries": len(judgements),
            "judgements": sum(len(places) for places, _ in judgements.values()),
            "left_out": {reason: count for reason, count in left_out.items() if count},
        },
        "models": {
            "published": {"folder": str(published.folder), "sha256": published.sha256},
            "encoder": {"folder": str(ours.folder), "sha256": ours.sha256},
            "cross_encoder": {"folder": str(pairs.folder), "sha256": pairs.sha256} if pairs else None,
        },
        "metrics": METRICS,
        "scopes": SCOPES,
        "interval": f"percentile bootstrap over queries, {LEVEL:.0%}, {RESAMPLES} resamples, seed {seed}; "
        "differences are paired",
        "systems": _figures(bootstrap, columns, scorer.systems),
        **{f"against_{name}": _figures(bootstrap, columns, scorer.systems, name) for name in REFERENCES},
    }


def read_judged(
    products_path: Path, qrels_path: Path, left_out: Counter[str]
) -> tuple[list[Product], dict[str, Judged]]:
    """Read a catalogue in the order of its ids, and the judgements of `judged_in`.

    Raises:
        typer.BadParameter: a file is not what it has to be, or they do not belong together.
    """
    products = sorted(inputs.read_products(products_path, left_out), key=lambda product: product.item_id)
    judgements = judged_in(products, inputs.read_qrels(qrels_path, left_out), left_out)
    if not judgements:
        raise typer.BadParameter(
            f"{qrels_path} has no query with a grade above 0 for a product of {products_path}: "
            "do the two belong together?"
        )
    return products, judgements


def judged_in(
    products: Sequence[Product], qrels: Mapping[str, Mapping[str, float]], left_out: Counter[str]
) -> dict[str, Judged]:
    """Return the judgements of each query with a relevant product: their places in `products`, and grades.

    Args:
        left_out: is told how many products were judged but are not for sale, and queries not scored.
    """
    number = {product.item_id: place for place, product in enumerate(products)}
    judgements = {}
    for query, grades in qrels.items():
        known = {number[item_id]: grade for item_id, grade in grades.items() if item_id in number}
        left_out["judged products that are not in the catalogue"] += len(grades) - len(known)
        if any(known.values()):
            places = sorted(known)
            judgements[query] = Judged(np.array(places), np.array([known[place] for place in places]))
        else:
            left_out["queries without a relevant product"] += 1
    return judgements


class Scorer:
    """Every system's scores of all products for a query.

    Args:
        products: in the order in which equal scores rank.
    """

    def __init__(
        self,
        products: Sequence[Product],
        queries: Sequence[str],
        published: Encoder,
        ours: Encoder,
        pairs: CrossEncoder | None = None,
    ) -> None:
        self._texts = [product.text for product in products]
        self._number = {product.item_id: place for place, product in enumerate(products)}
        self._bm25 = PlainBm25(self._texts)
        self._index = LexicalIndex()
        for product in products:
            self._index.add(
                product.item_id, product.title, product.description, product.brand, product.category
            )
        self._index.commit()
        vocabulary = Vocabulary()
        for text in self._texts:
            vocabulary.add(text)
        self._read = {query: vocabulary.corrected(clean_query(query)) for query in queries}
        queries = list(dict.fromkeys([*queries, *self._read.values()]))
        self._published = _Cosines(published, self._texts, queries, "products with the published encoder")
        self._ours = (
            self._published
            if ours.sha256 == published.sha256
            else _Cosines(ours, self._texts, queries, "products with our encoder")
        )
        self._pairs = pairs
        self.systems = tuple(name for name in SYSTEMS if pairs or name != "hybrid_cross_encoder")

    def score(self, query: str, judged: Places) -> dict[str, Scored]:
        """Score one of the queries with every system.

        Args:
            judged: places of the products that the cross-encoder ranks beside those it finds by itself.
        """
        bm25 = self._bm25.scores(query)
        published, cosine = self._published.of(query), self._ours.of(query)
        lexical = self._lexical(query, len(self._texts))
        read = self._read[query]
        found = hybrid(
            self._ours.of(read),
            self._lexical(read, len(self._texts)),
            self._lexical(read, LEXICAL),
            self._ours.vectors,
            judged,
        )
        systems = {
            "bm25": _both(bm25, judged, bm25 > 0),
            "lexical_index": _both(lexical, judged, lexical > 0),
            "published": _both(published, judged),
            "rrf": _both(rrf := fuse_ranks(bm25, published), judged, rrf > 0),
            "encoder": _both(cosine, judged),
            "hybrid": found,
        }
        if self._pairs:
            systems["hybrid_cross_encoder"] = Scored(
                self._refined(read, found.judged, judged),
                self._refined(read, found.catalogue, np.arange(len(self._texts))),
            )
        return systems

    def _refined(self, query: str, matches: Scores, places: Places) -> Scores:
        best = best_matches(matches)
        best = best[np.isfinite(matches[best])]
        assert self._pairs is not None
        return refined(matches, best, self._pairs.score(query, [self._texts[places[at]] for at in best]))

    def _lexical(self, query: str, limit: int) -> Scores:
        scores = np.zeros(len(self._texts), np.float32)
        for item_id, score in self._index.search(query, limit):
            scores[self._number[item_id]] = score
        return scores


def hybrid(
    cosine: Scores,
    lexical: Scores,
    hits: Scores,
    vectors: Scores,
    judged: Places,
    allowed: NDArray[np.bool_] | None = None,
) -> Scored:
    """Match as the engine does what it finds: its best by words and its best by vector, and nothing else.

    The judged products are matched as if they were among what is found.

    Args:
        lexical: BM25 of all products.
        hits: the same of the best by words, others 0.
        vectors: of the products [products, dimensions].
        allowed: products that may be found; all by default.
    """

    def matched(places: Places, bm25: Scores) -> Scores:
        return regularised(match(cosine, relative(bm25))[places], vectors[places])

    candidates = hits > 0
    candidates[np.argsort(-cosine, kind="stable")[:NEAREST]] = True
    found = np.flatnonzero(candidates if allowed is None else candidates & allowed)
    both = np.union1d(found, judged)
    catalogue = np.full(len(cosine), -np.inf, np.float32)
    catalogue[found] = matched(found, hits)
    beside = np.zeros(len(cosine), np.float32)
    beside[both] = matched(both, lexical)
    return Scored(beside[judged], catalogue)


class CrossEncoder:
    """The cross-encoder in a folder of `model.onnx` and `tokenizer.json`.

    Raises:
        typer.BadParameter: the folder holds no cross-encoder that can be served.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.sha256 = model_sha256(folder, "cross-encoder")
        with refusing(folder, "cross-encoder"):
            self._scorer = served.load_cross_encoder(folder, threads)
            self._scorer.score([("a query", "a text")])

    @classmethod
    def open(cls, folder: Path | None, threads: int) -> CrossEncoder | None:
        """Load the one in `folder`, or else the highest version served; None where none is."""
        if folder is None and not (served.CROSS_ENCODER / "model.onnx").is_file():
            return None
        return cls(folder or served.CROSS_ENCODER, threads)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score the texts for a query, shape [texts], 0..1 each."""
        return self._scorer.score([(query, text[:MAX_CHARS]) for text in texts])


def measure(scored: Scored, judged: Judged) -> dict[str, dict[str, float]]:
    """Rank by falling score, equal scores by place; return each metric by scope."""
    places, grades = judged
    order = np.argsort(-scored.judged, kind="stable")
    best = np.argsort(-scored.catalogue, kind="stable")[:DEEP]
    best = best[np.isfinite(scored.catalogue[best])]
    all_grades = dict(zip(places.tolist(), grades.tolist(), strict=True))
    return {
        "judged": _metrics(grades[order], grades),
        "catalogue": _metrics(np.array([all_grades.get(place, 0.0) for place in best.tolist()]), grades),
    }


def ndcg(ranked: Grades, grades: Grades) -> float:
    """nDCG@10 of grades in the order in which a system ranks them, against the best order of all grades.

    Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418, with the gain 2^grade - 1.
    """
    return _gain(ranked) / _gain(np.sort(grades)[::-1])


def tables(figures: Mapping[str, Any]) -> list[report.Table]:
    """Lay out the figures for people: a table a scope."""
    systems = figures["systems"]
    return [
        report.Table(
            f"{scope}: {said} ({figures['data']['queries']} queries, {figures['data']['products']} products)",
            ("system", *METRICS, *(f"ndcg_at_10 against {name}" for name in REFERENCES)),
            [
                (
                    SYSTEMS[name],
                    *(report.written(systems[name][scope][metric]) for metric in METRICS),
                    *(
                        report.written(figures[f"against_{other}"][name][scope]["ndcg_at_10"], sign=True)
                        if name != other
                        else ""
                        for other in REFERENCES
                    ),
                )
                for name in systems
            ],
        )
        for scope, said in SCOPES.items()
    ]


class _Cosines:
    """Cosines of texts with queries; the vectors have length 1."""

    def __init__(self, encoder: Encoder, texts: Sequence[str], queries: Sequence[str], what: str) -> None:
        self.vectors = encoder.encode(texts, what)
        self._queries = dict(zip(queries, encoder.encode_alone(queries), strict=True))

    def of(self, query: str) -> Scores:
        return self.vectors @ self._queries[query]


def _both(scores: Scores, judged: Places, found: NDArray[np.bool_] | bool = True) -> Scored:
    return Scored(scores[judged], np.where(found, scores, -np.inf))


def _metrics(ranked: Grades, grades: Grades) -> dict[str, float]:
    hits = np.flatnonzero(ranked > 0)
    return {
        "ndcg_at_10": ndcg(ranked, grades),
        "mrr": 1.0 / (hits[0] + 1) if len(hits) else 0.0,
        "recall_at_100": float((hits < DEEP).sum() / (grades > 0).sum()),
    }


def _gain(grades: Grades) -> float:
    best = grades[:CUT]
    return float(((2.0**best - 1) / np.log2(np.arange(len(best)) + 2)).sum())


def _figures(
    bootstrap: Bootstrap,
    columns: Mapping[tuple[str, str, str], int],
    systems: Sequence[str],
    reference: str | None = None,
) -> dict[str, Any]:
    """Return figures by system, scope and metric; with a reference, differences from it."""
    figures: dict[str, Any] = {}
    for (name, scope, metric), column in columns.items():
        if name != reference:
            interval = (
                bootstrap.difference(column, columns[reference, scope, metric])
                if reference
                else bootstrap.mean(column)
            )
            figures.setdefault(name, {}).setdefault(scope, {})[metric] = interval.rounded()
    return figures
