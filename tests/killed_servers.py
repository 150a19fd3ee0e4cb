"""Servers that are killed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def away(stack: Any, name: str) -> Iterator[None]:
    """Kill a server with -9 and start it again afterwards."""
    stack.kill(name)
    try:
        yield
    finally:
        stack.start(name)
