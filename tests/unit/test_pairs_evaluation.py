"""How finding the same product in other words is measured."""

import csv
import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_factory import cli
from model_factory.evaluation.inputs import Offer, read_offers
from model_factory.evaluation.pairs import in_random_order, rank
from model_factory.evaluation.titles import Likeness, TfIdf, characters, plain_words
from typer.testing import CliRunner


def places(*values: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array(values, np.intp)


def scores(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_tf_idf_is_the_cosine_of_counts_times_smoothed_idf() -> None:
    found = TfIdf([["a", "b"], ["a", "a"], ["c"], []]).scores(places(0))[0]
    a, b = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    np.testing.assert_allclose(found, [1.0, a / math.hypot(a, b), 0.0, 0.0], rtol=1e-6)


def test_tf_idf_can_count_the_idf_more_and_some_words_less() -> None:
    weighted = TfIdf([["a", "b"], ["a", "c"]], power=3, weight=lambda word: 0.5 if word == "b" else 1.0)
    found = weighted.scores(places(0))[0]
    b = c = (math.log(3 / 2) + 1) ** 3  # the idf of a is 1
    assert found[1] == pytest.approx(1 / (math.hypot(1, 0.5 * b) * math.hypot(1, c)))


def test_an_empty_title_is_like_nothing_not_even_itself() -> None:
    assert TfIdf([[], ["a"]]).scores(places(0))[0].tolist() == [0.0, 0.0]


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=8), st.data())
def test_tf_idf_equals_dense_arithmetic(bags: list[list[str]], data: st.DataObject) -> None:
    letters = "abcdef"
    counts = np.array([[bag.count(letter) for letter in letters] for bag in bags], float)
    table = counts * (np.log((1 + len(bags)) / (1 + (counts > 0).sum(axis=0))) + 1)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    some = places(*data.draw(st.lists(st.integers(0, len(bags) - 1), min_size=1)))
    np.testing.assert_allclose(TfIdf(bags).scores(some), table[some] @ table.T, atol=1e-6)


def test_words_and_characters_are_cut_as_most_tf_idf_cuts_them() -> None:
    assert plain_words("LG 50-PB690V a TV") == ["lg", "50", "pb690v", "tv"]
    assert characters("ab c") == [" ab", "ab ", " ab ", " ab ", " c ", " c ", " c "]


TITLES = [
    "sharp lc 55cug8362ks 55 inch television",
    "sharp lc 49cfg6352 49 inch television",
    "lc55cug8362ks/uk",
    "lc55cug8362 tv",
    "huawei nova 2 gold",
    "huawei nova 3 gold",
    "nova 2 by huawei in black",
]


def nearest(titles: list[str], place: int) -> int:
    found = Likeness(titles).scores(places(place))[0]
    found[place] = -1
    return int(found.argmax())


def test_a_model_number_is_known_in_two_words_and_with_another_ending() -> None:
    assert nearest(TITLES[:3], 0) == 2
    assert nearest([TITLES[3], *TITLES[1:3]], 0) == 2


def test_the_number_behind_a_name_says_more_than_a_colour() -> None:
    assert nearest(TITLES[4:], 0) == 2


def test_a_number_and_its_unit_are_one_word_however_written() -> None:
    titles = ["phone x 64 gb", "phone x 64gb", "phone x 32gb"]
    found = Likeness(titles).scores(places(0))[0]
    assert found[1] > found[2]


def test_a_model_number_inside_a_longer_word_is_known() -> None:
    assert nearest(["bx80684i78700k", "core i7 8700k", "core i5 8400"], 0) == 1


def test_amounts_of_one_unit_that_disagree_make_titles_less_alike() -> None:
    titles = ["zoom x 24.2mp red", "zoom x 24mp", "zoom x 18mp"]
    cosines = Likeness([title.replace("mp", "") for title in titles]).scores(places(0))[0]
    found = Likeness(titles).scores(places(0))[0]
    assert found[1] > found[2]
    assert found[0] == pytest.approx(1.0)
    assert cosines[1] == pytest.approx(cosines[2]), "without the unit, both are as far"


def test_the_rank_is_of_the_best_of_the_cluster_and_leaves_the_query_out() -> None:
    assert rank(scores(0.9, 1.0, 0.3, 0.5), 1, places(1, 2, 3)) == 2
    assert rank(scores(0.3, 1.0, 0.9, 0.5), 1, places(1, 2, 3)) == 1


