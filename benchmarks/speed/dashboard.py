"""What the dashboard costs and how quick it is: page load, update latency, and the API's CPU with many pages open.

    python -m benchmarks.speed.dashboard [--pages 50] [--rate 100] [--seconds 20] [--report FILE]

Broker, Redis, worker, trainer, API and the browser share the machine. The open pages are clients without a browser that
do what a live page does on its connection; loads and updates are timed in headless Chromium.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import click
import psutil
import socketio
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, async_playwright

from serving.cli.up import System, roles
from streams.contract.events import Event, ItemRecord, encode
from streams.contract.topics import TopicNames
from streams.settings.settings import ApiSettings, Settings

ITEMS, USERS = 1_000, 500
PORT = 18_090
ADDRESS = f"http://127.0.0.1:{PORT}"
LOADS, UPDATES = 5, 10


@contextlib.asynccontextmanager
async def playing(settings: Settings, rate: float) -> AsyncIterator[None]:
    """Likes at that rate for as long as the block."""
    names = TopicNames.under(settings.topic_prefix)
    producer = AIOKafkaProducer(**settings.kafka.aiokafka_options())
    await producer.start()
    draw = random.Random(5)
    for number in range(ITEMS):
        item = ItemRecord(item_id=f"i{number}", title=f"Item {number}", categorical={"genre": [f"g{number % 12}"]})
        await producer.send(names.items, key=item.item_id.encode(), value=encode(item))
    await producer.flush()

    async def play() -> None:
        while True:
            await act(producer, names, f"u{draw.randrange(USERS)}", f"i{int(ITEMS * draw.random() ** 3)}")
            await asyncio.sleep(1.0 / rate)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await producer.stop()


async def act(producer: AIOKafkaProducer, names: TopicNames, user: str, item: str) -> None:
    event = Event(type="like", user_id=user, item_id=item, ts=int(time.time() * 1000))
    await producer.send(names.events, key=user.encode(), value=encode(event))


class Page:
    """An open live page, without a browser: it connects as the page's script does and counts what it is sent."""

    def __init__(self) -> None:
        self.samples = 0
        self._socket = socketio.AsyncClient(reconnection=False)
        self._socket.on("run_javascript", self._on_script)

    def _on_script(self, told: dict[str, Any]) -> None:
        self.samples += "millstream.tick" in told["code"]

    async def open(self) -> None:
        async with aiohttp.request("GET", f"{ADDRESS}/dashboard/") as answer:
            client = re.search(r"""client_id['"]: ['"]([^'"]+)""", await answer.text())
        assert client, "the page names its client"
        query = f"client_id={client[1]}&next_message_id=0&implicit_handshake=true&document_id={uuid.uuid4()}"
        await self._socket.connect(
            f"{ADDRESS}/dashboard/?{query}&tab_id={uuid.uuid4()}&old_tab_id=null",
            socketio_path="/dashboard/_nicegui_ws/socket.io",
            transports=["websocket"],
        )

    async def close(self) -> None:
        await self._socket.disconnect()


async def cpu_share(process: psutil.Process, seconds: float) -> float:
    """The share of one core that a process takes."""
    before, began = process.cpu_times(), time.monotonic()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / (time.monotonic() - began)


async def with_pages(process: psutil.Process, count: int, seconds: float) -> dict[str, float]:
    """The API's CPU while so many live pages are open, and how many samples a second each of them got."""
    pages = [Page() for _ in range(count)]
    for page in pages:
        await page.open()
    await asyncio.sleep(3.0)
    before = [page.samples for page in pages]
    share = await cpu_share(process, seconds)
    got = [page.samples - earlier for page, earlier in zip(pages, before, strict=True)]
    for page in pages:
        await page.close()
    return {
        "pages": count,
        "cpu_share": round(share, 4),
        "samples_per_page_and_s": round(statistics.mean(got) / seconds, 2) if got else 0.0,
    }


