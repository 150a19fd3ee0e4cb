"""How well product search finds what people judged relevant, with the classes that serve it."""

from __future__ import annotations

import csv
import gzip
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_factory import served
from stream.adapters.lexical_index import LexicalIndex
from stream.core.search import LEXICAL_WEIGHT, match, relative

CUT = 10
HITS = 100
"""Lexical and vector hits that a list is made from, as in `stream.recommender`."""

RRF_K = 60
"""Cormack, Clarke and Büttcher 2009, doi:10.1145/1571941.1572114."""

SMOOTHING_NEIGHBOURS, SMOOTHING_SHARE = 15, 0.3

Scores = NDArray[np.float32]
Grades = Mapping[str, int]


@dataclass(frozen=True)
class Product:
    """What search sees of a product; `text` is what the encoder reads."""

    item_id: str
    title: str
    description: str
    brand: str
    category: str

    @property
    def text(self) -> str:
        return f"{self.title} {self.description}".strip()


@dataclass(frozen=True)
class Figure:
    """nDCG@10 of one system, and its mean paired difference to `fused`, each with a 95 % interval."""

    judged: float
    judged_interval: float
    catalogue: float
    catalogue_interval: float
    judged_against_fused: float
    judged_against_fused_interval: float
    catalogue_against_fused: float
    catalogue_against_fused_interval: float


def evaluate_search(
    products: Annotated[
        Path, typer.Option(help="JSON lines (.gz too): id, title, description, brand.", exists=True)
    ],
    qrels: Annotated[Path, typer.Option(help="CSV: query, product_id, grade (0 to 3).", exists=True)],
    encoder: Annotated[
        Path, typer.Option(help="Folder of model.onnx and tokenizer.json.", exists=True)
    ] = served.ENCODER,
    threads: Annotated[int, typer.Option(help="Threads of one forward.", min=1)] = 1,
    json_: Annotated[
        str | None, typer.Option("--json", help="Write the figures to this file; - for standard output.")
    ] = None,
) -> None:
    """Measure search by nDCG@10 on human judgements.

    Example: model-factory evaluate search --products ../shared/data/icecat/products.jsonl.gz
    --qrels ../shared/data/icecat/qrels.csv
    """
    figures = evaluate(products, qrels, encoder, threads)
    if json_ == "-":
        typer.echo(json.dumps(figures, indent=2))
        return
    if json_:
        Path(json_).write_text(json.dumps(figures, indent=2) + "\n")
    table = Table("system", "judged products", "whole catalogue", "against fused")
    for name, figure in figures["ndcg_at_10"].items():
        table.add_row(
            name,
            f"{figure['judged']:.3f} ± {figure['judged_interval']:.3f}",
            f"{figure['catalogue']:.3f} ± {figure['catalogue_interval']:.3f}",
            f"{figure['judged_against_fused']:+.3f} ± {figure['judged_against_fused_interval']:.3f} / "
            f"{figure['catalogue_against_fused']:+.3f} ± {figure['catalogue_against_fused_interval']:.3f}",
        )
    Console().print(table, f"{figures['queries']} queries, {figures['products']} products")


def evaluate(products_path: Path, qrels_path: Path, encoder_folder: Path, threads: int = 1) -> dict[str, Any]:
    """Score each system on every query that has a relevant product; return the figures as JSON values."""
    products = read_products(products_path)
    judgements = {query: grades for query, grades in read_qrels(qrels_path).items() if any(grades.values())}
    console = Console(stderr=True)
    number = {product.item_id: place for place, product in enumerate(products)}
    encoder = served.load_encoder(encoder_folder, threads)
    started_s = time.process_time()
    vectors = np.concatenate(
        [
            encoder.encode([product.text for product in products[start : start + served.BATCH]])
            for start in track(range(0, len(products), served.BATCH), "encoding products", console=console)
        ]
    )
    encoding_s = time.process_time() - started_s
    smoothed = smooth(vectors)
    index = LexicalIndex()
    for product in products:
        index.add(product.item_id, product.title, product.description, product.brand, product.category)
    index.commit()

    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    search_ms = []
    for query, grades in judgements.items():
        bm25 = np.zeros(len(products), np.float32)
        for item_id, score in index.search(query, len(products)):
            bm25[number[item_id]] = score
        started_s = time.perf_counter()
        hits = [number[item_id] for item_id, _ in index.search(query, HITS)]
        search_ms.append((time.perf_counter() - started_s) * 1000)
        side = encoder.encode([query])[0]
        cosine, smooth_cosine = vectors @ side, smoothed @ side
        fused = match(cosine, relative(bm25))
        union = np.zeros(len(products), np.bool_)
        union[np.argsort(-cosine, kind="stable")[:HITS]] = True
        union[hits] = True
        systems = {
            "bm25": bm25,
            "encoder": cosine,
            "reciprocal rank fusion": fuse_ranks(bm25, cosine),
            "fused": fused,
            f"fused, {HITS} + {HITS} hits": np.where(union, fused, fused - 10.0),
            "fused, smoothed": match(smooth_cosine, relative(bm25)),
        }
        for name, scores in systems.items():
            values[name].append(ndcg(scores, products, number, grades))
    fused_values = np.array(values["fused"])
    return {
        "metric": "nDCG@10, gain 2^grade - 1; judged products of a query, and the whole catalogue "
        "with unjudged products counted as 0; ± is the 95 % interval of a mean over queries",
        "queries": len(judgements),
        "products": len(products),
        "lexical_weight": LEXICAL_WEIGHT,
        "ndcg_at_10": {
            name: asdict(_figure(np.array(pairs), fused_values)) for name, pairs in values.items()
        },
        "lexical_search_ms_median": round(float(np.median(search_ms)), 3),
        "cpu_ms_per_product_encoded": round(encoding_s / len(products) * 1000, 2),
    }


