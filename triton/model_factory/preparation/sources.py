"""Read the files of a shop; a row that cannot be used is counted with its reason, and never ends the run."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any

from stream.errors import WrongFile

SAMPLES = 3
"""Rejected rows that are kept of each reason, to be shown."""
SAMPLE_CHARS = 160

_PRODUCT_CODE = re.compile(r"\d{5}")


@dataclass(frozen=True)
class Product:
    """A product of the catalogue, as it stands in the file."""

    item_id: str
    title: str
    description: str
    brand: str
    category: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Grade:
    """How well a product answers a query, as people judged: 0 to 3."""

    query: str
    item_id: str
    grade: int


@dataclass(frozen=True)
class Offer:
    """A shop's offer; offers of one `cluster` are the same product, which `label` names."""

    offer_id: str
    title: str
    cluster: str
    label: str
    category: str


@dataclass(frozen=True)
class Sale:
    """A line of an invoice; `at` is a local time of the shop, in minutes and without a zone."""

    invoice: str
    code: str
    description: str
    at: datetime


@dataclass
class Rejected:
    """What was left out: counted by source and reason, with a few samples of each."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, source: str, reason: str, sample: object) -> None:
        """Count one row, and keep it if few of its kind were seen."""
        place = source, reason
        self.counts[place] += 1
        kept = self.samples.setdefault(place, [])
        if len(kept) < SAMPLES:
            kept.append(str(sample)[:SAMPLE_CHARS])

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return counts and samples by source and reason."""
        result: dict[str, dict[str, Any]] = {}
        for (source, reason), count in sorted(self.counts.items()):
            samples = self.samples[source, reason]
            result.setdefault(source, {})[reason] = {"count": count, "samples": samples}
        return result


def read_products(path: Path, rejected: Rejected, limit: int | None = None) -> list[Product]:
    """Read products from JSON lines: id, title, and where known description, brand, category, attributes.

    Raises:
        WrongFile: it cannot be read.
    """
    products: list[Product] = []
    seen: set[str] = set()
    with _open(path) as lines:
        for number, line in enumerate(_readable(path, lines), 1):
            if limit is not None and len(products) >= limit:
                break
            try:
                row = json.loads(line)
            except ValueError:
                rejected.add("products", "not JSON", f"line {number}: {line}")
                continue
            if not isinstance(row, dict):
                rejected.add("products", "not a JSON object", f"line {number}: {line}")
                continue
            item_id, title = _text(row.get("id")), _text(row.get("title"))
            if not item_id or not title:
                rejected.add("products", "without id or title", f"line {number}: {line}")
                continue
            if item_id in seen:
                rejected.add("products", "id seen before", f"line {number}: {item_id} {title}")
                continue
            seen.add(item_id)
            category, attributes = row.get("category"), row.get("attributes")
            products.append(
                Product(
                    item_id,
                    title,
                    _text(row.get("description")),
                    _text(row.get("brand")),
                    " > ".join(map(str, category)) if isinstance(category, list) else _text(category),
                    attributes if isinstance(attributes, dict) else {},
                )
            )
    return products


def read_grades(path: Path, rejected: Rejected, known: set[str]) -> list[Grade]:
    """Read judgements from CSV: query, product_id, grade; those of products not in `known` are rejected.

    Raises:
        WrongFile: it cannot be read, or a column is missing.
    """
    grades: dict[tuple[str, str], Grade] = {}
    for number, row in _table(path, ("query", "product_id", "grade"), "qrels", rejected):
        query, item_id, grade = row["query"].strip(), row["product_id"].strip(), row["grade"].strip()
        if not query or grade not in {"0", "1", "2", "3"}:
            rejected.add("qrels", "no query, or a grade that is not 0 to 3", f"line {number}: {row}")
        elif item_id not in known:
            rejected.add("qrels", "product not in the catalogue", f"line {number}: {query}, {item_id}")
        elif (query, item_id) in grades:
            rejected.add("qrels", "judged before", f"line {number}: {query}, {item_id}")
        else:
            grades[query, item_id] = Grade(query, item_id, int(grade))
    return list(grades.values())


