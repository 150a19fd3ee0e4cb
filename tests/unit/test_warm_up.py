"""Warming up on a log: what is learnt, what is written, and that the same log gives the same version."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from small_log import GAP_MS, START_MS, hashed, read_sessions, write_log
from typer.testing import CliRunner

from stream.cli.root import app
from stream.core.learning import Learning
from stream.core.policy import DAY_MS
from stream.core.ranking import FEATURES
from stream.evaluation import warm_up as module
from stream.evaluation.sessions import Session, texts
from stream.evaluation.warm_up import Warm, blend_module, warm_up
from stream.models import manifest, reranker_version

EVENTS = 700
UNTIL_MS = START_MS + 500 * GAP_MS


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    return read_sessions(write_log(tmp_path_factory.mktemp("log") / "log.csv", EVENTS))


@pytest.fixture(scope="module")
def warm(sessions: list[Session]) -> Warm:
    return warmed(sessions)


def warmed(sessions: list[Session]) -> Warm:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEASURED_DAYS", 200 * GAP_MS / DAY_MS)
        patch.setattr(module, "MEASURED_EVERY", 2)
        learning = Learning(standardising=40)
        return warm_up(sessions, hashed(texts(sessions)), UNTIL_MS, lists=400, learning=learning)


def test_it_learns_the_features_of_the_ranking(warm: Warm) -> None:
    assert warm.learner.features == FEATURES
    assert warm.learner.lists > 60
    assert np.abs(warm.learner.linear()).max() > 0
    assert 0 < warm.figures["mrr_at_20"] < warm.figures["hr_at_20"] <= 1


def test_nothing_after_the_end_is_learnt_from(sessions: list[Session], warm: Warm) -> None:
    before = [session for session in sessions if session.minute_ms < UNTIL_MS]
    assert len(before) < len(sessions)
    again = warmed(before)
    states = warm.learner.state(), again.learner.state()
    assert all(np.array_equal(values, states[1][name]) for name, values in states[0].items())


def test_the_linear_weights_are_written_as_a_module_that_reads_back(warm: Warm, tmp_path: Path) -> None:
    path = tmp_path / "blend.py"
    path.write_text(blend_module(warm.learner))
    written = runpy.run_path(str(path))
    network = warm.learner.network()
    for name, values in (
        ("CENTRE", network.centre),
        ("SPREAD", network.spread),
        ("WEIGHTS", warm.learner.linear()),
    ):
        np.testing.assert_allclose(written[name], values, rtol=1e-5)


def test_the_command_writes_a_version_that_names_what_it_was_made_of(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", 2 * EVENTS)
    repository = tmp_path / "models"
    (repository / "reranker" / "4").mkdir(parents=True)
    options = (
        "--events",
        str(log),
        "--until",
        "2024-02-01",
        "--lists",
        "1000",
        "--blend",
        str(tmp_path / "b.py"),
    )
    options += ("--repository", str(repository), "--cache", str(tmp_path / "cache"), "--json")
    result = CliRunner().invoke(app, ["trainer", "warm-up", *options])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["version"] == "5"
    folder = Path(found["folder"])
    manifest.verify(folder)
    said = manifest.read(folder)
    assert said.parameters["features"] == list(FEATURES)
    assert said.training["trained_until"] == "2024-02-01"
    assert said.data_sha256 == manifest.sha256(log)
    assert {one.metric for one in said.measured} == {"next item HR@20", "next item MRR@20"}
    reranker_version.refuse_other_features(folder)
    assert reranker_version.read_learner(folder).lists == found["lists_learnt"]
    assert (tmp_path / "b.py").is_file()


def test_a_time_that_is_none_is_refused_with_an_example(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", 50)
    result = CliRunner().invoke(app, ["trainer", "warm-up", "--events", str(log), "--until", "june"])
    assert result.exit_code == 2
    assert "2011-06-01" in result.output