def ndcg(
    scores: Scores, products: Sequence[Product], number: Mapping[str, int], grades: Grades
) -> tuple[float, float]:
    """nDCG@10 of one query: ranking its judged products, and ranking the whole catalogue."""
    ideal = _gain(sorted(grades.values(), reverse=True))
    judged = sorted(grades, key=lambda item_id: -scores[number[item_id]])
    best = np.argsort(-scores, kind="stable")[:CUT]
    whole = [grades.get(products[place].item_id, 0) for place in best if scores[place] > 0]
    return _gain([grades[item_id] for item_id in judged]) / ideal, _gain(whole) / ideal


def fuse_ranks(bm25: Scores, cosine: Scores) -> Scores:
    """Reciprocal rank fusion; what has no lexical score has no lexical rank."""
    lexical = np.where(bm25 > 0, 1.0 / (RRF_K + _ranks(bm25)), 0.0)
    fused: Scores = (lexical + 1.0 / (RRF_K + _ranks(cosine))).astype(np.float32)
    return fused


def smooth(vectors: Scores) -> Scores:
    """Mix each product's vector with the mean of its 15 nearest; a cosine with it is a mean of cosines."""
    smoothed = np.empty_like(vectors)
    for start in range(0, len(vectors), 1_000):
        rows = slice(start, start + 1_000)
        near = vectors[rows] @ vectors.T
        near[np.arange(len(near)), np.arange(start, start + len(near))] = -2.0  # not itself
        nearest = np.argpartition(-near, SMOOTHING_NEIGHBOURS, axis=1)[:, :SMOOTHING_NEIGHBOURS]
        mean = vectors[nearest].mean(axis=1)
        smoothed[rows] = (1 - SMOOTHING_SHARE) * vectors[rows] + SMOOTHING_SHARE * mean
    return smoothed


def read_products(path: Path) -> list[Product]:
    """Read products from JSON lines, gzipped or not."""
    with _open(path) as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Product(
            str(row["id"]),
            row["title"],
            row.get("description") or "",
            row.get("brand") or "",
            " > ".join(row.get("category") or []),
        )
        for row in rows
    ]


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read grades by query and product id."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    with _open(path) as lines:
        for row in csv.DictReader(lines):
            grades[row["query"]][row["product_id"]] = int(row["grade"])
    return grades


def _open(path: Path) -> IO[str]:
    opener: Callable[..., IO[str]] = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8")


def _gain(grades: Sequence[int]) -> float:
    return sum((2**grade - 1) / math.log2(rank + 2) for rank, grade in enumerate(grades[:CUT]))


def _ranks(scores: Scores) -> NDArray[np.int64]:
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def _figure(pairs: NDArray[np.float64], fused: NDArray[np.float64]) -> Figure:
    means, differences = pairs.mean(axis=0), (pairs - fused).mean(axis=0)
    intervals, paired = (
        1.96 * values.std(axis=0, ddof=1) / math.sqrt(len(values)) for values in (pairs, pairs - fused)
    )
    columns = zip(means, intervals, differences, paired, strict=True)
    (j, ji, jd, jdi), (c, ci, cd, cdi) = (
        tuple(round(float(value), 4) for value in column) for column in columns
    )
    return Figure(j, ji, c, ci, jd, jdi, cd, cdi)
