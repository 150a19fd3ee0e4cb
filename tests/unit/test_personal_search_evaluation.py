"""What is measured of personalised search, on a made-up shop with made-up judgements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the extra `evaluate` runs models without Triton")

from model_factory.evaluation import personal_search

KINDS = ("red kettle", "blue kettle", "steel kettle", "iron lamp", "glass lamp", "paper lamp")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("judged")
    products = [
        {"id": f"{kind}-{number}", "title": f"{kind} number {number}", "description": "", "brand": kind[:3]}
        for kind in KINDS
        for number in range(3)
    ]
    path = folder / "products.jsonl"
    path.write_text("".join(json.dumps(product) + "\n" for product in products))
    grades = [
        (query, product["id"], 3 if str(product["title"]).startswith(query) else 0)
        for query in ("red kettle", "glass lamp")
        for product in products
        if query.split()[1] in str(product["title"])
    ]
    qrels = folder / "qrels.csv"
    rows = "".join(f"{query},{product},{grade}\n" for query, product, grade in grades)
    qrels.write_text("query,product_id,grade\n" + rows)
    from model_factory import served

    return personal_search.evaluate(
        Path(path), qrels, served.ENCODER, None, served.RERANKER, viewed=1, draws=2
    )


def test_a_stranger_gets_pure_relevance_to_the_last_digit(figures: dict[str, Any]) -> None:
    stranger = figures["shoppers"]["stranger"]
    for order in ("reranker", "weights"):
        assert stranger[f"{order}_against_relevance"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert stranger[order] == stranger["relevance"]


def test_it_says_that_shoppers_are_made_up_and_how(figures: dict[str, Any]) -> None:
    assert set(figures["shoppers"]) <= set(figures["simulated"])
    assert {"stranger", "unrelated", "leaning", "opposed"} <= set(figures["shoppers"])


def test_figures_are_means_with_intervals(figures: dict[str, Any]) -> None:
    for shopper in figures["shoppers"].values():
        for order in figures["orders"]:
            assert shopper[order]["low"] <= shopper[order]["value"] <= shopper[order]["high"]