async def loads(browser: Browser, path: str) -> dict[str, float]:
    """Seconds until a page shows its content, with an empty cache and with a filled one, and until it has a chart."""
    times, drawn = [], []
    context = await browser.new_context()
    for _ in range(LOADS):
        page = await context.new_page()
        began = time.perf_counter()
        await page.goto(ADDRESS + path)
        await page.wait_for_selector(".ms-card")
        times.append(time.perf_counter() - began)
        await page.wait_for_selector(".nicegui-echart canvas")
        drawn.append(time.perf_counter() - began)
        await page.close()
    await context.close()
    return {
        "first_s": round(times[0], 3),
        "then_median_s": round(statistics.median(times[1:]), 3),
        "first_with_chart_s": round(drawn[0], 3),
        "then_with_chart_median_s": round(statistics.median(drawn[1:]), 3),
    }


async def updates(browser: Browser) -> dict[str, float]:
    """Seconds from a sample's taking until a live page has drawn it; samples are taken every half second."""
    page = await browser.new_page()
    await page.goto(f"{ADDRESS}/dashboard/")
    await page.wait_for_selector("#ms-events")
    await page.evaluate(
        "window.ages = []; const draw = millstream.tick;"
        " millstream.tick = told => { draw(told); ages.push((Date.now() - told.sample.at) / 1000); };"
        " null"  # a function would be called by playwright
    )
    await page.wait_for_function(f"ages.length >= {UPDATES}")
    times = await page.evaluate("ages")
    await page.close()
    return {"median_s": round(statistics.median(times), 3), "most_s": round(max(times), 3)}


async def acts(browser: Browser) -> dict[str, float]:
    """Seconds from a click on Hide until the changed list is on the page."""
    page = await browser.new_page()
    await page.goto(f"{ADDRESS}/dashboard/user?user=u1")
    times = []
    for _ in range(UPDATES):
        await page.wait_for_selector(".ms-act-hide")
        before = await page.locator(".ms-place-title").first.inner_text()
        began = time.perf_counter()
        await page.locator(".ms-act-hide").first.click()
        await page.wait_for_function(
            "before => { const top = document.querySelector('.ms-place-title');"
            " return top && top.textContent !== before; }",
            arg=before,
            polling=10,
        )
        times.append(time.perf_counter() - began)
    await page.close()
    return {"median_s": round(statistics.median(times), 3), "most_s": round(max(times), 3)}


async def api_answers(patience_s: float = 120.0) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.request("GET", f"{ADDRESS}/readyz") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.5)
    raise SystemExit(f"the API did not get ready within {patience_s:.0f} s")


async def measure(settings: Settings, pages: int, rate: float, seconds: float) -> dict[str, Any]:
    await api_answers()
    [api] = [
        each for each in psutil.Process().children(recursive=True) if each.cmdline()[-2:] == ["serving.cli", "api"]
    ]
    async with playing(settings, rate), async_playwright() as playwright:
        await asyncio.sleep(5.0)
        costs = [await with_pages(api, count, seconds) for count in (0, 1, pages)]
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        loaded = {path: await loads(browser, path) for path in ("/dashboard/", "/dashboard/user?user=u1")}
        result = {
            "rate": rate,
            "api_cpu": costs,
            "load": loaded,
            "sample_to_live_page": await updates(browser),
            "hide_to_changed_list": await acts(browser),
            "load_average": round(os.getloadavg()[0], 2),
        }
        await browser.close()
        return result


@click.command()
@click.option("--pages", default=50, show_default=True, help="Live pages open at once.")
@click.option("--rate", default=100.0, show_default=True, help="Events a second.")
@click.option("--seconds", default=20.0, show_default=True, help="How long each reading of the CPU takes.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(pages: int, rate: float, seconds: float, report: Path | None) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Settings(data_dir=Path(folder), partitions=1, log_level="WARNING", api=ApiSettings(port=PORT))
        with System(settings, processes=roles(1, api=True)) as system:
            result = asyncio.run(measure(system.settings, pages, rate, seconds))
    if report:
        report.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