def read_offers(path: Path, rejected: Rejected, limit: int | None = None) -> list[Offer]:
    """Read offers from CSV: product_id, product_title, cluster_id, cluster_label, category_label.

    Raises:
        WrongFile: it cannot be read, or a column is missing.
    """
    columns = ("product_id", "product_title", "cluster_id", "cluster_label", "category_label")
    offers: list[Offer] = []
    seen: set[str] = set()
    for number, row in _table(path, columns, "offers", rejected):
        if limit is not None and len(offers) >= limit:
            break
        offer = Offer(*(row[column].strip() for column in columns))
        if not (offer.offer_id and offer.title and offer.cluster):
            rejected.add("offers", "without id, title or cluster", f"line {number}: {row}")
        elif offer.offer_id in seen:
            rejected.add("offers", "id seen before", f"line {number}: {offer.offer_id} {offer.title}")
        else:
            seen.add(offer.offer_id)
            offers.append(offer)
    return offers


def read_sales(path: Path, rejected: Rejected, limit: int | None = None) -> list[Sale]:
    """Read sales lines from CSV: invoice, stock_code, description, quantity, ts, unit_price.

    Cancellations (`C`), accounting entries (`A`), codes that do not start with five digits (postage, fees),
    and lines whose quantity or price is not positive are no sales of a product.

    Raises:
        WrongFile: it cannot be read, or a column is missing.
    """
    columns = ("invoice", "stock_code", "description", "quantity", "ts", "unit_price")
    sales: list[Sale] = []
    for number, row in _table(path, columns, "events", rejected):
        if limit is not None and len(sales) >= limit:
            break
        reason = _no_sale(row)
        if reason:
            rejected.add("events", reason, f"line {number}: {','.join(row.values())}")
            continue
        sales.append(
            Sale(row["invoice"], row["stock_code"], row["description"], datetime.fromisoformat(row["ts"]))
        )
    return sales


def read_queries(path: Path, rejected: Rejected) -> list[str]:
    """Read query strings from a table with tabs; only its column `query` is used.

    Raises:
        WrongFile: it cannot be read, or the column is missing.
    """
    queries: dict[str, None] = {}
    for number, row in _table(path, ("query",), "queries", rejected, delimiter="\t"):
        query = " ".join(row["query"].split())
        if not query or query in queries:
            rejected.add("queries", "empty, or seen before", f"line {number}: {query}")
        else:
            queries[query] = None
    return list(queries)


def _no_sale(row: dict[str, str]) -> str | None:
    if row["invoice"].startswith("C"):
        return "cancellation"
    if row["invoice"].startswith("A"):
        return "accounting entry"
    if not _PRODUCT_CODE.match(row["stock_code"]):
        return "postage, fee or other code that is no product"
    if not row["description"].strip():
        return "without description"
    try:
        quantity, price = int(row["quantity"]), float(row["unit_price"])
        datetime.fromisoformat(row["ts"])
    except ValueError:
        return "quantity, price or time is none"
    return None if quantity > 0 and 0 < price < math.inf else "quantity or price not positive"


def _table(
    path: Path, columns: tuple[str, ...], source: str, rejected: Rejected, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and the named columns of each row; reject rows with too few or too many cells."""
    with _open(path) as text:
        reader = csv.reader(_readable(path, text), delimiter=delimiter)
        try:
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise WrongFile(
                    f"{path}: no column {', '.join(missing)}; the first line is {delimiter.join(header)!r}"
                )
            for cells in reader:
                if len(cells) != len(header):
                    cause = f"{len(cells)} cells instead of {len(header)}"
                    rejected.add(source, "malformed line", f"line {reader.line_num}: {cause}: {cells}")
                    continue
                row = dict(zip(header, cells, strict=True))
                yield reader.line_num, {column: row[column] for column in columns}
        except csv.Error as error:
            raise WrongFile(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _open(path: Path) -> IO[str]:
    """Open a text file, gzipped or not; bytes that are not UTF-8 become U+FFFD."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
        return path.open(encoding="utf-8", errors="replace", newline="")
    except OSError as error:
        raise WrongFile(f"{path}: cannot be opened ({error.strerror})") from error


def _readable(path: Path, lines: IO[str]) -> Iterator[str]:
    """Yield lines without NUL characters; name the file where reading fails."""
    try:
        first = next(lines, "").removeprefix("\ufeff")
        for line in chain([first] if first else [], lines):
            yield line.replace("\0", "")
    except (OSError, EOFError) as error:
        raise WrongFile(f"{path}: breaks off or is not gzipped ({error})") from error


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
