"""Which hosts the API answers to, and what the pages of other sites may do."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from serving.api.app import make_api
from serving.api.origins import Origins
from streams.contract import topics
from streams.settings.settings import ApiSettings, Settings
from tests.conftest import MakeSettings
from tests.serving.api.client import WRITING, api_client, routes

PAGE, SHOP = "http://evil.example", "https://shop.example"


def every(app: FastAPI) -> set[tuple[str, str]]:
    return {(method, re.sub(r"{\w+}", "ann", path)) for method, path in routes(app.routes)}


@pytest.fixture
def client(make_settings: MakeSettings) -> Iterator[TestClient]:
    settings = make_settings(api=ApiSettings(cors_origins=(SHOP,), allowed_hosts=("api.example",)))
    topics.create(settings)
    with api_client(settings) as client:
        yield client


def test_every_route_refuses_a_foreign_host() -> None:
    app = make_api(Settings())
    found = every(app)
    assert len(found) > 20 and {path for _, path in found} >= {"/livez", "/metrics", "/docs", "/v1/events"}
    for method, path in found | {("GET", "/nothing"), ("OPTIONS", "/v1/events")}:
        answer = api_client(app).request(method, path, headers={"Host": "evil.example"})
        assert answer.status_code == 421, f"{method} {path}"
        if method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            assert "api.allowed_hosts" in answer.json()["detail"] and "evil.example" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[0:0:0:0:0:0:0:1]"),
        *("api.example", "API.example:443", "0.0.0.0:8080", "192.0.2.7:8080", "[2001:db8::7]"),
    ],
)
def test_it_answers_to_loopback_to_where_it_listens_and_to_what_the_setting_names(host: str) -> None:
    api = ApiSettings(host="0.0.0.0", allowed_hosts=("api.example", "2001:DB8:0::7"))  # noqa: S104
    client = TestClient(make_api(Settings(api=api)), base_url="http://192.0.2.7")
    assert client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "api.example", "192.0.2.8", "[2001:db8::8]", "", "localhost.evil.example", "evil.example:80"),
        *("127.0.0.1.evil.example", "a@localhost", "localhost/", "localhost:x", "[::1", "::1", "127.1", "localhost, x"),
    ],
)
def test_it_answers_to_no_other_host(host: str) -> None:
    client = TestClient(make_api(Settings()), base_url="http://192.0.2.7")
    assert client.get("/livez", headers={"Host": host}).status_code == 421


def test_two_hosts_are_none() -> None:
    answer = api_client(Settings()).get("/livez", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize("origin", [PAGE, "null", "http://127.0.0.1:3000", "http://localhost", "file://", "127.0.0.1"])
def test_no_write_route_takes_anything_from_a_foreign_page(origin: str) -> None:
    app = make_api(Settings())
    writes = {route for route in every(app) if route[0] in WRITING}
    assert len(writes) >= 5
    for method, path in writes:  # what got further than this would fail: the app has no connections
        answer = api_client(app).request(method, path, json={}, headers={"Origin": origin})
        assert answer.status_code == 403, f"{method} {path}"
        assert answer.headers["content-type"] == "application/problem+json"
        assert origin in answer.json()["detail"] and "api.cors_origins" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8080"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://localhost", "localhost:80"),
        ("https://localhost", "localhost"),  # behind a proxy that ends TLS
        ("https://api.example", "127.0.0.1:8080"),  # behind one that rewrites Host
        (SHOP, "localhost:8080"),
    ],
)
def test_programs_and_own_pages_write_as_ever(client: TestClient, origin: str | None, host: str) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert client.put("/v1/items/shoe", json={"title": "Shoe"}, headers=headers).status_code == 204
    assert client.delete("/v1/items/shoe", headers=headers).status_code == 204


def test_reading_is_left_to_what_browsers_show_a_page(client: TestClient) -> None:
    assert "access-control-allow-origin" not in client.get("/livez", headers={"Origin": PAGE}).headers
    assert client.get("/livez", headers={"Origin": SHOP}).headers["access-control-allow-origin"] == SHOP


def test_a_page_that_the_settings_name_may_write_and_reads_why_it_was_refused(client: TestClient) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert client.options("/v1/events", headers=asks).status_code == 200
    refused = client.post("/v1/events", content="{}", headers={"Origin": SHOP, "Content-Type": "text/plain"})
    assert refused.status_code == 415 and refused.headers["access-control-allow-origin"] == SHOP


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"],
)
def test_every_write_route_wants_json(client: TestClient, kind: str) -> None:
    writes = {route for route in every(client.app) if route[0] in WRITING}  # type: ignore[arg-type]
    for method, path in writes:
        answer = client.request(method, path, content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415, f"{method} {path}"
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_body_that_does_not_say_what_it_is_is_refused_and_json_goes_by_all_its_names(client: TestClient) -> None:
    del client.headers["content-type"]
    assert client.put("/v1/items/shoe", content=b"{}").status_code == 415
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/ld+json"):
        assert client.put("/v1/items/shoe", content=b"{}", headers={"Content-Type": kind}).status_code == 204


def test_no_websocket_opens_for_a_foreign_page_or_host() -> None:
    app = FastAPI()
    app.add_middleware(Origins, settings=ApiSettings())

    @app.websocket("/any")
    async def any_(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    client, where = TestClient(app), "ws://localhost/any"
    for refused, status in (({"Origin": PAGE}, 403), ({"Host": "evil.example"}, 421)):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(where, headers=refused):
            pass
        assert denied.value.status_code == status
    for accepted in ({}, {"Origin": "http://localhost"}):
        with client.websocket_connect(where, headers=accepted):
            pass
