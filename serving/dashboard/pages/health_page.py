"""Health: the roles and what they do, the partitions and what waits in them, and what the doctor finds."""

import asyncio
import time
from typing import Final

from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.feed.backlog import Backlog, backlogs
from serving.dashboard.pages import charts
from serving.dashboard.pages.drift_cards import drift_cards
from serving.dashboard.pages.parts import card, fact, grid, heading, nothing, row, span
from serving.doctor import Finding, examine
from streams.contract.topics import BrokerAway
from streams.state.status import WORKER

_ICONS: Final = {"ok": "check_circle", "warning": "warning", "fault": "error"}


async def build(board: Board) -> None:
    """Lay the page out; the roles move by themselves, the rest is looked at on demand."""
    heading("Health", "Who runs, what waits, and what the doctor says.")
    with grid():
        with card("Roles", "as they told of late"):
            roles = ui.element("div").classes("ms-stack")
        with card("State", "in Redis, all partitions together"):
            totals = ui.element("div").classes("ms-row")

    def look() -> None:
        roles.clear()
        totals.clear()
        with roles:
            _roles(board)
        now = board.watch.now
        with totals:
            for name, count in sorted(now.totals.items()):
                fact(name.replace("_", " "), f"{count:,}")
            fact("items", f"{now.items:,}")
            fact("model in service", now.model)
            fact("its age", span(now.model_age_s))
            fact("index", now.index)

    look()
    ui.timer(2.0, look)
    if board.watch.outcomes.counts:
        drifted = drift_cards(board)
        drifted()
        ui.timer(5.0, drifted)
    with card("Events that wait", "by partition: what is in the log and not acknowledged yet"):
        waiting = ui.element("div")
    with card("The doctor"):
        findings = ui.element("div").classes("ms-stack")
        with row():
            again = ui.button("Examine again", icon="refresh").props("outline no-caps")

    async def examined() -> None:
        again.disable()
        found = asyncio.create_task(asyncio.to_thread(lambda: list(examine(board.settings))))
        try:
            waits: list[Backlog] | str = await asyncio.to_thread(backlogs, board.settings)
        except (BrokerAway, OSError) as error:
            waits = str(error)
        verdicts = await found
        waiting.clear()
        findings.clear()
        with waiting:
            _backlog(waits)
        with findings:
            for finding in verdicts:
                _finding(finding)
        again.enable()

    again.on_click(examined)
    with findings:
        ui.label("It looks at broker, Redis, topics, roles and artefacts …").classes("ms-soft")
    await examined()


def _roles(board: Board) -> None:
    watch = board.watch
    if not watch.workers:
        nothing("engineering", "No worker runs: start `millstream worker`, or `millstream up`.")
    for worker in watch.workers:
        with ui.element("article").classes("ms-version"):
            ui.label(f"worker {worker.name.removeprefix(WORKER)}").classes("ms-strong")
            with row():
                fact("partitions", str(worker.partitions))
                fact("behind", f"{worker.lag:,}")
                fact("applied", f"{worker.applied:,}")
                fact("lists", f"{worker.lists:,}")
                fact("runs for", span(time.time() - worker.started_at))
    with ui.element("article").classes("ms-version"):
        ui.label("trainer").classes("ms-strong")
        if not watch.now.trainer or watch.trainer is None:
            ui.label("None runs: start `millstream trainer`, or `millstream up`.").classes("ms-bad")
            return
        with row():
            fact("does", watch.now.trainer if watch.trainer.busy else "waits")
            fact("logged", f"{watch.trainer.logged:,}")
            fact("next at", f"{watch.trainer.due.events:,}")
            fact("trainings", f"{watch.trainer.trainings:,}")
        if watch.trainer.no_model:
            ui.label(f"The last training made no model: {watch.trainer.no_model}").classes("ms-bad")


def _backlog(waits: list[Backlog] | str) -> None:
    if isinstance(waits, str):
        nothing("cloud_off", waits)
        return
    options = charts.base("Events that wait, by partition and reader")
    names = sorted({wait.group for wait in waits})
    partitions = sorted({wait.partition for wait in waits})
    found = {(wait.group, wait.partition): wait.waiting for wait in waits}
    options |= {
        "xAxis": charts.axis("category", data=[f"partition {n}" for n in partitions]),
        "yAxis": charts.axis("value", splitNumber=3, minInterval=1),
        "series": [
            {
                "name": name,
                "type": "bar",
                "barMaxWidth": 28,
                "data": [found.get((name, partition), 0) for partition in partitions],
            }
            for name in names
        ],
    }
    ui.echart(options).classes("ms-chart-low")


def _finding(finding: Finding) -> None:
    with ui.element("div").classes(f"ms-finding {finding.verdict}"):
        ui.icon(_ICONS[finding.verdict]).props(f'role=img aria-label="{finding.verdict}"')
        with ui.element("div"):
            ui.label(finding.subject).classes("ms-strong")
            ui.label(finding.text)
            if finding.remedy:
                ui.label(finding.remedy).classes("ms-soft")
