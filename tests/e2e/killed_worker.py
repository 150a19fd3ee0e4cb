"""A worker that kills itself with SIGKILL in a given step: `python killed_worker.py STEP N`.

STEP is a method of an adapter with `before-` or `after-` in front (see STEPS), N which call of it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from stream.adapters.kafka_publisher import KafkaPublisher
from stream.adapters.redis_state import RedisStateStore
from stream.config import load_config
from stream.lists.recommender import Recommender
from stream.worker import run_worker

STEPS: dict[str, tuple[type, str]] = {
    "handle": (Recommender, "handle"),
    "load": (RedisStateStore, "load"),
    "signals": (KafkaPublisher, "publish_signals"),
    "save": (RedisStateStore, "save"),
    "publish": (KafkaPublisher, "publish_lists"),
    "dead-letters": (KafkaPublisher, "publish_dead_letters"),
}


def kill_at(step: str, nth: int) -> None:
    """Replace the method of a step by one that kills the process around its nth call."""
    moment, _, name = step.partition("-")
    owner, method = STEPS[name]
    original = getattr(owner, method)
    calls = 0

    async def killing(self: Any, given: Any) -> Any:
        nonlocal calls
        if given:
            calls += 1
        if calls == nth and given and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await original(self, given)
        if calls == nth and given and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, method, killing)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    raise SystemExit(run_worker(load_config()))
