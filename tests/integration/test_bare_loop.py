"""The loop that a worker is compared with: it answers every event, as the worker does."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bare_loop import NAMES, compare, told

from stream.local.stack import Stack


def test_worker_bare_loop_and_triton_alone_answer_every_event(stack: Stack, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("streamrec")), "worker"]
    given = argparse.Namespace(rounds=1, lists=20, past=1, seed=1)
    rounds = asyncio.run(compare(stack, tmp_path, command, given))
    assert [{name: one[name].lists for name in NAMES} for one in rounds] == [dict.fromkeys(NAMES, 20)]
    assert all(one[name].seconds > 0 for one in rounds for name in NAMES)
    assert "worker ÷ bare loop" in "\n".join(told(rounds))
