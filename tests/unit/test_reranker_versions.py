"""Versions of the reranker: their files, and what is refused because its features are others."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.adapters.triton_models import TritonReranker
from stream.adapters.triton_servers import Servers
from stream.config import Config
from stream.core.learning import Learning, OnlineLearner
from stream.core.ranking import FEATURES
from stream.core.versions import difference
from stream.errors import ModelRefused, ModelUnavailable
from stream.models import canary, manifest, reranker_version
from stream.models.repository import DEFAULT, new_version
from stream.models.rollout import Rollout


def learner(features: tuple[str, ...] = FEATURES) -> OnlineLearner:
    """A learner of a few random lists."""
    made = OnlineLearner(features, seed=3, learning=Learning(standardising=4))
    random = np.random.default_rng(1)
    for _ in range(40):
        made.learn(random.standard_normal((15, len(features))).astype(np.float32), int(random.integers(15)))
    return made


def written(tmp_path: Path, made: OnlineLearner) -> Path:
    with new_version(tmp_path / "reranker", "7") as folder:
        reranker_version.write(folder, made, "7", origin="nothing", figures={})
    return tmp_path / "reranker" / "7"


def network(folder: Path) -> Any:
    """The weights of a version with the code that serves them."""
    path = DEFAULT / "reranker" / "network.py"
    spec = importlib.util.spec_from_file_location("served_network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Network.load(folder / "weights.npz")


def test_a_version_scores_where_it_serves_as_it_did_where_it_learnt(tmp_path: Path) -> None:
    made = learner()
    served = network(written(tmp_path, made))
    rows = np.random.default_rng(5).standard_normal((60, len(FEATURES))).astype(np.float32) * 4
    assert served.features == FEATURES
    np.testing.assert_allclose(served.score(rows), made.score(rows), rtol=1e-5, atol=1e-5)


def test_a_version_is_whole_and_answers_as_its_manifest_says(tmp_path: Path) -> None:
    folder = written(tmp_path, learner())
    served = network(folder)
    manifest.verify(folder)
    expected = manifest.read(folder).canary
    assert expected is not None
    for request, answer in zip(expected.requests, expected.answers, strict=True):
        scores = served.score(np.array(request["FEATURES"], np.float32)).astype(np.float64)
        assert canary.nearness(expected, scores, np.array(answer)) > 0


def test_a_trainer_goes_on_from_a_version_to_the_bit(tmp_path: Path) -> None:
    made = learner()
    read = reranker_version.read_learner(written(tmp_path, made))
    assert all(np.array_equal(value, read.state()[name]) for name, value in made.state().items())


def test_a_version_with_the_features_of_this_code_passes(tmp_path: Path) -> None:
    reranker_version.refuse_other_features(written(tmp_path, learner()))


def test_a_version_with_other_features_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path, learner((*FEATURES[1:], "weather")))
    with pytest.raises(ModelRefused, match=f"it lacks {FEATURES[0]}; it reads weather"):
        reranker_version.refuse_other_features(folder)


def test_the_same_features_in_another_order_are_others() -> None:
    assert difference(FEATURES[::-1], FEATURES) == "the same in another order"
    assert difference(FEATURES, FEATURES) == ""


class Versions(TritonReranker):
    """A reranker whose server is a table of features by version."""

    def __init__(self, **features: tuple[str, ...]) -> None:
        super().__init__(Servers(), version=lambda: self.serves)
        self.serves = "1"
        self.asked: list[tuple[str, str]] = []

        async def infer(tensors: Any, output: str, timeout_s: float, version: str) -> tuple[Any, str]:
            made_by = version or "1"
            self.asked.append((output, version))
            if output == "NAMES":
                return np.array([[name.encode() for name in features[f"v{made_by}"]]], np.object_), made_by
            return np.zeros(tensors[0].shape()[:2], np.float32), made_by

        self.model.infer = infer  # type: ignore[method-assign]


def test_a_version_is_asked_for_its_features_once() -> None:
    reranker = Versions(v1=FEATURES)
    for _ in range(3):
        _, version = asyncio.run(reranker.score(np.zeros((5, len(FEATURES)), np.float32), 1.0))
        assert version == "1"
    assert [output for output, _ in reranker.asked] == ["NAMES", "SCORES", "SCORES", "SCORES"]


def test_a_version_with_other_features_scores_no_list_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reranker = Versions(v1=FEATURES, v2=(*FEATURES[:-1], "weather"))
    rows = np.zeros((5, len(FEATURES)), np.float32)
    asyncio.run(reranker.score(rows, 1.0))
    reranker.serves = "2"
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(ModelUnavailable) as raised:
                asyncio.run(reranker.score(rows, 1.0))
            assert raised.value.reason == "features"
    assert [record.getMessage() for record in caplog.records if "weather" in record.getMessage()] != []
    assert len(caplog.records) == 1
    assert ("SCORES", "2") not in reranker.asked
    reranker.serves = "1"
    asyncio.run(reranker.score(rows, 1.0))


def rolled(tmp_path: Path, version: str, own: float, rivals: dict[str, float]) -> None:
    """Write a version with a figure of its own, and what others had on the same lists."""

    def measured(value: float) -> list[dict[str, Any]]:
        return [{"metric": "MRR@20", "data": f"lists before {version}", "value": value}]

    said = {name: measured(value) for name, value in rivals.items()}
    with new_version(tmp_path / "reranker", version) as folder:
        reranker_version.write(folder, learner(), version, measured=measured(own), rivals=said)


def pass_gate(tmp_path: Path, version: str) -> list[Any]:
    rollout = Rollout(Config(), tmp_path, *[None] * 3)  # type: ignore[arg-type]
    return rollout._pass_gate("reranker", "1", version, 0.0, "")


def test_the_gate_goes_by_what_the_active_version_had_on_the_lists_of_the_new_one(tmp_path: Path) -> None:
    rolled(tmp_path, "1", 0.9, {})  # on easier lists
    rolled(tmp_path, "2", 0.25, {"1": 0.24})
    rolled(tmp_path, "3", 0.23, {"1": 0.24})
    rolled(tmp_path, "4", 0.95, {})
    assert [one.gain for one in pass_gate(tmp_path, "2")] == [pytest.approx(0.01)]
    with pytest.raises(ModelRefused, match="worse by more than 0"):
        pass_gate(tmp_path, "3")
    with pytest.raises(ModelRefused, match="lacks figures"):
        pass_gate(tmp_path, "4")
