"""How the reranker makes one forward of many requests; loaded by path, without Triton."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_factory.manifest import sha256
from numpy.typing import NDArray

from stream.core.ranking import CLIP, FEATURES

RERANKER = Path(__file__).parents[2] / "model_repository" / "reranker"
WIDTH = len(FEATURES)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reranker_{name}", RERANKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


batching, network = load("batching"), load("network")

lengths = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=20)


def request(lists: int, candidates: int, seed: int = 0) -> NDArray[np.float32]:
    """Features of one request, each row of its own."""
    random = np.random.default_rng(seed)
    return random.standard_normal((lists, candidates, WIDTH)).astype(np.float32)


def first_column(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stand in for the network: a row's score is its first feature, so that a mix-up shows."""
    return rows[:, 0]


@given(lengths)
def test_every_request_gets_its_own_scores_from_one_forward(shapes: list[tuple[int, int]]) -> None:
    calls = []

    def score(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(rows))
        return first_column(rows)

    requests = [request(*shape, seed) for seed, shape in enumerate(shapes)]
    answers = batching.answer(requests, WIDTH, score)
    assert len(calls) == (1 if sum(lists * candidates for lists, candidates in shapes) else 0)
    for features, scores in zip(requests, answers, strict=True):
        assert scores.shape == features.shape[:2]
        np.testing.assert_array_equal(scores, features[..., 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_request_with_a_number_that_is_none_fails_alone(bad: float) -> None:
    broken = request(1, 5)
    broken[0, 3, 2] = bad
    good = request(1, 4, 1)
    answers = batching.answer([good, broken, good], WIDTH, first_column)
    assert str(answers[1]) == "FEATURES[3, 2] is not a finite number"
    for place in (0, 2):
        np.testing.assert_array_equal(answers[place], good[..., 0])


@pytest.mark.parametrize("shape", [(1, 5, WIDTH + 1), (1, 5, 1), (5, WIDTH), (1, 5, 0)])
def test_a_request_of_another_width_fails_alone(shape: tuple[int, ...]) -> None:
    good = request(1, 4)
    answers = batching.answer([np.zeros(shape, np.float32), good], WIDTH, first_column)
    assert f"expected [lists, candidates, {WIDTH}]" in str(answers[0])
    np.testing.assert_array_equal(answers[1], good[..., 0])


def test_no_score_that_is_no_number_leaves() -> None:
    answers = batching.answer([request(1, 4)], WIDTH, lambda rows: np.full(len(rows), np.nan))
    assert isinstance(answers[0], batching.BadFeatures)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_network_gives_finite_scores_for_all_finite_features(value: float) -> None:
    served = network.Network.load(RERANKER / "1" / "weights.npz")
    assert np.isfinite(served.score(np.full((3, WIDTH), value, np.float32))).all()


def test_a_list_scores_the_same_alone_and_in_a_batch() -> None:
    served = network.Network.load(RERANKER / "1" / "weights.npz")
    requests = [request(1, candidates, candidates) for candidates in (1, 7, 200)]
    together = batching.answer(requests, WIDTH, served.score)
    for features, scores in zip(requests, together, strict=True):
        np.testing.assert_allclose(scores[0], served.score(features[0]), rtol=1e-4, atol=1e-4)


def test_weights_read_back_as_they_were_written(tmp_path: Path) -> None:
    served = network.Network.load(RERANKER / "1" / "weights.npz")
    served.save(tmp_path / "weights.npz")
    read = network.Network.load(tmp_path / "weights.npz")
    assert read.features == served.features
    for one, other in zip(served[1:], read[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_served_model_names_the_features_of_the_ranking() -> None:
    served = network.Network.load(RERANKER / "1" / "weights.npz")
    assert served.features == FEATURES
    manifest = json.loads((RERANKER / "1" / "MANIFEST.json").read_text())
    assert manifest["parameters"]["features"] == list(FEATURES)
    assert len(served.hidden) == WIDTH
    assert network.CLIP == CLIP


def test_the_configuration_says_nothing_of_the_number_of_features() -> None:
    config = (RERANKER / "config.pbtxt").read_text()
    assert "dims: [ -1, -1 ]" in config
    assert not any(name in config for name in FEATURES)


def test_weights_that_name_another_number_of_features_are_not_loaded(tmp_path: Path) -> None:
    served = network.Network.load(RERANKER / "1" / "weights.npz")
    served._replace(features=served.features[:-1]).save(tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=f"names {WIDTH - 1} features"):
        network.Network.load(tmp_path / "weights.npz")


def test_the_manifest_names_the_files_as_they_are() -> None:
    manifest = json.loads((RERANKER / "1" / "MANIFEST.json").read_text())
    for name, said in manifest["files"].items():
        assert said["sha256"] == sha256(RERANKER / "1" / name)
    assert {"origin", "licence", "made", "measured"} <= manifest.keys()
