"""Traces as a collector gets them: a span a request, under the caller's own where a trusted proxy hands it on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from portal.settings import Settings
from tests.web.door.conftest import Opened

PARENT = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a collector, and the spans it got."""
    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = ExportTraceServiceRequest()
            asked.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/traces"
            spans.extend(s for r in asked.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", spans
    server.shutdown()
    server.server_close()


def test_a_span_a_request(opened: Opened, collector: tuple[str, list[Any]]) -> None:
    address, spans = collector
    client = opened("10.0.0.1", run=True, otel_endpoint=address, trusted_proxies="10.0.0.1")
    told = {"traceparent": f"00-{PARENT}-b7ad6b7169203331-01"}
    answer = client.get("/api/v1/runs/lab/small/chunks?token=secret", headers=told)
    client.app.state.watched.close()  # type: ignore[attr-defined]
    tracing = next(m.kwargs["provider"] for m in client.app.user_middleware if "provider" in m.kwargs)  # type: ignore[attr-defined]
    tracing.shutdown()
    (span,) = [s for s in spans if s.name == "GET /api/v1/runs/{org}/{name}/chunks"]
    assert span.trace_id.hex() == PARENT
    about = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    assert about["http.route"] == "/api/v1/runs/{org}/{name}/chunks"
    assert about["http.response.status_code"] == 200
    assert about["portal.request_id"] == answer.headers["x-request-id"]
    assert "secret" not in str(spans)


def test_strangers_name_no_parent(opened: Opened, collector: tuple[str, list[Any]]) -> None:
    address, spans = collector
    client = opened(otel_endpoint=address)
    client.get("/api/v1/runs", headers={"traceparent": f"00-{PARENT}-b7ad6b7169203331-01"})
    next(m.kwargs["provider"] for m in client.app.user_middleware if "provider" in m.kwargs).shutdown()  # type: ignore[attr-defined]
    assert spans
    assert PARENT not in {s.trace_id.hex() for s in spans}


def test_none_without_an_address(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    names = {m.cls.__name__ for m in opened().app.user_middleware}  # type: ignore[attr-defined]
    assert "TraceRequests" not in names
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert Settings().resolved_otel_endpoint == "http://127.0.0.1:9"
