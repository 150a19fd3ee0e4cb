"""Which versions serve, and what keeps one from serving: records, manifests, the gate, the canary."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_factory import manifest as written
from model_factory.record import measured

from stream.core import versions
from stream.core.versions import Serving
from stream.errors import InvalidMessage, ModelRefused
from stream.models import canary, manifest
from stream.models.gate import gate
from stream.models.manifest import Canary, Measured
from stream.models.model_versions import ModelVersions
from stream.models.repository import new_version, version_folder
from stream.models.repository import versions as on_disk


def test_a_record_is_read_as_it_was_written_and_by_older_and_newer_releases() -> None:
    serving = Serving("2", previous="1", at_ms=7, forced="agreed")
    assert versions.decode(versions.encode(serving)) == serving
    assert versions.decode(b'{"active":"3","unheard_of":1}') == Serving("3")
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"active":3}'):
        with pytest.raises(InvalidMessage):
            versions.decode(damaged)


def test_at_most_two_versions_are_kept_and_the_active_one_first() -> None:
    assert Serving("1").kept == ("1",)
    assert Serving("2", previous="1").kept == ("2", "1")
    assert Serving("2", previous="1", candidate="3").kept == ("2", "3")


def test_versions_are_ordered_by_number() -> None:
    assert sorted(["10", "9", "x", "1"], key=versions.order) == ["x", "1", "9", "10"]


def test_a_worker_goes_by_the_newest_record_and_a_damaged_one_changes_nothing() -> None:
    told: list[tuple[str, str]] = []
    known = ModelVersions(lambda model, serving: told.append((model, serving.active)))
    assert (known.active("encoder"), "encoder" in known) == ("", False)
    first, second = (versions.encode(Serving(version)) for version in ("1", "2"))
    known.apply([(b"encoder", first), (b"reranker", first), (b"encoder", first), (None, first)])
    known.apply([(b"encoder", second), (b"encoder", b"no record"), (b"encoder", None)])
    assert told == [("encoder", "1"), ("reranker", "1"), ("encoder", "2")]
    assert (known.active("encoder"), known.active("reranker")) == ("2", "1")


# --- figures


def figures(**values: float) -> list[Measured]:
    return [Measured(metric, "data", value) for metric, value in values.items()]


def test_a_better_version_passes_and_says_by_how_much() -> None:
    found = gate(figures(ndcg=0.72, mrr=0.5), figures(ndcg=0.70), 0.0)
    assert [(one.metric, round(one.gain, 6)) for one in found] == [("ndcg", 0.02)]


@pytest.mark.parametrize(("value", "passes"), [(0.70, True), (0.695, True), (0.68, False)])
def test_a_worse_version_passes_only_within_the_margin(value: float, passes: bool) -> None:
    if passes:
        gate(figures(ndcg=value), figures(ndcg=0.70), 0.01)
        return
    with pytest.raises(ModelRefused, match=r"ndcg: 0\.6800, the active one has 0\.7000"):
        gate(figures(ndcg=value), figures(ndcg=0.70), 0.01)


def test_one_worse_figure_among_better_ones_is_enough_to_refuse() -> None:
    with pytest.raises(ModelRefused, match="mrr"):
        gate(figures(ndcg=0.9, mrr=0.1), figures(ndcg=0.7, mrr=0.5), 0.01)


def test_less_is_better_where_the_figure_says_so() -> None:
    slow, fast = (Measured("ms", "data", value, higher_is_better=False) for value in (9.0, 3.0))
    assert gate([fast], [slow], 0.0)[0].gain == 6.0
    with pytest.raises(ModelRefused):
        gate([slow], [fast], 0.0)


@pytest.mark.parametrize(
    ("candidate", "active"),
    [
        ([], figures(ndcg=0.7)),
        (figures(ndcg=0.7), []),
        (figures(ndcg=0.7), figures(ndcg=0.7, mrr=0.5)),
        ([Measured("ndcg", "other data", 0.9)], figures(ndcg=0.7)),
        (figures(ndcg=float("nan")), figures(ndcg=0.7)),
    ],
    ids=["no figures", "nothing to compare with", "one is missing", "other data", "not a number"],
)
def test_figures_that_cannot_be_compared_refuse(candidate: list[Measured], active: list[Measured]) -> None:
    with pytest.raises(ModelRefused):
        gate(candidate, active, 1.0)


# --- files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model `toy` with version 1."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "config.pbtxt").write_text("")
    with new_version(folder, "1") as making:
        (making / "weights.bin").write_bytes(b"12345")
        written.write(
            making,
            ["weights.bin"],
            ["numpy"],
            model="toy",
            version="1",
            origin="nothing",
            licence="Apache-2.0",
            made="by hand",
            data_sha256="abc",
            parameters={"layers": 3},
            measured=[{"metric": "ndcg", "data": "d", "value": 0.5, "interval": [0.4, 0.6]}],
            figures={"more": 1},
        )
    return folder


def test_a_version_is_as_its_manifest_says(model: Path) -> None:
    assert manifest.faults(model / "1") == []
    manifest.verify(model / "1")
    said = manifest.read(model / "1")
    assert (said.model, said.data_sha256, said.measured[0].interval) == ("toy", "abc", (0.4, 0.6))


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda folder: (folder / "weights.bin").write_bytes(b"12346"), "sha256"),
        (lambda folder: (folder / "weights.bin").unlink(), "missing"),
        (lambda folder: (folder / "model.py").write_text("evil"), "not in the manifest"),
    ],
    ids=["changed", "missing", "added"],
)
def test_a_file_that_is_not_as_its_manifest_says_is_named(model: Path, harm: Any, word: str) -> None:
    harm(model / "1")
    [fault] = manifest.faults(model / "1")
    assert word in fault
    assert str(model / "1") in fault
    with pytest.raises(ModelRefused, match=word):
        manifest.verify(model / "1")


@pytest.mark.parametrize("text", [None, "", "{}", '{"files": 3}'])
def test_a_version_without_a_manifest_is_refused(model: Path, text: str | None) -> None:
    (model / "1" / manifest.NAME).unlink()
    if text is not None:
        (model / "1" / manifest.NAME).write_text(text)
    with pytest.raises(ModelRefused, match=manifest.NAME):
        manifest.read(model / "1")


def test_the_card_says_what_the_manifest_says(model: Path) -> None:
    said = (model / "1" / manifest.CARD).read_text()
    for part in (
        "toy, version 1",
        "Apache-2.0",
        "abc",
        "layers",
        "0.5000",
        "0.4000 to 0.6000",
        "weights.bin",
    ):
        assert part in said


def test_changing_a_manifest_keeps_the_rest_and_hashes_anew(model: Path) -> None:
    (model / "1" / "weights.bin").write_bytes(b"other")
    written.update(model / "1", licence="MIT")
    said = manifest.read(model / "1")
    assert (said.licence, said.origin) == ("MIT", "nothing")
    assert manifest.faults(model / "1") == []


def test_a_version_comes_whole_or_not_at_all(model: Path) -> None:
    def interrupted() -> None:
        with new_version(model, "2") as making:
            (making / "weights.bin").write_bytes(b"half")
            assert on_disk(model.parent, "toy") == ["1"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert on_disk(model.parent, "toy") == ["1"]
    assert sorted(path.name for path in model.iterdir()) == ["1", "config.pbtxt"]


@pytest.mark.parametrize("version", ["1", "0", "two", "-1"])
def test_a_version_is_never_written_over_and_always_a_number(model: Path, version: str) -> None:
    with pytest.raises(ModelRefused), new_version(model, version):
        pass


def test_what_is_not_there_is_named_with_what_is(model: Path) -> None:
    with pytest.raises(ModelRefused, match="no version 7; it has: 1"):
        version_folder(model.parent, "toy", "7")
    with pytest.raises(ModelRefused, match="no model hat; it has: toy"):
        version_folder(model.parent, "hat", "1")


# --- answers

ASKED = Canary(
    inputs={"TEXT": "BYTES"},
    output="EMBEDDING",
    requests=[{"TEXT": ["a"]}, {"TEXT": ["b"]}],
    answers=[[1.0, 0.0], [0.0, 1.0]],
    compare="cosine",
    limit=0.99,
)


def answering(*answers: Any) -> canary.Ask:
    given = iter(answers)

    async def ask(inputs: canary.Inputs, output: str) -> Any:
        assert output == "EMBEDDING"
        [(name, datatype, values)] = inputs
        assert (name, datatype, values.shape) == ("TEXT", "BYTES", (1, 1))
        return np.array([next(given)], np.float32)

    return ask


def test_right_answers_pass_and_the_worst_of_them_is_told() -> None:
    assert asyncio.run(canary.check(ASKED, answering([2.0, 0.0], [0.1, 1.0]))) == pytest.approx(0.00504, 1e-2)


@pytest.mark.parametrize(
    "wrong",
    [[1.0, 0.0], [np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0], [1.0, 0.0, 0.0]],
    ids=["another", "not a number", "not finite", "zero", "another size"],
)
def test_a_wrong_answer_refuses(wrong: list[float]) -> None:
    with pytest.raises(ModelRefused, match="canary 2"):
        asyncio.run(canary.check(ASKED, answering([1.0, 0.0], wrong)))


def test_scores_are_compared_one_by_one() -> None:
    scores = Canary({"X": "FP32"}, "Y", [{"X": [[1.0]]}], [[0.5, 0.25]], "difference", 0.01)
    assert canary.nearness(scores, np.array([0.505, 0.25]), np.array([0.5, 0.25])) > 0
    assert canary.nearness(scores, np.array([0.52, 0.25]), np.array([0.5, 0.25])) < 0


# --- figures of `evaluate` into manifests


def test_figures_are_taken_for_the_model_that_they_are_of() -> None:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    report = json.loads(
        json.dumps(
            {
                "data": {"sha256": "d"},
                "models": {"published": {"sha256": "a"}, "encoder": {"sha256": "b"}, "cross_encoder": None},
                "systems": {
                    "published": {"judged": {"ndcg_at_10": interval(0.5)}},
                    "encoder": {"judged": {"ndcg_at_10": interval(0.6), "mrr": interval(0.9)}},
                },
            }
        )
    )
    published, ours = (list(measured(report, sha256)) for sha256 in ("a", "b"))
    assert [(one.value, one.data) for one in published + ours] == [(0.5, "d"), (0.6, "d")]
    assert published[0].metric == ours[0].metric
    assert list(measured(report, "c")) == []
