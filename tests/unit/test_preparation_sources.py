"""Files that `model-factory prepare` reads, good and bad."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from model_factory.preparation.sources import (
    Rejected,
    read_grades,
    read_offers,
    read_products,
    read_queries,
    read_sales,
)

from stream.errors import WrongFile


def test_bad_products_are_counted_with_a_sample_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "products.jsonl.gz"
    rows = [
        json.dumps({"id": 1, "title": "Mouse", "category": ["PC", "Mice"], "attributes": {"t_type": "x"}}),
        "{broken",
        "[]",
        json.dumps({"id": "2", "title": " "}),
        json.dumps({"id": "1", "title": "Mouse again"}),
        json.dumps({"id": "3", "title": "Cable", "description": None, "attributes": ["odd"]}),
    ]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    rejected = Rejected()
    products = read_products(path, rejected)
    assert [(product.item_id, product.title, product.category) for product in products] == [
        ("1", "Mouse", "PC > Mice"),
        ("3", "Cable", ""),
    ]
    found = rejected.as_json()["products"]
    assert {reason: entry["count"] for reason, entry in found.items()} == {
        "id seen before": 1,
        "not JSON": 1,
        "not a JSON object": 1,
        "without id or title": 1,
    }
    assert found["not JSON"]["samples"] == ["line 2: {broken\n"]


def test_only_a_few_samples_are_kept() -> None:
    rejected = Rejected()
    for number in range(10):
        rejected.add("offers", "odd", number)
    assert rejected.as_json() == {"offers": {"odd": {"count": 10, "samples": ["0", "1", "2"]}}}


def test_grades_of_unknown_products_and_odd_grades_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "qrels.csv"
    path.write_text("query,product_id,grade,judges\ntv,1,3,x\ntv,1,2,x\ntv,9,1,x\ntv,2,4,x\n,2,1,x\ntv,2\n")
    rejected = Rejected()
    grades = read_grades(path, rejected, {"1", "2"})
    assert [(grade.query, grade.item_id, grade.grade) for grade in grades] == [("tv", "1", 3)]
    assert sum(entry["count"] for entry in rejected.as_json()["qrels"].values()) == 5


def test_sales_without_cancellations_fees_and_gifts(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "invoice,stock_code,description,quantity,ts,unit_price,customer_id,country\n"
        "1,85048,GLASS BALL,12,2009-12-01 07:45,6.95,13085,United Kingdom\n"
        "C2,85048,GLASS BALL,-1,2009-12-01 07:45,6.95,13085,United Kingdom\n"
        "A3,B,Adjust bad debt,1,2009-12-01 07:45,6.95,,United Kingdom\n"
        "4,POST,POSTAGE,1,2009-12-01 07:45,6.95,,United Kingdom\n"
        "5,85048,GLASS BALL,1,2009-12-01 07:45,0.0,,United Kingdom\n"
        "6,85048,,1,2009-12-01 07:45,1.0,,United Kingdom\n"
        "7,85048,GLASS BALL,1,yesterday,1.0,,United Kingdom\n"
    )
    rejected = Rejected()
    assert [sale.invoice for sale in read_sales(path, rejected)] == ["1"]
    assert sum(entry["count"] for entry in rejected.as_json()["events"].values()) == 6


def test_bytes_that_are_not_utf_8_do_not_end_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "query.tsv"
    path.write_bytes(b"query_id\tquery\n0\tcaf\xe9 table\n1\tsofa\n2\tsofa\n")
    rejected = Rejected()
    assert read_queries(path, rejected) == ["caf\ufffd table", "sofa"]
    assert rejected.counts["queries", "empty, or seen before"] == 1


def test_a_missing_column_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv"
    path.write_text("product_id,title\n1,x\n")
    with pytest.raises(WrongFile, match=r"offers\.csv: no column product_title, cluster_id"):
        read_offers(path, Rejected())


def test_a_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "products.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "1", "title": "Mouse"}\n' * 1000)[:-20])
    with pytest.raises(WrongFile, match=r"products\.jsonl\.gz"):
        read_products(path, Rejected())


def test_a_file_that_is_not_gzipped_is_named(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv.gz"
    path.write_text("product_id\n")
    with pytest.raises(WrongFile, match=r"offers\.csv\.gz"):
        read_offers(path, Rejected())
