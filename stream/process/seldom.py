"""Keep libraries that are away from their servers from filling the log: a few lines a minute of each kind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

PERIOD_S = 60.0
LINES = 3
"""How often a library says one thing within `PERIOD_S`."""
KINDS = 500
"""Most things that are told apart; then all are begun anew."""


@dataclass
class _Said:
    since_s: float
    lines: int = 1
    left_out: int = 0


class Seldom(logging.Filter):
    """Let what libraries say pass `LINES` times a period, and say with the next one how much was left out.

    Lines are of one kind where they come from one logger and one place in its code. What is said by others
    than `names`, and the loggers below them, always passes.
    """

    def __init__(self, names: tuple[str, ...], clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._names = names
        self._clock_s = clock_s
        self._said: dict[tuple[str, int], _Said] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line; the first one of a period tells how many were left out before."""
        if record.name.partition(".")[0] not in self._names:
            return True
        kind, now_s = (record.name, record.lineno), self._clock_s()
        said = self._said.get(kind)
        if said is None or now_s - said.since_s >= PERIOD_S:
            if len(self._said) >= KINDS:
                self._said.clear()
            self._said[kind] = _Said(now_s)
            if said is not None and said.left_out:
                record.msg = f"{record.msg} ({said.left_out} more like this were left out)"
            return True
        if said.lines < LINES:
            said.lines += 1
            return True
        said.left_out += 1
        return False
