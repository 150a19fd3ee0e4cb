"""Comparing two runs tells chance from change, and the exit code tells a pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from load_results import a_run, a_saturation
from traffic.comparing import compare
from traffic.result import read, write

from stream.errors import WrongFile

ROOT = Path(__file__).parents[2]


def verdicts(*runs: object) -> dict[str, str]:
    return {change.name: change.verdict for change in compare(*runs, tolerance=0.05)}  # type: ignore[arg-type]


def test_what_differs_by_chance_alone_counts_as_the_same() -> None:
    assert "worse" not in verdicts(a_run(seed=1), a_run(seed=2)).values()


def test_what_became_slower_or_stayed_unanswered_is_worse_and_the_other_way_round_better() -> None:
    found = verdicts(a_run(), a_run(60.0, seed=2, unanswered=40))
    assert found["latency p99"] == found["freshness p50"] == "worse"
    back = verdicts(a_run(60.0), a_run(seed=2))
    assert back["latency p50"] == "better"


def test_a_change_within_the_tolerance_is_the_same() -> None:
    changes = compare(a_run(), a_run(44.0, seed=2), tolerance=0.5)
    assert {change.verdict for change in changes} <= {"same", ""}


def test_runs_of_another_load_are_not_compared() -> None:
    with pytest.raises(WrongFile, match=r"rate is 50\.0 in the first and 70\.0"):
        compare(a_run(), a_run(rate=70.0), tolerance=0.05)


def test_a_result_is_read_as_it_was_written_and_another_file_is_refused(tmp_path: Path) -> None:
    for name, made in (("run", a_run()), ("saturation", a_saturation())):
        write(made, tmp_path / name)
        assert read(tmp_path / name) == made
    (tmp_path / "other").write_text('{"kind": "run"}')
    with pytest.raises(WrongFile, match="is not what"):
        read(tmp_path / "other")


def test_the_command_tells_a_pipeline_by_its_exit_code_what_became_worse(tmp_path: Path) -> None:
    before, worse, other = (str(tmp_path / f"{name}.json") for name in ("before", "worse", "other"))
    write(a_run(), Path(before))
    write(a_run(80.0, seed=2), Path(worse))
    write(a_saturation(), Path(other))
    codes = {}
    for after in (before, worse, other):
        # As a user runs it, from the checkout's root.
        command = [sys.executable, "-m", "load_tests", "compare", before, after]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        codes[after] = done.returncode
        assert "Traceback" not in done.stderr
    assert codes == {before: 0, worse: 1, other: 2}
