"""Alerts and boards name metrics that exist, promtool finds them right, and a real Prometheus is fed by a real API."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import yaml

from deploy.grafana.boards import BOARDS, board
from serving.api.app import make_api
from streams.contract import topics
from streams.contract.events import Event, encode
from streams.settings.settings import ApiSettings, Settings
from tests.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
QUERIES = {
    f"{name}: {target['expr']}": target["expr"]
    for name in BOARDS
    for panel in json.loads(board(name))["panels"]
    for target in panel.get("targets", [])
}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: deploy/system_packages.sh prometheus:{name}"
    return found


@pytest.fixture(scope="module")
def address(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where an API listens, with a system of nothing but its servers behind it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        broker_url=servers[0],
        redis_url=servers[1],
        data_dir=tmp_path_factory.mktemp("monitored"),
        topic_prefix=f"monitored-{port}.",
        api=ApiSettings(port=port, sync_s=0.05),
    )
    topics.create(settings)
    server = uvicorn.Server(uvicorn.Config(make_api(settings), port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = f"127.0.0.1:{port}"
    wait_until(lambda: server.started, "the API listens")
    yield address
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def known(address: str) -> set[str]:
    """The names of all series that the API may tell, those with nothing to tell yet too."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", httpx2.get(f"http://{address}/metrics").text, re.MULTILINE):
        found |= {name + suffix for suffix in ("_bucket", "_count", "_sum")} if kind == "histogram" else {name}
    return found


def names(query: str) -> set[str]:
    return set(re.findall(r"millstream_\w+", query))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_names_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any], known: set[str]) -> None:
    assert names(rule["expr"]) <= known | {"up"}
    assert rule["annotations"].keys() == {"summary", "remedy"} and rule["labels"]["severity"] in ("warning", "critical")
    mentioned = names(rule["annotations"]["remedy"])
    assert mentioned <= known


def test_every_board_names_metrics_that_exist(known: set[str]) -> None:
    wrong = {query: sorted(names(expr) - known) for query, expr in QUERIES.items() if not names(expr) <= known}
    assert not wrong


def test_every_metric_of_the_system_is_on_a_board(known: set[str]) -> None:
    shown = set().union(*map(names, QUERIES.values()))
    unseen = {name for name in known if name.startswith("millstream_") and not name.endswith(("_created", "_sum"))}
    assert unseen - shown == set()


@pytest.mark.parametrize("name", BOARDS)
def test_the_committed_board_is_what_the_code_makes(name: str) -> None:
    committed = DEPLOY / "grafana" / "boards" / f"{name}.json"
    assert committed.read_text() == board(name), "run `python -m deploy.grafana.boards`"


@pytest.mark.parametrize("name", BOARDS)
def test_the_charts_of_a_board_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(board(name))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_promtool_finds_nothing_wrong(words: tuple[str, ...]) -> None:
    checked = subprocess.run(
        [program("promtool"), *words],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_the_api_tells_passes_promtools_lint(address: str) -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=httpx2.get(f"http://{address}/metrics").text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


class Prometheus:
    """A Prometheus of its own on a free port, with the project's rules."""

    def __init__(self, folder: Path, target: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._client = httpx2.Client()
        self._log = (folder / "log").open("wb")
        self._child = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, path: str, **query: str) -> Any:
        """What it answers, or None while it does not listen yet."""
        try:
            answer = self._client.get(f"http://{self._address}/api/v1/{path}", params=query)
        except httpx2.TransportError:
            return None
        if answer.status_code == 503:  # it starts
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(20)
        self._client.close()
        self._log.close()


def test_a_real_prometheus_is_fed_and_its_alerts_are_healthy(address: str, tmp_path: Path) -> None:
    event = Event(type="click", user_id="ann", item_id="a", ts=int(time.time() * 1000))
    sent = httpx2.post(
        f"http://{address}/v1/events", content=encode(event), headers={"Content-Type": "application/json"}
    )
    assert sent.status_code == 202
    prometheus = Prometheus(tmp_path, address)
    try:

        def value(query: str) -> float | None:
            data = prometheus.ask("query", query=query)
            return float(data["result"][0]["value"][1]) if data and data["result"] else None

        counted = 'sum(millstream_online_rate{rate="engagement_rate", by="source"})'
        wait_until(lambda: value(counted) == 1.0, "the click is counted and scraped", within_s=40)
        assert value("up") == 1.0 and value("millstream_redis_up") == 1.0 and value("millstream_workers") == 0.0

        def pending() -> set[str]:
            alerts = (prometheus.ask("alerts") or {}).get("alerts", [])
            return {alert["labels"]["alertname"] for alert in alerts}

        wait_until(lambda: "MillstreamNoWorker" in pending(), "that no worker lives is noticed", within_s=20)
        groups = prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == len(RULES) and {rule["health"] for rule in rules} <= {"ok", "unknown"}
        assert not [rule for rule in rules if rule.get("lastError")]
        for expr in QUERIES.values():
            assert prometheus.ask("query", query=expr) is not None, expr
    finally:
        prometheus.stop()
