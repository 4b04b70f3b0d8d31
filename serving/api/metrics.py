"""What Prometheus reads of the API. One registry for each app, so that two in one process do not add up."""

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds; a published list takes a millisecond or two, a computed one some tens.
_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_ENDLESS: Final = "/v1/stream"


class Metrics:
    """The API's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "millstream_api_request_seconds",
            "Time to answer a request.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.lists = Counter(
            "millstream_api_lists", "Lists served, by where they came from.", ("origin",), registry=self.registry
        )
        self.events = Counter("millstream_api_events", "Events by verdict.", ("verdict",), registry=self.registry)
        self.streams = Gauge("millstream_api_streams", "Streams of lists that are open.", registry=self.registry)
        self.items = Gauge("millstream_api_catalogue_items", "Items known.", registry=self.registry)
        self.model = Gauge("millstream_api_model", "1 for the model in service.", ("version",), registry=self.registry)


class Timed:
    """ASGI middleware: times each request under its route's pattern, so that ids do not multiply the series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _ENDLESS:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.seconds.labels(scope["method"], route, str(status)).observe(time.perf_counter() - began)
