"""How product search is measured."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from model_factory import cli
from model_factory.evaluation.search import Product, fuse_ranks, ndcg, read_products, read_qrels, smooth
from typer.testing import CliRunner

PRODUCTS = [Product(name, name, "", "", "") for name in ("a", "b", "c", "d")]
NUMBER = {product.item_id: place for place, product in enumerate(PRODUCTS)}


def scores(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_the_ideal_order_scores_one_on_judged_products_and_on_the_catalogue() -> None:
    assert ndcg(scores(0.9, 0.8, 0.1, 0.05), PRODUCTS, NUMBER, {"a": 3, "b": 1}) == (1.0, 1.0)


def test_a_swap_costs_what_the_gains_and_discounts_say() -> None:
    judged, _ = ndcg(scores(0.1, 0.9, 0, 0), PRODUCTS, NUMBER, {"a": 3, "b": 1})
    assert judged == pytest.approx((1 + 7 / math.log2(3)) / (7 + 1 / math.log2(3)))


def test_unjudged_products_push_down_only_in_the_whole_catalogue() -> None:
    judged, catalogue = ndcg(scores(0.5, 0, 0.9, 0), PRODUCTS, NUMBER, {"a": 2})
    assert judged == 1.0
    assert catalogue == pytest.approx(1 / math.log2(3))


def test_products_without_any_score_are_not_results() -> None:
    _, catalogue = ndcg(scores(0, 0, 0, 0), PRODUCTS, NUMBER, {"a": 2})
    assert catalogue == 0.0


def test_rank_fusion_counts_ranks_and_leaves_out_what_the_words_do_not_match() -> None:
    fused = fuse_ranks(scores(0, 5, 0, 9), scores(0.9, 0.8, 0.2, 0.1))
    np.testing.assert_allclose(fused, [1 / 61, 1 / 62 + 1 / 62, 1 / 63, 1 / 61 + 1 / 64], rtol=1e-6)


def test_smoothing_mixes_in_the_mean_of_the_nearest_but_not_the_product_itself() -> None:
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(vectors @ vectors[0]))[1:16]
    np.testing.assert_allclose(
        smooth(vectors)[0], 0.7 * vectors[0] + 0.3 * vectors[nearest].mean(axis=0), rtol=1e-4, atol=1e-6
    )


def test_products_and_judgements_are_read_gzipped_or_not(tmp_path: Path) -> None:
    line = json.dumps({"id": 7, "title": "Lamp", "description": None, "brand": "B", "attributes": {}})
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as file:
        file.write(line + "\n")
    (tmp_path / "q.csv").write_text("query,product_id,grade,judges\nlamp,7,2,x\n")
    (product,) = read_products(tmp_path / "p.jsonl.gz")
    assert (product.item_id, product.text) == ("7", "Lamp")
    assert read_qrels(tmp_path / "q.csv") == {"lamp": {"7": 2}}


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    for name in ("p", "q"):
        (tmp_path / name).write_text("")
    paths = {"--products": "p", "--qrels": "q", "--weights": "."}
    arguments = [part for option, name in paths.items() for part in (option, str(tmp_path / name))]
    result = CliRunner().invoke(cli.app, ["export", "encoder", *arguments])
    assert result.exit_code == 2
    assert "SHA-256" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [["export", "encoder"], ["evaluate", "search"]])
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output
