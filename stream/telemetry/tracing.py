"""Traces of the way from an event to its list; nothing is traced by default.

Whoever publishes an event decides: one whose headers carry a sampled `traceparent` (W3C Trace Context) is
traced. Who collects is an adapter's matter (`adapters/otlp_traces.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

from stream.core.events import RecommendationList
from stream.ports import Headers, RawMessage

TRACEPARENT = "traceparent"

current: ContextVar[str] = ContextVar("traceparent", default="")
"""The `traceparent` of what is being done now; "" where it is not traced."""


class Traces:
    """Traces nothing."""

    def batch(self, messages: Sequence[RawMessage]) -> AbstractContextManager[None]:
        """Trace the work on a batch."""
        return nullcontext()

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Trace a stage of a batch."""
        return nullcontext()

    def of_list(self, made: RecommendationList) -> Headers:
        """Begin the trace of a list, which ends with its batch; give the headers that tell readers of it."""
        return ()

    def close(self) -> None:
        """Send what waits; to be called in a thread."""


NOT_TRACED = Traces()


def carried() -> dict[str, str] | None:
    """What a request to another server carries, so that its part is in the same trace."""
    traceparent = current.get()
    return {TRACEPARENT: traceparent} if traceparent else None
