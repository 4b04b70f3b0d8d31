"""The HTTP API without a socket, asked as a program on the same machine asks it; and the routes of an app."""

from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount

from serving.api.app import make_api
from streams.settings.settings import Settings

WRITING = {"POST", "PUT", "PATCH", "DELETE"}


def api_client(api: Settings | FastAPI) -> TestClient:
    """Asks the API at a loopback address, and sends JSON."""
    app = make_api(api) if isinstance(api, Settings) else api
    return TestClient(app, base_url="http://127.0.0.1", headers={"Content-Type": "application/json"})


def routes(found: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of all routes, those of mounted apps too; the app that a route leads to answers `GET`."""
    for route in iter_route_contexts(list(found)):
        original = route.original_route
        if isinstance(original, Mount):
            yield "GET", prefix + original.path
            yield from routes(original.routes, prefix + original.path)
        else:
            for method in sorted(route.methods or ()):
                yield method, prefix + (route.path or "")
