"""How product search is measured."""

import csv
import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_factory import cli
from model_factory.evaluation.baselines import PlainBm25, fuse_ranks
from model_factory.evaluation.inputs import Product, read_products, read_qrels
from model_factory.evaluation.search import Judged, Scored, judged_in, measure, ndcg
from typer.testing import CliRunner


def grades(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(values, np.float64)


def scores(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_the_ideal_order_scores_one() -> None:
    assert ndcg(grades(3, 1, 0), grades(0, 3, 1)) == 1.0


def test_a_swap_costs_what_the_gains_and_discounts_say() -> None:
    assert ndcg(grades(1, 3), grades(3, 1)) == pytest.approx((1 + 7 / math.log2(3)) / (7 + 1 / math.log2(3)))


def test_only_the_first_ten_count_in_the_ranking_and_in_the_ideal() -> None:
    assert ndcg(grades(*[0] * 10, 3), grades(*[0] * 10, 3)) == 0.0
    assert ndcg(grades(*[1] * 10, 0), grades(*[1] * 30)) == 1.0


def test_unjudged_products_push_down_only_in_the_whole_catalogue() -> None:
    measured = measure(Scored(scores(0.5), scores(0.5, 0, 0.9, 0)), Judged(np.array([0], np.intp), grades(2)))
    assert measured["judged"] == {"ndcg_at_10": 1.0, "mrr": 1.0, "recall_at_100": 1.0}
    assert measured["catalogue"] == {
        "ndcg_at_10": pytest.approx(1 / math.log2(3)),
        "mrr": 0.5,
        "recall_at_100": 1.0,
    }


def test_products_that_were_not_found_are_no_results() -> None:
    nothing = np.full(4, -np.inf, np.float32)
    measured = measure(Scored(scores(0, 0), nothing), Judged(np.array([1, 3], np.intp), grades(0, 2)))
    assert set(measured["catalogue"].values()) == {0.0}
    assert measured["judged"]["mrr"] == 0.5, "equal scores rank in the order of the catalogue"


def test_recall_counts_relevant_products_among_the_first_hundred() -> None:
    catalogue = -np.arange(300, dtype=np.float32)
    judged = Judged(np.array([0, 99, 100, 200], np.intp), grades(1, 3, 2, 0))
    measured = measure(Scored(catalogue[judged.places], catalogue), judged)
    assert measured["catalogue"]["recall_at_100"] == pytest.approx(2 / 3)


def test_judged_products_that_are_not_for_sale_are_left_out_and_counted() -> None:
    products = [Product(name, name, "", "", "") for name in ("a", "b")]
    left_out: Counter[str] = Counter()
    judgements = judged_in(products, {"q": {"b": 3, "a": 0, "z": 3}, "r": {"z": 1}}, left_out)
    assert [*judgements] == ["q"]
    assert judgements["q"].places.tolist() == [0, 1]
    assert judgements["q"].grades.tolist() == [0, 3]
    assert left_out == {
        "judged products that are not in the catalogue": 2,
        "queries without a relevant product": 1,
    }


def test_bm25_is_the_formula_with_words_of_letters_and_digits() -> None:
    bm25 = PlainBm25(["red lamp", "Red-red shade for lamps", ""])
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    average = (2 + 5 + 0) / 3
    first = idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / average))
    np.testing.assert_allclose(bm25.scores("lamp!"), [first, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(bm25.scores("lamp lamp"), [2 * first, 0, 0], rtol=1e-6)
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    second = idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 5 / average))
    assert bm25.scores("RED")[1] == pytest.approx(second)


def test_rank_fusion_counts_ranks_and_leaves_out_what_the_words_do_not_match() -> None:
    fused = fuse_ranks(scores(0, 5, 0, 9), scores(0.9, 0.8, 0.2, 0.1))
    np.testing.assert_allclose(fused, [1 / 61, 1 / 62 + 1 / 62, 1 / 63, 1 / 61 + 1 / 64], rtol=1e-6)


def test_products_and_judgements_are_read_gzipped_or_not(tmp_path: Path) -> None:
    line = json.dumps({"id": 7, "title": "Lamp", "description": None, "brand": "B", "attributes": {}})
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as file:
        file.write(line + "\n")
    (tmp_path / "q.csv").write_text("query,product_id,grade,judges\nlamp,7,2,x\n")
    (product,) = read_products(tmp_path / "p.jsonl.gz")
    assert (product.item_id, product.text) == ("7", "Lamp")
    assert read_qrels(tmp_path / "q.csv") == {"lamp": {"7": 2}}


