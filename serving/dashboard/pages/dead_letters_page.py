"""Dead letters: what could not be used and why, each as it came; and sending it again."""

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Final

from kafka.errors import KafkaError
from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.feed.live_feed import Letter
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, chip, confirmed, heading, nothing, row, span
from serving.dashboard.session import may
from streams.contract.events import DeadLetter
from streams.kafka.dead_letters import REPLAYED_HEADER, replay

_SHOWN: Final = 50
_REASONS: Final = 8
_VALUE: Final = 2_000


def build(board: Board) -> None:
    """Lay the page out, and tell when more letters come."""
    heading("Dead letters", "Records that could not be used, kept as they came. Nothing stops for them.")
    _Letters(board).build()


class _Letters:
    """The letters shown, those of one reason or all."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._reason = ""
        self._newest = -1

    def build(self) -> None:
        self._more = ui.button(icon="expand_less", on_click=self._draw).props("outline no-caps").classes("ms-more")
        self._body = ui.element("div").classes("ms-stack")
        self._draw()
        ui.timer(1.0, self._look)

    def _look(self) -> None:
        """Say that letters have come since: who reads one is not to lose it."""
        newer = sum(each.offset > self._newest for each in self._board.watch.letters)
        self._more.text = f"Show {newer} more that came"
        self._more.visible = newer > 0

    def _draw(self) -> None:
        self._body.clear()
        self._more.visible = False
        letters = list(self._board.watch.letters)
        self._newest = letters[-1].offset if letters else -1
        with self._body:
            if not letters:
                nothing("mark_email_read", "There are no dead letters: all that came could be used.")
                return
            self._reasons(letters)
            chosen = [each for each in reversed(letters) if not self._reason or each.letter.reason == self._reason]
            with card("Letters", f"{len(chosen)} of the newest {len(letters)}"):
                with row():
                    if self._reason:
                        ui.button("All reasons", icon="filter_alt_off", on_click=partial(self._choose, "")).props(
                            "flat no-caps dense"
                        )
                    ui.button(
                        f"Send these {len(chosen)} again",
                        icon="replay",
                        on_click=partial(self._replay, [each.letter for each in chosen]),
                    ).props("outline no-caps")
                for each in chosen[:_SHOWN]:
                    self._letter(each)

    def _reasons(self, letters: list[Letter]) -> None:
        counts = Counter(each.letter.reason for each in letters).most_common(_REASONS)
        with card("Reasons", "a click on one shows its letters alone"):
            options = charts.bars("Dead letters by reason", dict(counts), colour=charts.ROSE, digits=0, room=240)
            options["xAxis"]["minInterval"] = 1
            ui.echart(options, on_point_click=lambda clicked: self._choose(clicked.data["key"])).style(
                charts.height_of_bars(len(counts))
            ).classes("ms-bars ms-opens")

    def _choose(self, reason: str) -> None:
        self._reason = reason
        self._draw()

    def _letter(self, each: Letter) -> None:
        letter = each.letter
        with ui.element("details").classes("ms-letter"):
            with ui.element("summary"):
                ui.label(letter.reason).classes("ms-strong")
                with row():
                    if letter.field:
                        chip(letter.field, charts.ROSE)
                    chip(f"{letter.topic} {letter.partition}/{letter.offset}")
                    if letter.cut:
                        chip(f"{', '.join(letter.cut)} cut; the value had {letter.size:,} bytes", charts.AMBER)
                    if any(name == REPLAYED_HEADER for name, _ in letter.headers):
                        chip("sent again and failed again", charts.AMBER)
                    ui.label(f"{span(max(time.time() - letter.first_seen / 1000, 0))} ago").classes("ms-soft")
            ui.label(f"key: {_text(letter.key)}").classes("ms-raw")
            ui.label(_text(letter.value)).classes("ms-raw")
            for name, value in letter.headers:
                ui.label(f"{name}: {_text(value)}").classes("ms-raw")
            ui.button("Send again", icon="replay", on_click=partial(self._replay, [letter])).props(
                "flat no-caps dense"
            ).mark(f"replay-{each.offset}")

    async def _replay(self, letters: list[DeadLetter]) -> None:
        if not may(self._board, "admin"):
            return
        if len(letters) > 1 and not await confirmed(
            f"Send {len(letters)} records again?", "What still cannot be used comes back here.", "Send again"
        ):
            return
        try:
            done = await asyncio.to_thread(replay, self._board.settings, letters)
        except (KafkaError, OSError) as error:
            ui.notify(f"Kafka did not take them: {error or type(error).__name__}", type="negative")
            return
        for where, why in done.refused.items():
            ui.notify(f"{where} was not sent: {why}", type="negative")
        if done.sent:
            ui.notify(f"Sent {done.sent} again", type="positive")


def _text(raw: bytes | None) -> str:
    if raw is None:
        return "nothing"
    text = raw[:_VALUE].decode(errors="replace")
    return text + " …" if len(raw) > _VALUE else text
