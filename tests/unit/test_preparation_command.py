"""`model-factory prepare` on a tiny shop, from files to tables."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from model_factory import served
from model_factory.preparation import command
from model_factory.preparation.wording import Queries
from typer.testing import CliRunner

PACKAGES = ("pyarrow", "datasketch", "bm25s")
needs_packages = pytest.mark.skipif(
    not all(importlib.util.find_spec(package) for package in PACKAGES),
    reason=f"needs {', '.join(PACKAGES)} of the extra `train`",
)
COLOURS = ("black", "white", "red", "green", "pink")
LETTERS = string.ascii_uppercase
TYPES = ("networking cable", "notebook case", "toner cartridge", "computer mouse", "memory module")

app = typer.Typer()
app.command()(command.prepare)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a shop of 120 products, judgements, offers and sales in the layout that --data reads."""
    folder = tmp_path_factory.mktemp("shop")
    generator = random.Random(0)
    products = [
        {
            "id": str(number),
            "title": f"ACME {LETTERS[number % 26]}X-{number} {colour} {kind} {number % 9} m",
            "description": f"Sturdy {colour} thing number {number} &amp; its box<br />",
            "brand": "ACME",
            "attributes": {"t_product_colour": colour, "n_cable_length": float(number % 9), "b_wi_fi": False},
        }
        for number in range(120)
        for colour, kind in [(generator.choice(COLOURS), generator.choice(TYPES))]
    ]
    products.append({**products[7], "id": "copy"})
    lines = [json.dumps(product) for product in products] + ["{broken"]
    (folder / "icecat").mkdir()
    (folder / "icecat/products.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    judged = [("networking cable", n % 4, n) for n in range(20)] + [
        ("notebook cases", n % 3, n) for n in range(9)
    ]
    _write_csv(
        folder / "icecat/qrels.csv",
        ("query", "product_id", "grade", "judges"),
        [(query, number, grade, "x") for query, grade, number in judged] + [("x", "none", 1, "x")],
    )
    categories = ("TVs", "Dishwashers", "Phones", "Fridges")
    _write_csv(
        folder / "pricerunner/offers.csv",
        (
            "product_id",
            "product_title",
            "merchant_id",
            "cluster_id",
            "cluster_label",
            "category_id",
            "category_label",
        ),
        [
            (
                number,
                f"{wording} zx{cluster} {COLOURS[cluster % 5]}",
                1,
                cluster,
                f"Brand ZX{cluster}",
                1,
                category,
            )
            for number, (cluster, wording) in enumerate(
                (cluster, wording)
                for cluster in range(40)
                for wording in ("brand", "the good", "cheap brand")
            )
            for category in [categories[cluster % 4]]
        ],
    )
    _write_csv(
        folder / "online_retail/events.csv",
        ("invoice", "stock_code", "description", "quantity", "ts", "unit_price", "customer_id", "country"),
        [
            (
                invoice,
                f"{code}{code}{code}{code}{code}",
                f"THING {code}",
                1,
                f"2011-01-{1 + invoice // 20:02} 08:00",
                1.5,
                7,
                "UK",
            )
            for invoice in range(200)
            for code in ((1, 2) if invoice % 2 else (3, 4))
        ],
    )
    return folder


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _arguments(shop: Path, output: Path) -> list[str]:
    offers, events = str(shop / "pricerunner/offers.csv"), str(shop / "online_retail/events.csv")
    return ["--data", str(shop), "--offers", offers, "--events", events, "--output", str(output)]


def _prepare(shop: Path, output: Path, *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*_arguments(shop, output), *more])
    assert result.exit_code == 0, result.output
    described: dict[str, Any] = json.loads((output / "data.json").read_text())
    return described


def _prepare_elsewhere(shop: Path, output: Path, *more: str) -> str:
    """Prepare in a process of its own, in which sets have another order; return the data hash."""
    code = "import typer; from model_factory.preparation.command import prepare; typer.run(prepare)"
    subprocess.run(
        [sys.executable, "-P", "-c", code, *_arguments(shop, output), *more],
        env={**os.environ, "PYTHONHASHSEED": "11"},
        check=True,
        timeout=240,
    )
    described: dict[str, str] = json.loads((output / "data.json").read_text())
    return described["hash"]


