"""Traces sent to a collector of OpenTelemetry, over HTTP; needs the extra `traces`.

A batch is one span below the first traced event in it, linked to the other ones; its stages are below it.
Each list has a span of its own below its event, from the beginning of the batch to its end, and that is what
its headers name. No span holds an id of a shopper or the words of a search.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from stream.core.events import RecommendationList
from stream.errors import ConfigError
from stream.ports import Headers, RawMessage
from stream.telemetry.tracing import TRACEPARENT, Traces, current

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError(
        "telemetry.traces_url is set, and what sends traces is not installed: "
        f"pip install 'streamrec[traces]', or leave the setting out ({error})"
    ) from error

FLUSH_MS = 1_000
Place = tuple[str, int, int]


class _Batch:
    """What is being traced of one batch: the context of each traced event, and the open spans of lists."""

    def __init__(self, parents: dict[Place, Context]) -> None:
        self.began_ns = time.time_ns()
        self.parents = parents
        self.lists: list[trace.Span] = []


class OtlpTraces(Traces):
    """Traces that go to a processor of spans.

    Args:
        processor: where spans go; it bounds how many wait, and drops more.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": "streamrec"})
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_OFF), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("streamrec")
        self._carrier = TraceContextTextMapPropagator()
        self._batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)

    @contextmanager
    def batch(self, messages: Sequence[RawMessage]) -> Iterator[None]:
        """Trace the work on a batch, where one of its messages is traced."""
        parents = {message.source[:3]: parent for message in messages if (parent := self._parent(message))}
        if not parents:
            yield
            return
        first, *others = parents.values()
        links = [trace.Link(trace.get_current_span(one).get_span_context()) for one in others]
        batch = _Batch(parents)
        with self._tracer.start_as_current_span(
            "batch",
            context=first,
            kind=trace.SpanKind.CONSUMER,
            links=links,
            attributes={"messaging.system": "kafka", "messaging.batch.message_count": len(messages)},
            record_exception=False,
        ) as span:
            kept = self._batch.set(batch), current.set(_traceparent(span))
            try:
                yield
            finally:
                self._batch.reset(kept[0])
                current.reset(kept[1])
                for one in batch.lists:
                    one.end()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Trace a stage of a traced batch."""
        if not current.get():
            yield
            return
        with self._tracer.start_as_current_span(name, record_exception=False) as span:
            before = current.set(_traceparent(span))
            try:
                yield
            finally:
                current.reset(before)

    def of_list(self, made: RecommendationList) -> Headers:
        """Begin the span of a list whose trigger is traced."""
        batch, trigger = self._batch.get(), made.trigger
        if batch is None:
            return ()
        parent = batch.parents.get((trigger.topic, trigger.partition, trigger.offset))
        if parent is None:
            return ()
        span = self._tracer.start_span(
            "list",
            context=parent,
            kind=trace.SpanKind.PRODUCER,
            start_time=batch.began_ns,
            attributes={
                "messaging.source.partition": trigger.partition,
                "messaging.source.offset": trigger.offset,
                "streamrec.placement": made.placement,
                "streamrec.items": len(made.items),
                "streamrec.degraded": made.degraded,
            },
        )
        batch.lists.append(span)
        return ((TRACEPARENT, _traceparent(span).encode()),)

    def close(self) -> None:
        """Send what waits, for a second."""
        self._provider.force_flush(FLUSH_MS)

    def _parent(self, message: RawMessage) -> Context | None:
        """The context that a message's headers carry; None where they carry none that is sampled."""
        carried = {
            name: value.decode("ascii", "replace")
            for name, value in message.headers
            if name in self._carrier.fields
        }
        if TRACEPARENT not in carried:
            return None
        context = self._carrier.extract(carried)
        told = trace.get_current_span(context).get_span_context()
        return context if told.is_valid and told.trace_flags.sampled else None


def connect(url: str) -> OtlpTraces:
    """Send traces to a collector's address for OTLP over HTTP."""
    return OtlpTraces(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=FLUSH_MS / 1000)))


def _traceparent(span: trace.Span) -> str:
    told = span.get_span_context()
    return f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"
