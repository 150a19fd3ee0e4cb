"""A worker with two faults of the kind that no decoder finds: `python faulty_worker.py`.

A click on the product `poison` crashes the fold, and a product whose margin is an integer beyond all floats
crashes the reading of its attributes.
"""

from __future__ import annotations

from typing import Any

import stream.catalog.writer
from stream.config import load_config
from stream.core import state
from stream.core.events import ClickEvent, Event
from stream.core.policy import Policy
from stream.core.state import UserState
from stream.worker import run_worker


def break_the_fold() -> None:
    """Have a click on one product crash."""
    sound = state.apply

    def apply(before: UserState, event: Event, policy: Policy) -> UserState:
        if isinstance(event, ClickEvent) and any(line.item_id == "poison" for line in event.lines):
            raise ZeroDivisionError(f"{event.user_id} is not to be told")
        return sound(before, event, policy)

    state.apply = apply


def break_the_margin() -> None:
    """Have a margin beyond all floats crash."""
    sound = stream.catalog.writer.margin_of

    def margin_of(attributes: dict[str, Any] | None) -> float | None:
        float((attributes or {}).get("margin", 0))
        return sound(attributes)

    stream.catalog.writer.margin_of = margin_of


if __name__ == "__main__":
    break_the_fold()
    break_the_margin()
    raise SystemExit(run_worker(load_config()))
