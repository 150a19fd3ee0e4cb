"""Files of products, judgements and offers, read with distrust: bad lines are counted, bad files refused."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

MAX_GRADE = 10
"""More is no grade: the gain 2^grade - 1 of a wrong column would drown all others."""

_GZIP = b"\x1f\x8b"
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


@dataclass(frozen=True)
class Product:
    """What search sees of a product; `text` is what the encoder reads."""

    item_id: str
    title: str
    description: str
    brand: str
    category: str
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        return f"{self.title} {self.description}".strip()


@dataclass(frozen=True)
class Offer:
    """A shop's words for a product; offers of one cluster are of the same product."""

    offer_id: str
    title: str
    cluster: str
    category: str


def files_sha256(*paths: Path) -> str:
    """Return the SHA-256 over what is in files, unpacked, in this order: two versions are compared by it."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(_text(path).encode()).digest())
    return digest.hexdigest()


def read_products(path: Path, counts: Counter[str] | None = None) -> list[Product]:
    """Read products from JSON lines, gzipped or not.

    Args:
        counts: is told by reason how many lines were left out or are odd.

    Raises:
        typer.BadParameter: it cannot be read, or holds no product.
    """
    counts = Counter() if counts is None else counts
    products: dict[str, Product] = {}
    for line in io.StringIO(_text(path)):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            counts["product lines that are no JSON"] += 1
            continue
        if not isinstance(row, dict) or not (item_id := _one_line(row.get("id"))):
            counts["product lines without id"] += 1
            continue
        if item_id in products:
            counts["products with the id of an earlier one"] += 1
            continue
        category = row.get("category")
        product = Product(
            item_id,
            _words(row.get("title")),
            _words(row.get("description")),
            _words(row.get("brand")),
            " > ".join(_words(part) for part in category) if isinstance(category, list) else _words(category),
            attributes if isinstance(attributes := row.get("attributes"), dict) else {},
        )
        if not product.text:
            counts["products without title and description"] += 1
        products[item_id] = product
    if not products:
        raise typer.BadParameter(
            f"{path} holds no product. Each line has to be a JSON object with id, title and description; "
            f"found: {_counted(counts) or 'no line'}."
        )
    return list(products.values())


def read_qrels(path: Path, counts: Counter[str] | None = None) -> dict[str, dict[str, float]]:
    """Read grades by query and product id from CSV (tabs too), gzipped or not; of two, the last counts.

    Raises:
        typer.BadParameter: it cannot be read, lacks a column, or holds no grade.
    """
    counts = Counter() if counts is None else counts
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for row in _rows(path, ("query", "product_id", "grade")):
        query, item_id = _one_line(row["query"]), _one_line(row["product_id"])
        if not query or not item_id:
            counts["judgements without query or product_id"] += 1
            continue
        try:
            grade = float(row["grade"] or "")
        except ValueError:
            grade = math.nan
        if not 0 <= grade <= MAX_GRADE:
            counts[f"judgements whose grade is no number of 0 to {MAX_GRADE}"] += 1
            continue
        if item_id in grades[query]:
            counts["judgements given twice"] += 1
        grades[query][item_id] = grade
    if not any(grades.values()):
        raise typer.BadParameter(f"{path} holds no judgement; found: {_counted(counts) or 'no line'}.")
    return {query: found for query, found in grades.items() if found}


def read_offers(path: Path, counts: Counter[str] | None = None) -> list[Offer]:
    """Read offers from CSV (tabs too), gzipped or not; without category columns all are of one category.

    Raises:
        typer.BadParameter: it cannot be read, lacks a column, or holds no offer.
    """
    counts = Counter() if counts is None else counts
    offers: dict[str, Offer] = {}
    for number, row in enumerate(_rows(path, ("product_title", "cluster_id"))):
        title, cluster = _words(row["product_title"]), _one_line(row["cluster_id"])
        offer_id = _one_line(row.get("product_id")) or f"row {number}"
        if not title or not cluster:
            counts["offers without product_title or cluster_id"] += 1
        elif offer_id in offers:
            counts["offers with the product_id of an earlier one"] += 1
        else:
            category = _words(row.get("category_label")) or _one_line(row.get("category_id")) or "all"
            offers[offer_id] = Offer(offer_id, title, cluster, category)
    if not offers:
        raise typer.BadParameter(f"{path} holds no offer; found: {_counted(counts) or 'no line'}.")
    return list(offers.values())


def _rows(path: Path, wanted: Sequence[str]) -> Iterator[Mapping[str, str | None]]:
    text = _text(path)
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",")
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if missing := [name for name in wanted if name not in names]:
            raise typer.BadParameter(
                f"{path} lacks the column {', '.join(missing)}; it begins with {header[:200].strip()!r}."
            )
        yield from reader
    except csv.Error as error:
        raise typer.BadParameter(f"{path}, line {reader.line_num}: no CSV ({error}).") from None


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw.startswith(_GZIP):
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}.") from None
    return raw.decode("utf-8-sig", errors="replace").replace("\0", " ")


def _one_line(value: Any) -> str:
    """Read an id or a query; a whole number written as 7.0 stays as it is written."""
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def _words(value: Any) -> str:
    return _one_line(value) if isinstance(value, str) else ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
