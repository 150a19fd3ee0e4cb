"""Training the reranker: a replay that peeks at nothing, and weights that learn."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest
from model_factory import reranker, reranker_training
from model_factory.reranker_training import Lists

from stream.core.ranking import FEATURES
from stream.evaluation.baselines import ItemKnn, Popularity
from stream.evaluation.log import read_online_retail
from stream.evaluation.replay import ListAsked, replay
from stream.evaluation.sessions import Session
from stream.importers.online_retail import COLUMNS

LINES = [
    # invoice, stock code, time, customer
    ("1", "10001a", "2010-01-01 10:00", "7"),
    ("1", "10002", "2010-01-01 10:00", "7"),
    ("1", "10001A", "2010-01-01 10:00", "7"),
    ("1", "10003", "2010-01-01 10:00", "7"),
    ("2", "10001A", "2010-01-01 10:00", "8"),
    ("2", "10002", "2010-01-01 10:00", "8"),
    ("3", "10001A", "2010-01-01 10:01", ""),
    ("3", "10002", "2010-01-01 10:01", ""),
    ("4", "10001A", "2010-01-02 10:00", "7"),
    ("4", "10002", "2010-01-02 10:00", "7"),
]


@pytest.fixture
def sessions(tmp_path: Path) -> list[Session]:
    path = tmp_path / "events.csv.gz"
    rows = [
        f"{invoice},{code},THING {code},1,{time},2.5,{customer},France"
        for invoice, code, time, customer in LINES
    ]
    path.write_bytes(gzip.compress("\n".join([",".join(COLUMNS), *rows, ""]).encode()))
    return read_online_retail([path])


@pytest.fixture
def asked(sessions: list[Session]) -> dict[str, list[ListAsked]]:
    lists: dict[str, list[ListAsked]] = {}
    for one in replay(sessions, {}, lambda session: True):
        lists.setdefault(one.session.session_id, []).append(one)
    return lists


# The replay


def test_a_session_is_an_invoice_without_repeats(sessions: list[Session]) -> None:
    assert [session.items for session in sessions] == [
        ["10001A", "10002", "10003"],
        ["10001A", "10002"],
        ["10001A", "10002"],
        ["10001A", "10002"],
    ]
    assert [session.user_id for session in sessions] == ["7", "8", "", "7"]


def test_after_every_line_but_the_last_a_list_is_asked_for(asked: dict[str, list[ListAsked]]) -> None:
    assert [(one.shown, one.target) for one in asked["1"]] == [
        (("10001A",), "10002"),
        (("10001A", "10002"), "10003"),
    ]


def test_sessions_of_one_minute_know_nothing_of_one_another(asked: dict[str, list[ListAsked]]) -> None:
    for invoice in ("1", "2"):
        for one in asked[invoice]:
            assert not one.context.rows
            assert len(one.candidates) == 0


def test_the_next_minute_has_learnt_from_them(asked: dict[str, list[ListAsked]]) -> None:
    [one] = asked["3"]
    names = [one.context.items.at(int(slot)).item_id for slot in one.candidates.slots]
    place = names.index("10002")
    assert one.candidates.forward[0, place] == pytest.approx(2.0, rel=1e-3)


def test_a_customer_is_remembered_and_a_guest_is_not(asked: dict[str, list[ListAsked]]) -> None:
    assert not asked["3"][0].context.state.owned[:-1]
    [one] = asked["4"]
    assert {owned.item_id for owned in one.context.state.owned} == {"10001A", "10002", "10003"}


# Learning


def lists_where_the_larger_first_feature_is_right(count: int = 400, width: int = 3) -> Lists:
    random = np.random.default_rng(0)
    lists = Lists()
    for _ in range(count):
        rows = random.standard_normal((int(random.integers(2, 12)), width)).astype(np.float32)
        lists.add(rows, int(rows[:, 0].argmax()))
    return lists


@pytest.mark.parametrize("hidden", [0, 8])
def test_training_finds_what_decides(hidden: int) -> None:
    lists = lists_where_the_larger_first_feature_is_right()
    centre, spread = reranker_training.standardisation(lists, seed=0)
    weights = reranker_training.fit(lists, centre, spread, hidden=hidden, epochs=20, seed=0)
    right = 0
    for rows, target in zip(lists.features, lists.targets, strict=True):
        scaled = (rows.astype(np.float32) - centre) / spread
        scores = scaled @ weights["linear"]
        if hidden:
            scores = scores + np.maximum(scaled @ weights["hidden"] + weights["bias"], 0) @ weights["output"]
        right += int(scores.argmax()) == target
    assert right > 0.9 * len(lists.targets)


def test_the_same_seed_gives_the_same_weights() -> None:
    lists = lists_where_the_larger_first_feature_is_right(50)
    centre, spread = reranker_training.standardisation(lists, seed=3)
    one, other = (reranker_training.fit(lists, centre, spread, hidden=4, epochs=2, seed=3) for _ in range(2))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_gradients_are_those_of_the_loss() -> None:
    random = np.random.default_rng(1)
    starts, targets = np.array([0, 4, 9]), np.array([2, 5])
    rows = random.standard_normal((9, 3)).astype(np.float32)
    weights = {
        "linear": random.standard_normal(3).astype(np.float32),
        "hidden": random.standard_normal((3, 4)).astype(np.float32),
        "bias": random.standard_normal(4).astype(np.float32),
        "output": random.standard_normal(4).astype(np.float32),
    }

    def loss() -> float:
        active = np.maximum(rows.astype(float) @ weights["hidden"] + weights["bias"], 0)
        scores = active @ weights["output"] + rows @ weights["linear"]
        lists = [scores[0:4], scores[4:9]]
        return float(
            np.mean(
                [np.log(np.exp(part).sum()) - scores[at] for part, at in zip(lists, targets, strict=True)]
            )
        )

    gradients = reranker_training._gradients(weights, rows, starts, targets)
    for name, values in weights.items():
        for place in np.ndindex(values.shape):
            kept, step = values[place], 1e-3
            values[place] = kept + step
            above = loss()
            values[place] = kept - step
            below = loss()
            values[place] = kept
            assert gradients[name][place] == pytest.approx((above - below) / (2 * step), abs=2e-3)


def test_a_feature_that_never_varies_does_no_harm() -> None:
    lists = Lists()
    lists.add(np.full((5, 2), 3.0, np.float32), 0)
    centre, spread = reranker_training.standardisation(lists, seed=0)
    assert spread.tolist() == [1.0, 1.0]
    assert centre.tolist() == [3.0, 3.0]


# What is written


def test_the_linear_weights_are_written_as_a_module_that_reads_back(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    centre, spread, weights = random.standard_normal((3, len(FEATURES))).astype(np.float32)
    reranker._write_blend(tmp_path / "blend.py", centre, spread, weights)
    written = runpy.run_path(str(tmp_path / "blend.py"))
    for name, values in (("CENTRE", centre), ("SPREAD", spread), ("WEIGHTS", weights)):
        np.testing.assert_allclose(written[name], values, rtol=1e-5)


# The plain rankers


def test_popularity_counts_sessions() -> None:
    popular = Popularity()
    for items in (["a", "b"], ["a"], ["a", "c"], ["b"]):
        popular.learn(items)
    assert popular.rank(["c"]) == ["a", "b"]


def test_item_knn_finds_what_shared_a_session() -> None:
    knn = ItemKnn()
    for items in (["a", "b"], ["a", "b"], ["a", "c"], ["d", "e"]):
        knn.learn(items)
    assert knn.rank(["a"]) == ["b", "c"]


def test_item_knn_with_recency_follows_the_newest_item() -> None:
    knn = ItemKnn(recency=0.1)
    for items in (["a", "x"], ["b", "y"]):
        knn.learn(items)
    assert knn.rank(["a", "b"]) == ["y", "x"]
