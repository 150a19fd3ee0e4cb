"""The demo, run as a newcomer runs it, on a stack of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.local.processes import kill_marked
from stream.local.stack import Stack

pytestmark = pytest.mark.servers


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMREC_")}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "stream.demo", "--rate", "20", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "STREAMREC_HOME": str(folder)},
        cwd=folder,
    )


def test_the_demo_shows_lists_sums_up_writes_its_figures_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = _start(tmp_path, "--seconds", "6", "--json", "figures.json")
    out, err = process.communicate(timeout=800)
    assert process.returncode == 0, out + err
    assert "SYNTHETIC shop" in out
    assert "looked at" in out
    assert " -> list after " in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"events", "users", "lists", "dead_letters", "freshness_ms", "triton", "degraded", "data"} <= set(
        figures
    )
    assert 0 < figures["lists"] <= figures["events"]
    assert figures["unanswered"] == 0
    assert figures["dead_letters"] == 0
    assert figures["freshness_ms"].keys() == {"p50", "p95", "p99", "max"}
    assert 0 < figures["freshness_ms"]["p50"] <= figures["freshness_ms"]["max"]
    assert figures["triton"]["mean_batch"] >= 1.0
    assert "SYNTHETIC" in figures["data"]
    assert f"{figures['events']} events of {figures['users']} shoppers" in out
    assert not Stack(tmp_path).is_running()
    assert kill_marked(tmp_path) == 0


def test_ctrl_c_ends_the_demo_with_a_summary_and_keep_leaves_the_stack_up(tmp_path: Path) -> None:
    process = _start(tmp_path, "--seconds", "600", "--keep")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if " -> list after " in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "events of" in out
        assert f"export STREAMREC_HOME={tmp_path}" in out
        stack = Stack(tmp_path)
        assert stack.status().state == "up"
        assert f"export STREAMREC_KAFKA__BOOTSTRAP={stack.endpoints.kafka}" in out
    finally:
        process.kill()
        Stack(tmp_path).down(now=True)
    assert kill_marked(tmp_path) == 0


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    process = _start(tmp_path, "--data", "nowhere")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "'nowhere' does not exist" in err