def test_equal_scores_rank_in_the_order_of_the_offers() -> None:
    assert rank(scores(0.5, 1.0, 0.5, 0.5), 1, places(1, 0)) == 1
    assert rank(scores(0.5, 1.0, 0.5, 0.5), 1, places(1, 3)) == 3
    assert rank(scores(0.5, 1.0, 0.5000000001, 0.5), 1, places(1, 3)) == 3, "beyond six digits is noise"


def test_ties_favour_no_order_of_the_file() -> None:
    offers = [Offer(str(number), "same", "c", "all") for number in range(50)]
    shuffled = in_random_order(offers, 1)
    assert shuffled == in_random_order(offers[::-1], 1)
    assert shuffled != offers
    assert sorted(shuffled, key=lambda offer: int(offer.offer_id)) == offers


def test_bad_offers_are_counted_by_reason_and_columns_may_be_missing(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    (tmp_path / "o.csv").write_text(
        "product_id,product_title,cluster_id\n1,Lamp,7\n1,Lamp again,7\n2,,7\n3,Lamp,\n,no id,8\n4\n"
    )
    assert read_offers(tmp_path / "o.csv", counts) == [
        Offer("1", "Lamp", "7", "all"),
        Offer("row 4", "no id", "8", "all"),
    ]
    assert counts == {
        "offers with the product_id of an earlier one": 1,
        "offers without product_title or cluster_id": 3,
    }


ROWS = [
    (1, "canon eos 4000d black", 1, "Cameras"),
    (2, "canon eos 4000d + 18-55mm", 1, "Cameras"),
    (3, "canon eos 250d black", 2, "Cameras"),
    (4, "intel core i7 8700k", 3, "CPUs"),
    (5, "i7-8700k intel boxed", 3, "CPUs"),
    (6, "i7-8700k intel boxed", 3, "CPUs"),
]


def write(path: Path, rows: list[tuple[Any, ...]], *header: str) -> list[str]:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return ["--offers", str(path)]


@pytest.fixture
def offers(tmp_path: Path) -> list[str]:
    return write(tmp_path / "o.csv.gz", ROWS, "product_id", "product_title", "cluster_id", "category_label")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["evaluate", "pairs", *arguments])


def test_the_command_prints_nothing_but_json_with_every_system_and_category(offers: list[str]) -> None:
    result = run(*offers, "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["data"]["queries_by_category"] == {"CPUs": 3, "Cameras": 2}
    assert figures["data"]["left_out"] == {}
    assert set(figures["systems"]) == {
        "tfidf_words", "tfidf_characters", "published", "encoder", "lexical", "fused",
    }  # fmt: skip
    for system in figures["systems"].values():
        assert set(system) == {"all", "CPUs", "Cameras"}
        for metrics in system.values():
            for figure in metrics.values():
                assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert figures["systems"]["fused"]["all"]["accuracy_at_1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert figures["against_tfidf_words"]["fused"]["all"]["accuracy_at_1"]["low"] >= 0
    assert run(*offers, "--json", "-").stdout == result.stdout, "the same twice"


def test_the_command_prints_tables_for_people_and_for_documents(offers: list[str]) -> None:
    assert "Cameras" in run(*offers).stdout
    assert "| lexical likeness + encoder | 1.000 [1.000, 1.000] |" in run(*offers, "--markdown").stdout


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (ROWS, ("id", "name", "cluster", "x"), "lacks the column product_title, cluster_id"),
        ([], ("product_title", "cluster_id"), "holds no offer"),
        ([("", 3)], ("product_title", "cluster_id"), "1 offers without product_title or cluster_id"),
        ([("a", 3), ("b", 4)], ("product_title", "cluster_id"), "no two offers share a cluster_id"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_refused_in_a_sentence(
    tmp_path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...], said: str
) -> None:
    result = run(*write(tmp_path / "o.csv.gz", rows, *header))
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_what_could_not_be_written_afterwards_is_refused_before(offers: list[str], tmp_path: Path) -> None:
    result = run(*offers, "--json", str(tmp_path / "nowhere" / "f.json"))
    assert result.exit_code == 2
    assert "there is no folder" in " ".join(result.output.split())


def test_figures_are_drawn_with_their_intervals(offers: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws; comes with the extra [train]")
    assert run(*offers, "--plot", str(tmp_path / "p.png")).exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_explains_itself_with_an_example() -> None:
    assert "Example: " in run("--help").output
