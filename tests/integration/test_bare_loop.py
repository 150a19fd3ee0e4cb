"""The loop that a worker is compared with: it answers every event, as the worker does."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import pytest
from bare_loop import NAMES, compare, told, waiting_for

from stream.local.stack import Stack


@pytest.mark.parametrize("pairs", [0, 4])
def test_worker_bare_loop_and_triton_alone_answer_every_event(
    stack: Stack, tmp_path: Path, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in waiting_for(pairs).items() if pairs else ():
        monkeypatch.setenv(name, value)
    command = [str(Path(sys.executable).with_name("streamrec")), "worker"]
    given = argparse.Namespace(rounds=1, lists=20, past=1, seed=1, cross_encoder=pairs)
    rounds = asyncio.run(compare(stack, tmp_path, command, given))
    assert [{name: one[name].lists for name in NAMES} for one in rounds] == [dict.fromkeys(NAMES, 20)]
    assert all(one[name].seconds > 0 for one in rounds for name in NAMES)
    assert "worker ÷ bare loop" in "\n".join(told(rounds))
