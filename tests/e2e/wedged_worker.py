"""A worker that stops moving without failing: `python wedged_worker.py`.

The handler of clicks and searches waits for ever at a click on the product `wedge`, as it would on a lock
that nobody gives back. Everything else in the process goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream.config import load_config
from stream.lists.recommender import Recommender
from stream.ports import RawMessage
from stream.worker import run_worker


def wedge_the_handler() -> None:
    """Have a click on one product never be done."""
    sound = Recommender.handle

    async def handle(self: Recommender, messages: Sequence[RawMessage]) -> None:
        if any(b'"wedge"' in (message.value or b"") for message in messages):
            await asyncio.Event().wait()
        await sound(self, messages)

    Recommender.handle = handle  # type: ignore[method-assign]


if __name__ == "__main__":
    wedge_the_handler()
    raise SystemExit(run_worker(load_config()))
