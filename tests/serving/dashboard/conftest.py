"""One running system for all tests of the pages: a worker, the API with its pages, two models, and a browser."""

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from models.artefact import ArtefactStore, read_manifest, write_manifest
from models.data.popularity import PopularityConfig
from models.training.train import train
from serving.api.access import digest
from serving.client import ApiError, Http
from streams.contract import topics
from streams.contract.events import ItemRecord, ModelAnnouncement, encode
from streams.contract.topics import TopicNames
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings, OnlineSettings
from streams.settings.pipeline import FreshnessSettings, PipelineSettings
from streams.settings.settings import ApiSettings, Settings
from tests.models import world
from tests.waiting import wait_until

READER, OWNER = "reads-only", "may-do-all"
HOSTILE = "<img src=x onerror=alert(1)>"
VERSIONS = ("v1", "v2")
ARMS = (ArmSettings(name="as-is", share=0.5), ArmSettings(name="fresher", share=0.5, pipeline="fresh"))
NOW = int(time.time() * 1000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(settings: Settings, role: str, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "serving.cli", role]
    return subprocess.Popen(command, env=settings.environment(), stdout=log.open("ab"), stderr=subprocess.STDOUT)


class System:
    """The system from outside."""

    def __init__(self, settings: Settings, api: "subprocess.Popen[bytes]") -> None:
        self.settings = settings
        self.api = api
        self.names = TopicNames.under(settings.topic_prefix)
        self.api_url = f"http://127.0.0.1:{settings.api.port}"
        self.url = f"{self.api_url}/dashboard"
        self.artefacts = ArtefactStore(settings.data_dir / "artefacts")
        self._producer = KafkaProducer(acks="all", linger_ms=0, **settings.kafka.kafka_python_options())

    def send(self, topic: str, key: str, value: bytes) -> None:
        self._producer.send(topic, key=key.encode(), value=value).get(10)

    def like(self, user: str, item: str, **more: object) -> None:
        fields = {"type": "like", "user_id": user, "item_id": item, "ts": NOW} | more
        self.send(self.names.events, user, json.dumps(fields).encode())

    def seed(self) -> None:
        """Describe the items, have people like them, publish two models, and send what cannot be used."""
        for number in range(40):
            title = HOSTILE if number == 0 else f"Film {number}"
            genre = {"genre": [world.GENRES[number % 3]], "language": ["ko" if number % 2 else "en"]}
            self.send(
                self.names.items, f"i{number}", encode(ItemRecord(item_id=f"i{number}", title=title, categorical=genre))
            )
        for user in range(12):
            for step in range(6):
                self.like(f"u{user}", f"i{(user * 5 + step * 3) % 40}", ts=NOW + step)
        self.like("u1", "i0", ts=NOW + 9)
        self.like("ann", "i1")
        self.send(self.names.events, "bob", b'{"type": "watch", "user_id": "bob"}')

    def publish_models(self, scratch: Path) -> None:
        log = world.first(world.interactions(), 200)
        once = replace(
            world.SMALL,
            sequence=replace(world.SMALL.sequence, epochs=1),
            towers=replace(world.SMALL.towers, epochs=1),
        )
        trained = scratch / "trained"
        trained.mkdir()
        outcome = train(
            world.data(log), once, kind="retrain", incumbent=None, out=trained, version="v1", offsets={},
            popularity=PopularityConfig(), progress=lambda _stage, _done: None,
        )  # fmt: skip
        for number, version in enumerate(VERSIONS):
            staged = self.artefacts.stage(version)
            shutil.copytree(trained, staged, dirs_exist_ok=True)
            manifest = replace(read_manifest(trained), version=version, created_at=NOW + number)
            write_manifest(staged, manifest)
            self.artefacts.publish(staged)
            self.artefacts.promote(version)
            announcement = ModelAnnouncement(
                version=version, location=version, promoted=True, why=f"ndcg@10 is better: {version}", kind="retrain",
                events=400, trained_through=NOW, created_at=NOW + number, metrics=dict(manifest.metrics), checksums={},
                losses=outcome.losses,
            )  # fmt: skip
            self.send(self.names.models, version, encode(announcement))

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(scope="module")
def system(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("dashboard")
    settings = Settings(
        broker_url=servers[0],
        redis_url=servers[1],
        data_dir=folder / "data",
        topic_prefix=f"board-{uuid.uuid4().hex[:8]}.",
        partitions=1,
        api=ApiSettings(port=free_port(), sync_s=0.05, tokens={digest(READER): ("read",), digest(OWNER): ("admin",)}),
        pipelines={"fresh": PipelineSettings(freshness=FreshnessSettings(boost=0.1))},
        experiments=ExperimentsSettings(running=(ExperimentSettings(name="mix", arms=ARMS),)),
        online=OnlineSettings(skew_every_s=0.2),
    )
    topics.create(settings)
    running = [start(settings, role, folder / f"{role}.log") for role in ("worker", "api")]
    system = System(settings, api=running[1])
    try:
        system.seed()
        system.publish_models(folder)
        wait_until(lambda: listed(settings, "ann"), "the worker has made ann's list", within_s=120)
        yield system
    finally:
        system.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def listed(settings: Settings, user: str) -> bool:
    """Whether a list of the user's has been published."""
    try:
        found = Http(f"http://127.0.0.1:{settings.api.port}", token=READER).recommendations(user)
    except (OSError, ApiError):  # it starts
        return False
    return found.origin == "published"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Closed after the module: while it is open, Playwright holds the thread's event loop."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no Chromium on PATH: the dashboard cannot be tried (`apt-get install chromium`, as root)"
    expect.set_options(timeout=20_000)  # the machine may be busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def owner(system: System, browser: Browser) -> Iterator[BrowserContext]:
    """A browser in which the owner has signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = context.new_page()
    sign_in(page, system, OWNER)
    expect(page.locator(".nicegui-echart canvas")).to_have_count(4)  # a page closed in mid reload can hang Chromium
    page.close()
    yield context
    context.close()


def sign_in(page: Page, system: System, token: str) -> None:
    page.goto(system.url + "/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


class Visit:
    """A page, and what went wrong on it."""

    def __init__(self, page: Page, system: System) -> None:
        self.page = page
        self._url = system.url
        self.faults: list[str] = []
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self._url, self._url.replace("http", "ws", 1), "data:", "blob:")):
            self.faults.append(f"asked for {url}")

    def open(self, path: str) -> Page:
        self.page.goto(self._url + path)
        return self.page


@pytest.fixture
def visit(owner: BrowserContext, system: System) -> Iterator[Visit]:
    """A page of the owner's: it fits a phone, nothing may have gone wrong on it, and nothing come from elsewhere."""
    page = owner.new_page()
    visit = Visit(page, system)
    yield visit
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("navigation")).to_be_in_viewport()
    width = "document.documentElement.scrollWidth"
    wait_until(lambda: page.evaluate(width) <= 390, "nothing is wider than the phone", within_s=10)
    page.close()
    assert not visit.faults
