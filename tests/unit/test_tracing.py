"""One trace from the headers of an event, through the stages and the models, to the headers of its list."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import grpc
import pytest
from builders import raw_click
from shops import Shop

from stream.adapters import triton_models, triton_servers
from stream.config import Triton, load_config
from stream.core.events import RecommendationList
from stream.errors import ConfigError, ModelUnavailable
from stream.fakes import MemoryPublisher
from stream.ports import Headers, RawMessage
from stream.worker import Worker

pytest.importorskip("opentelemetry.proto", reason="traces are an extra: pip install 'streamrec[traces]'")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.adapters import otlp_traces

ANN, BOB, CYD = (f"{number:032x}" for number in (0xA, 0xB, 0xC))
EVENT = f"{7:016x}"


def traced(message: RawMessage, trace_id: str, *, sampled: bool = True) -> RawMessage:
    """A message whose publisher traces it."""
    traceparent = f"00-{trace_id}-{EVENT}-{int(sampled):02d}"
    return message._replace(headers=(("other", b"\xff"), ("traceparent", traceparent.encode())))


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector of OpenTelemetry: its address, and the spans that came."""
    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for of_scope in of_resource.scope_spans:
                    spans.extend(of_scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
        finally:
            server.shutdown()
            thread.join()


class TracedShop(Shop):
    """A shop whose worker traces, and whose publisher notes the headers of lists."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.traces = otlp_traces.connect(url)
        self.telemetry.traces = self.traces
        self.headers: dict[str, Headers] = {}
        shop = self

        class Noting(MemoryPublisher):
            async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
                shop.headers |= {made.user_id: shop.traces.of_list(made) for made in lists}
                await super().publish_lists(lists)

        self.publisher = Noting()
        self.start()


def test_each_list_is_in_the_trace_of_its_event_and_the_stages_in_that_of_the_first() -> None:
    with collector() as (url, spans):
        shop = TracedShop(url)
        shop.handle(
            traced(raw_click("ann", "mug", offset=0), ANN),
            traced(raw_click("bob", "cup", offset=1), BOB),
            traced(raw_click("cyd", "pot", offset=2), CYD, sampled=False),
            raw_click("dan", "pan", offset=3),
        )
        shop.traces.close()
    by_name: dict[str, list[Any]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    (batch,) = by_name["batch"]
    assert (batch.trace_id.hex(), batch.parent_span_id.hex()) == (ANN, EVENT)
    assert [link.trace_id.hex() for link in batch.links] == [BOB]
    lists = {span.trace_id.hex(): span for span in by_name["list"]}
    assert lists.keys() == {ANN, BOB}
    for user, trace_id in (("ann", ANN), ("bob", BOB)):
        span = lists[trace_id]
        assert span.parent_span_id.hex() == EVENT
        assert span.end_time_unix_nano > span.start_time_unix_nano
        assert shop.headers[user] == (("traceparent", f"00-{trace_id}-{span.span_id.hex()}-01".encode()),)
    assert shop.headers["cyd"] == shop.headers["dan"] == ()
    for stage in ("decode", "load", "encode", "retrieve", "rerank", "save", "publish"):
        assert {span.trace_id.hex() for span in by_name[stage]} == {ANN}, stage
    assert by_name["save"][0].parent_span_id == batch.span_id
    assert not any(name in str(spans) for name in ("ann", "bob", "cyd", "dan"))


def test_nothing_is_traced_of_a_batch_of_which_nobody_traces_an_event() -> None:
    with collector() as (url, spans):
        shop = TracedShop(url)
        shop.handle(raw_click("ann", "mug", offset=0), traced(raw_click("bob", offset=1), BOB, sampled=False))
        shop.handle(raw_click("cyd", "mug", offset=2)._replace(headers=(("traceparent", b"\xffnonsense"),)))
        shop.traces.close()
    assert spans == []
    assert shop.headers == {"ann": (), "bob": (), "cyd": ()}


def test_a_model_is_asked_within_the_trace() -> None:
    heard: list[dict[str, str]] = []

    class Server(grpc.GenericRpcHandler):
        """Notes what calls carry, and refuses them."""

        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            heard.append(dict(call.invocation_metadata))

            async def refuse(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
                return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no models here")

            return grpc.unary_unary_rpc_method_handler(refuse)

    async def body() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Server(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        client = triton_servers.connect(Triton(url=f"127.0.0.1:{port}"))
        encoder = triton_models.TritonEncoder(client, "encoder")
        with collector() as (url, _):
            traces = otlp_traces.connect(url)
            batch = traces.batch([traced(raw_click("ann"), ANN)])
            with batch, traces.stage("encode"), pytest.raises(ModelUnavailable):
                await encoder.encode(["red mug"], 60.0)
            with pytest.raises(ModelUnavailable):
                await encoder.encode(["red mug"], 60.0)
            traces.close()
        await client.close()
        await server.stop(0)

    asyncio.run(body())
    within, without = heard
    assert within["traceparent"].split("-")[1] == ANN
    assert within["traceparent"].split("-")[2] != EVENT
    assert "traceparent" not in without


def test_an_address_without_what_sends_traces_is_a_mistake_with_a_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "stream.adapters.otlp_traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'streamrec[traces]'")):
        Worker(load_config(env={"STREAMREC_TELEMETRY__TRACES_URL": "http://127.0.0.1:4318/v1/traces"}))
