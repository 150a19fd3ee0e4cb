"""What search is worth under attack, and how that is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from model_factory import served
from model_factory.evaluation.attacks import CLIMBING, PRODUCT_ATTACKS, QUERY_ATTACKS
from model_factory.evaluation.inputs import Product
from model_factory.evaluation.robustness import Catalogue, evaluate_robustness
from typer.testing import CliRunner

TITLES = (
    "red table lamp",
    "blue floor lamp",
    "coffee mug black",
    "notebook sleeve",
    "garden chair",
    "oak shelf",
)
QRELS = [("lamp", "0", "2"), ("lamp", "1", "2"), ("lamp", "2", "0"), ("chair", "4", "3")]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rows = [
        {"id": str(n), "title": title, "description": "", "brand": "Lumo"} for n, title in enumerate(TITLES)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("query", "product_id", "grade"), *QRELS])
    (tmp_path / "o.csv").write_text("product_title,cluster_id\nred lamp 40 w,1\n-,2\n")
    return ["--products", str(tmp_path / "p.jsonl"), "--qrels", str(tmp_path / "q.csv")]


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(evaluate_robustness)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_tells_what_is_lost_and_regained(files: list[str], tmp_path: Path) -> None:
    result = run(
        *files, "--offers", str(tmp_path / "o.csv"), "--share", "0.3", "--repeats", "1", "--json", "-"
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    shown = figures["queries"]["attacks"]
    assert shown.keys() == {"none", *QUERY_ATTACKS}
    assert shown["none"]["changed"] == 0.0
    clean, hidden = (shown[name]["hybrid"]["judged"] for name in ("none", "homoglyphs"))
    assert clean["attacked"] == clean["defended"] == hidden["defended"]
    assert figures["products"]["attackers"] == 2
    families = figures["products"]["families"]
    assert families.keys() == {"none", *CLIMBING}
    for defence in ("undefended", "defended"):
        risen = families["stuffed_repeated"]["hybrid"][defence]["attackers_in_top_ten"]
        assert risen["low"] <= risen["value"] <= risen["high"]
    assert families["stuffed_repeated"]["held_back"] == 2
    assert families["stuffed_repeated"]["hybrid"]["defended"]["attackers_in_top_ten"]["value"] == 0
    assert figures["detector"]["honest"]["products"]["held_back"] == 0
    assert figures["detector"]["honest"]["offers"] == {"texts": 2, "held_back": 1, "share": 0.5}
    assert figures["detector"]["families"].keys() == PRODUCT_ATTACKS.keys()
    assert figures["detector"]["families"]["instructions"]["recall"] == 1.0


def test_an_encoder_is_compared_with_another_query_by_query(files: list[str]) -> None:
    same = ("--encoder", str(served.ENCODER))
    result = run(*files, *same, *same, "--repeats", "1", "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["before"]["queries"] == figures["queries"]
    gained = figures["before"]["gained"]
    assert gained.keys() == {"none", *QUERY_ATTACKS}
    assert gained["homoglyphs"]["hybrid"]["judged"]["defended"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "against" in run(*files, *same, *same, "--repeats", "1", "--markdown").stdout
    assert run(*files, *same, *same, *same).exit_code == 2


def test_the_same_seed_gives_the_same_figures(files: list[str]) -> None:
    arguments = (*files, "--repeats", "1", "--seed", "5", "--json", "-")
    assert run(*arguments).stdout == run(*arguments).stdout


def test_tables_are_printed_for_people_and_for_documents(files: list[str]) -> None:
    shown = run(*files, "--repeats", "1", "--markdown").stdout
    assert "| neighbour_key |" in shown
    assert "| stuffed_sentence* |" in shown


@pytest.mark.parametrize("option", ["--products", "--qrels", "--encoder"])
def test_a_missing_file_is_named(files: list[str], option: str) -> None:
    result = run(*files, option, "nowhere")
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert "Traceback" not in result.output


def test_the_command_explains_itself_with_an_example() -> None:
    assert "Example: " in run("--help").output


def test_what_is_held_back_is_not_found_and_ranks_last_among_the_judged() -> None:
    products = [Product(str(n), title, "", "", "") for n, title in enumerate(TITLES)]
    vectors = np.eye(len(TITLES), 8, dtype=np.float32)
    catalogue = Catalogue(products, vectors, None)
    judged = np.array([0, 1], np.intp)
    open_ = catalogue.search("red lamp", vectors[0], judged)["hybrid"]
    assert np.argmax(open_.catalogue) == 0
    catalogue.allowed[0] = False
    held = catalogue.search("red lamp", vectors[0], judged)["hybrid"]
    assert held.catalogue[0] == -np.inf
    assert held.judged[0] < held.judged[1]