def test_bad_lines_of_both_files_are_counted_by_reason(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    (tmp_path / "p.jsonl").write_text(
        '{"id": "1", "title": "Lamp"}\n\n[1]\nnot json\n{"title": "no id"}\n{"id": "1", "title": "again"}\n'
        '{"id": "2"}\n{"id": 3, "title": ["odd"], "description": 7, "category": ["a", "b"]}\n'
    )
    products = read_products(tmp_path / "p.jsonl", counts)
    assert [(product.item_id, product.text, product.category) for product in products] == [
        ("1", "Lamp", ""),
        ("2", "", ""),
        ("3", "", "a > b"),
    ]
    (tmp_path / "q.csv").write_text(
        "\ufeffquery,product_id,grade\nlamp,1,3\nlamp,1,2.5\nlamp,2,good\nlamp,3,-1\nlamp,2\n,1,3\nlamp,3,900\n"
    )
    assert read_qrels(tmp_path / "q.csv", counts) == {"lamp": {"1": 2.5}}
    assert counts == {
        "product lines without id": 2,
        "product lines that are no JSON": 1,
        "products with the id of an earlier one": 1,
        "products without title and description": 2,
        "judgements given twice": 1,
        "judgements whose grade is no number of 0 to 10": 4,
        "judgements without query or product_id": 1,
    }


PRODUCTS = [
    {"id": str(number), "title": title, "description": description, "brand": "Lumo"}
    for number, (title, description) in enumerate(
        [
            ("red table lamp", "for the bedside"),
            ("blue floor lamp", ""),
            ("coffee mug", "holds 300 ml"),
            ("notebook sleeve 15 inch", None),
            ("garden chair", "steel, folds"),
        ]
    )
]
QRELS = [
    ("lamp", "0", "2"),
    ("lamp", "1", "2"),
    ("lamp", "2", "0"),
    ("chair", "4", "3"),
    ("chair", "77", "1"),
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PRODUCTS))
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("query", "product_id", "grade"), *QRELS])
    return ["--products", str(tmp_path / "p.jsonl"), "--qrels", str(tmp_path / "q.csv")]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["evaluate", "search", *arguments])


def test_the_command_prints_nothing_but_json_with_every_system_metric_and_interval(files: list[str]) -> None:
    result = run(*files, "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["data"]["queries"] == 2
    assert figures["data"]["left_out"] == {"judged products that are not in the catalogue": 1}
    assert {"bm25", "lexical_index", "published", "rrf", "encoder", "hybrid"} <= set(figures["systems"])
    for figures_of in (figures["systems"], figures["against_published"], figures["against_bm25"]):
        for system in figures_of.values():
            for scope in ("judged", "catalogue"):
                for metric in ("ndcg_at_10", "mrr", "recall_at_100"):
                    figure = system[scope][metric]
                    assert figure["low"] <= figure["value"] <= figure["high"]
    assert figures["systems"]["hybrid"]["judged"]["ndcg_at_10"]["value"] == 1.0
    assert "published" not in figures["against_published"]


def test_the_command_prints_tables_for_people_and_for_documents(files: list[str]) -> None:
    assert "hybrid" in run(*files).stdout
    assert "| hybrid | 1.000 [1.000, 1.000] |" in run(*files, "--markdown").stdout


def test_vectors_are_kept_where_asked_and_used_again(files: list[str], tmp_path: Path) -> None:
    first = run(*files, "--json", "-", "--cache", str(tmp_path / "kept"))
    assert [*(tmp_path / "kept").glob("*.npy")]
    assert run(*files, "--json", "-", "--cache", str(tmp_path / "kept")).stdout == first.stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.csv", "query,doc,grade\nlamp,0,3\n", "lacks the column product_id"),
        ("q.csv", "", "lacks the column"),
        ("q.csv", "query,product_id,grade\nlamp,0,best\n", "holds no judgement"),
        ("q.csv", "query,product_id,grade\nlamp,0,0\n", "no query with a grade above 0"),
        ("p.jsonl", "", "holds no product"),
        ("p.jsonl", "id,title\n1,Lamp\n", "no JSON"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_refused_in_a_sentence(
    files: list[str], tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    result = run(*files)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_truncated_gzip_file_and_a_missing_one_are_refused_in_a_sentence(
    files: list[str], tmp_path: Path
) -> None:
    for content in (gzip.compress(b'{"id": "1"}\n' * 999)[:-30], None):
        (tmp_path / "p.jsonl").unlink()
        if content:
            (tmp_path / "p.jsonl").write_bytes(content)
        result = run(*files)
        assert result.exit_code == 2
        assert "cannot be read" in " ".join(result.output.split())
        (tmp_path / "p.jsonl").touch()


def test_folders_without_a_model_that_serves_are_refused_in_a_sentence(
    files: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for option in ("--encoder", "--cross-encoder"):
        result = run(*files, option, str(tmp_path))
        assert result.exit_code == 2
        assert "holds no model.onnx" in " ".join(result.output.split())
        for name in ("model.onnx", "tokenizer.json"):
            (broken / name).write_bytes(b"not a model")
        result = run(*files, option, str(broken))
        assert result.exit_code == 2
        assert "that serves" in " ".join(result.output.split())


def test_the_command_explains_itself_with_an_example() -> None:
    assert "Example: " in run("--help").output
