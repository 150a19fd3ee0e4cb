"""A build that is wrong in one place: it marks, acknowledges and commits a batch before it works on it.

Were the marks not moved, too, then what is lost would be noticed and folded again at the next start.

`python hasty_worker.py MARK` kills itself with -9 before it first saves states, unless the file MARK says
that one did so before; `python hasty_worker.py` alone waits to be killed by others.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from killed_worker import kill_at

from stream import agents
from stream.config import load_config
from stream.worker import run_worker


def acknowledge_first() -> None:
    """Turn the order round in which a batch is worked on, and marked and acknowledged."""

    async def work(self: Any, stream: Any, queue: asyncio.Queue[Any]) -> None:
        while True:
            batch = [await queue.get()]
            while len(batch) < self._batch_max and not queue.empty():
                batch.append(queue.get_nowait())
            messages = [agents._raw(event) for event in batch]
            if self._saved is not None:
                await self._retried(self._saved, messages)
            for event in batch:
                await stream.ack(event)
            await stream.app.consumer.force_commit()
            await self._finish(messages)

    agents.BatchAgent._work = work  # type: ignore[method-assign]


if __name__ == "__main__":
    acknowledge_first()
    if len(sys.argv) > 1 and not Path(sys.argv[1]).exists():
        Path(sys.argv[1]).touch()
        kill_at("before-save", 1)
    raise SystemExit(run_worker(load_config()))
