"""Traces by OpenTelemetry, where an address is set that they go to; nothing of it is imported otherwise.

One span a request, named by method and route, under the caller's own trace where a trusted proxy hands that on. Spans
hold no address as it was asked, no query and no header: templates, status and the request's id are enough to find it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal import __version__
from portal.errors import UsageError
from portal.settings import Settings
from portal.web.door.asked import asked_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "llm360-portal"


def make_provider(settings: Settings) -> TracerProvider | None:
    """What hands spans on, in batches and in a thread of its own; None where no address is set.

    UsageError where the packages for it are not installed.
    """
    endpoint = settings.resolved_otel_endpoint
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - only here
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "Traces are asked for, but OpenTelemetry is not installed.", "pip install 'llm360-portal[otel]'."
        ) from None
    resource = Resource.create({"service.name": SERVICE, "service.version": __version__})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider


class TraceRequests:
    """Makes a span of every request that is let in."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        from opentelemetry.propagate import extract  # noqa: PLC0415 - only where traces are made
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415

        self.app = app
        self._tracer = provider.get_tracer(SERVICE, __version__)
        self._extract = extract
        self._server = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, inside the span."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked, status = asked_of(scope), 0
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._extract({"traceparent": told["traceparent"]}) if self._is_told(scope, told) else None
        with self._tracer.start_as_current_span(scope["method"], context=parent, kind=self._server) as span:

            async def tell(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self.app(scope, receive, tell)
            finally:
                route = asked.route if asked is not None else ""
                about: dict[str, Any] = {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                    "portal.request_id": asked.id if asked is not None else "",
                }
                span.set_attributes(about)
                span.update_name(f"{scope['method']} {route}".strip())
                if status >= 500:
                    span.set_status(self._failed)

    def _is_told(self, scope: Scope, told: dict[str, str]) -> bool:
        asked = asked_of(scope)
        return "traceparent" in told and asked is not None and asked.trusted