def _rows(output: Path, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(output / f"{name}.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def prepared(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the shop once, without the encoder."""
    if not all(importlib.util.find_spec(package) for package in PACKAGES):
        pytest.skip(f"needs {', '.join(PACKAGES)} of the extra `train`")
    output = tmp_path_factory.mktemp("prepared")
    _prepare(shop, output, "--lexical-only", "--seed", "3")
    return output


def test_the_tables_hold_all_objectives(prepared: Path) -> None:
    pairs = _rows(prepared, "pairs")
    assert {pair["objective"] for pair in pairs} == {"query", "same_product", "bought_together"}
    assert {pair["split"] for pair in pairs if pair["objective"] == "same_product"} == {
        "train",
        "validation",
        "test",
    }
    assert all(pair["anchor"] and pair["positive"] for pair in pairs)
    products = _rows(prepared, "products")
    assert products[0]["text"] == f"{products[0]['title']} {products[0]['description']}"
    assert products[0]["description"].endswith("thing number 0 & its box")
    assert json.loads(products[0]["attributes"])["product colour"] in COLOURS


def test_bad_rows_and_duplicates_are_counted_in_data_json_and_on_the_card(prepared: Path) -> None:
    described = json.loads((prepared / "data.json").read_text())
    assert described["rejected"]["products"]["not JSON"]["count"] == 1
    assert described["rejected"]["products"]["exact duplicate"]["count"] == 1
    assert described["rejected"]["qrels"]["product not in the catalogue"]["count"] == 1
    assert described["counts"]["rows"]["products"] == 120
    card = (prepared / "DATA_CARD.md").read_text()
    assert described["hash"] in card
    assert "exact duplicate" in card


def test_no_judged_query_is_an_anchor(prepared: Path) -> None:
    judged = Queries(row["query"] for row in _rows(prepared, "graded"))
    anchors = [pair["anchor"] for pair in _rows(prepared, "pairs") if pair["objective"] == "query"]
    assert len(anchors) > 200
    assert not [anchor for anchor in anchors if judged.near(anchor)]


def test_categories_and_clusters_that_are_kept_apart_are_in_no_training_pair(prepared: Path) -> None:
    offers = _rows(prepared, "offers")
    assert {(offer["category"], offer["split"]) for offer in offers} == {
        ("TVs", "test"),
        ("Dishwashers", "validation"),
        ("Phones", "train"),
        ("Fridges", "train"),
    }
    apart = {offer["title"] for offer in offers if offer["split"] != "train"}
    apart |= {row["text"] for row in _rows(prepared, "products") if row["split"] != "train"}
    training = [pair for pair in _rows(prepared, "pairs") if pair["split"] == "train"]
    assert not apart & {
        text for pair in training for text in (pair["anchor"], pair["positive"], *pair["negatives"])
    }


@needs_packages
def test_offers_of_a_shop_without_these_categories_are_split_by_cluster(shop: Path, tmp_path: Path) -> None:
    elsewhere = ["--validation-category", "Cars", "--test-category", "Boats"]
    _prepare(shop, tmp_path, "--lexical-only", *elsewhere, "--validation-share", "0.3", "--test-share", "0.3")
    splits: dict[str, set[str]] = {}
    for offer in _rows(tmp_path, "offers"):
        splits.setdefault(offer["cluster"], set()).add(offer["split"])
    assert set.union(*splits.values()) == {"train", "validation", "test"}
    assert {len(found) for found in splits.values()} == {1}


def test_negatives_are_of_other_products_and_clusters(prepared: Path) -> None:
    cluster_of = {offer["title"]: offer["cluster"] for offer in _rows(prepared, "offers")}
    pairs = _rows(prepared, "pairs")
    assert sum(bool(pair["negatives"]) for pair in pairs) > len(pairs) / 2
    for pair in pairs:
        assert pair["positive"] not in pair["negatives"]
        if pair["source"].startswith("offers"):
            assert cluster_of[pair["positive"]] not in {cluster_of[text] for text in pair["negatives"]}


def test_judgements_have_a_fold_by_query(prepared: Path) -> None:
    folds: dict[str, set[int]] = {}
    for row in _rows(prepared, "graded"):
        folds.setdefault(row["query"], set()).add(row["fold"])
    assert {len(found) for found in folds.values()} == {1}


@needs_packages
def test_the_same_files_and_seed_give_the_same_hash_and_another_seed_another(
    shop: Path, prepared: Path, tmp_path: Path
) -> None:
    first = json.loads((prepared / "data.json").read_text())
    assert _prepare_elsewhere(shop, tmp_path / "same", "--lexical-only", "--seed", "3") == first["hash"]
    other = _prepare(shop, tmp_path / "other", "--lexical-only", "--seed", "4")
    assert other["hash"] != first["hash"]
    assert other["outputs"]["pairs"] != first["outputs"]["pairs"]


@needs_packages
def test_the_encoder_finds_negatives_and_encodes_only_once(shop: Path, tmp_path: Path) -> None:
    if not (served.ENCODER / "model.onnx").is_file() or not importlib.util.find_spec("onnxruntime"):
        pytest.skip("needs onnxruntime and the encoder's weights")
    first = _prepare(shop, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "vectors").iterdir()}
    assert len(kept) == 2
    assert _prepare(shop, tmp_path)["hash"] == first["hash"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "vectors").iterdir()} == kept


@needs_packages
def test_products_alone_are_enough(shop: Path, tmp_path: Path) -> None:
    arguments = [
        "--products",
        str(shop / "icecat/products.jsonl.gz"),
        "--output",
        str(tmp_path),
        "--lexical-only",
    ]
    result = CliRunner().invoke(app, [*arguments, "--limit", "30"])
    assert result.exit_code == 0, result.output
    assert "Without qrels, offers, events, queries" in result.output
    assert len(_rows(tmp_path, "products")) == 30
    assert _rows(tmp_path, "graded") == []


@needs_packages
def test_a_file_that_is_missing_or_of_another_shape_is_a_clear_error(shop: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out"), "--lexical-only"]
    missing = CliRunner().invoke(app, ["--products", str(tmp_path / "none.jsonl"), *output])
    assert missing.exit_code == 2
    wrong = CliRunner().invoke(app, ["--offers", str(shop / "icecat/qrels.csv"), *output])
    assert wrong.exit_code == 1
    assert "no column product_title" in wrong.output
    assert not (tmp_path / "out").exists()
    for arguments in ([], ["--qrels", str(shop / "icecat/qrels.csv")], ["--data", str(tmp_path)]):
        assert CliRunner().invoke(app, [*arguments, *output]).exit_code == 2


@pytest.mark.skipif(bool(importlib.util.find_spec("pyarrow")), reason="pyarrow is installed")
def test_without_the_packages_the_error_names_the_extra(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "streamrec[train]" in result.output
