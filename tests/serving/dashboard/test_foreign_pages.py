"""What other sites' pages and a slash too many get from a running API with its dashboard: nothing."""

import http.client
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from streams.contract import topics
from streams.settings.settings import ApiSettings, Settings
from tests.serving.api.client import WRITING
from tests.serving.dashboard.conftest import free_port, start
from tests.waiting import wait_until

PAGE = "http://evil.example"
SOCKET = "/dashboard/_nicegui_ws/socket.io/?EIO=4&transport="
#: In a process of its own, as the dashboard is one to a process.
LIST_ROUTES = """
import json
from serving.api.app import make_api
from serving.dashboard.mount import mount
from streams.settings.settings import Settings
from tests.serving.api.client import routes
settings = Settings()
app = make_api(settings)
mount(app, settings)
print(json.dumps(sorted({*routes(app.routes)})))
"""


@pytest.fixture(scope="module")
def port(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where an API with its dashboard listens."""
    folder = tmp_path_factory.mktemp("foreign")
    settings = Settings(
        broker_url=servers[0],
        redis_url=servers[1],
        data_dir=folder,
        topic_prefix=f"foreign-{uuid.uuid4().hex[:8]}.",
        partitions=1,
        api=ApiSettings(port=free_port()),
    )
    topics.create(settings)
    process = start(settings, "api", folder / "api.log")

    def ready() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{settings.api.port}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        wait_until(ready, "the API is ready", within_s=120)
        yield settings.api.port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Method and path of all routes of the API and the dashboard, with `victim` for what they take from the path."""
    listed = subprocess.run([sys.executable, "-c", LIST_ROUTES], capture_output=True, check=True, cwd=Path.cwd())
    found = [(method, re.sub(r"{[\w:]+}", "victim", path)) for method, path in json.loads(listed.stdout)]
    assert {"/v1/events", "/dashboard", "/dashboard/_nicegui_ws"} <= {path for _, path in found}
    return found


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers of an answer; nothing follows redirects or changes the path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers
    finally:
        connection.close()


def opened(port: int, **headers: str) -> int:
    """The status that a websocket's handshake with the dashboard ends in."""
    return ask(
        port, "GET", SOCKET + "websocket", Connection="Upgrade", Upgrade="websocket",
        **{"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13"}, **headers,
    )[0]  # fmt: skip


def test_every_route_refuses_a_foreign_host(port: int, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        for where in (path, path + "/"):
            assert ask(port, method, where, Host="evil.example")[0] == 421, f"{method} {where}"
    assert opened(port, Host=f"evil.example:{port}", Origin=f"{PAGE}:{port}") == 421


def test_every_write_and_all_of_the_dashboard_refuses_a_foreign_page(port: int, routes: list[tuple[str, str]]) -> None:
    closed = [(method, path) for method, path in routes if method in WRITING or path.startswith("/dashboard")]
    for method, path in [*closed, ("POST", "/dashboard/"), ("GET", SOCKET + "polling"), ("POST", SOCKET + "polling")]:
        assert ask(port, method, path, Origin=PAGE)[0] == 403, f"{method} {path}"


def test_the_dashboard_opens_its_websocket_for_its_own_pages_alone(port: int) -> None:
    assert opened(port) == opened(port, Origin=f"http://127.0.0.1:{port}") == 101
    assert opened(port, Host=f"localhost:{port}", Origin=f"http://localhost:{port}") == 101
    for foreign in (PAGE, "null", f"http://localhost:{port}", "http://127.0.0.1:3000"):
        assert opened(port, Origin=foreign) == 403


def test_no_route_redirects_for_a_slash(port: int, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        status, headers = ask(port, method, path + "/", **{"Content-Type": "application/json"})
        assert "location" not in headers and (status == 404 or path.startswith("/dashboard")), f"{method} {path}/"


@pytest.mark.parametrize(
    "path",
    [
        *("//v1/users/victim", "/v1//users/victim", "/v1/users//victim", "/v1/users/victim//", "/./v1/users/victim"),
        *("/v1/users/a/../victim", "/v1/users/a/%2e%2e/victim", "/v1/items/../users/victim"),
        "http://127.0.0.1/v1/users/victim/",
    ],
)
def test_no_other_spelling_of_a_path_leads_to_a_user(port: int, path: str) -> None:
    status, headers = ask(port, "DELETE", path)
    assert status in (400, 404, 405) and "location" not in headers


def test_the_address_without_a_page_leads_to_the_dashboard(port: int) -> None:
    for path in ("/", "/dashboard"):
        status, headers = ask(port, "GET", path)
        assert status == 307 and headers["location"] == "/dashboard/"
    assert ask(port, "GET", "/dashboard/")[0] == 200
