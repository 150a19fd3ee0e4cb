"""Faults by a seeded schedule lose nothing and double nothing; a build that loses something is found out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faults.engine import BrokenEngine
from faults.kinds import terms
from faults.run import break_and_judge
from faults.schedule import plan
from faults.story import tell

from stream.adapters.kafka_clients import admin

pytestmark = pytest.mark.servers
HASTY = str(Path(__file__).with_name("hasty_worker.py"))
KINDS = (
    *("kill-worker", "zombie-worker", "remove-worker", "freeze-kafka", "full-redis", "cut-replies-of-redis"),
    *("loading-redis", "empty-redis", "kill-model", "nan-from-triton", "half-open-triton"),
    "cut-replies-of-kafka",
)
"""One or more for each part; servers that are killed and come back are what the other modules test."""


def test_a_short_run_of_faults_makes_no_difference(stack: Any, tmp_path: Path) -> None:
    known = terms()
    planned = plan(7, len(KINDS), 15.0, {kind: known[kind] for kind in KINDS})
    outcome = asyncio.run(break_and_judge(stack, tmp_path, planned, seed=7))
    assert outcome.verdict.differences == [], "\n".join(tell(outcome.verdict, outcome.evidence))
    assert len(outcome.evidence.incidents) == len(KINDS)
    assert outcome.evidence.acknowledged
    assert outcome.evidence.letters
    assert outcome.evidence.increments
    assert outcome.evidence.commits
    # Either a worker ended to be started again, or partitions changed hands just then and were taken anew.
    logs = [log.read_text() for log in tmp_path.glob("worker-*.log")]
    assert any("Redis has forgotten what was saved" in text for text in logs)
    assert any("Redis is loading the dataset" in text for text in logs)
    assert any("reranker" in one.made.degraded for one in outcome.evidence.lists)


def test_workers_are_told_to_reach_the_broker_by_the_proxy(stack: Any, tmp_path: Path) -> None:
    async def told() -> tuple[int, int]:
        engine = BrokenEngine(stack, tmp_path)
        await engine.start(workers=0, items=1)
        port = engine.proxies["kafka"].port
        try:
            as_worker = msgspec.structs.replace(engine.config.kafka, bootstrap=f"127.0.0.1:{port}")
            async with admin(as_worker) as client:
                [broker] = (await client.describe_cluster())["brokers"]
                return int(broker["port"]), port
        finally:
            await engine.stop()

    said, port = asyncio.run(told())
    assert said == port


def test_a_build_that_acknowledges_before_it_saves_is_found_out(stack: Any, tmp_path: Path) -> None:
    command = [sys.executable, HASTY, str(tmp_path / "mark")]
    outcome = asyncio.run(break_and_judge(stack, tmp_path, [], seed=7, workers=1, command=command))
    assert "state" in {one.what for one in outcome.verdict.differences}
    assert tell(outcome.verdict, outcome.evidence)
