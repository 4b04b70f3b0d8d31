"""Models: what was trained, how it did offline and live, what the gate decided; and putting another into service."""

import time
from functools import partial
from typing import Final

from nicegui import ui

from models.artefact import ArtefactError, ArtefactStore
from serving.api.problems import Problem
from serving.dashboard.board import Board
from serving.dashboard.feed.acting import told
from serving.dashboard.feed.promoting import put_into_service
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, chip, fact, grid, heading, nothing, row, span
from serving.dashboard.session import may
from streams.contract.events import ModelAnnouncement

_SHOWN: Final = 30
_CURVES: Final = 5
_RIVALS: Final = (("", "candidate", charts.BLUE), ("incumbent_", "in service then", charts.VIOLET),
                  ("trending_", "trending", charts.AMBER))  # fmt: skip


def build(board: Board) -> None:
    """Lay the page out, and draw it anew whenever a model is announced or another goes into service."""
    heading("Models", "Every training, what the gate made of it, and which version serves.")
    body = ui.element("div").classes("ms-stack")
    drawn: tuple[object, ...] = ()

    def look() -> None:
        nonlocal drawn
        state = (len(board.watch.announced), board.watch.marks()[-1:], _current(board))
        if state != drawn:
            drawn = state
            body.clear()
            with body:
                _draw(board)

    look()
    ui.timer(1.0, look)


def _store(board: Board) -> ArtefactStore:
    return ArtefactStore(board.settings.data_dir / "artefacts")


def _current(board: Board) -> str | None:
    try:
        return _store(board).current()
    except ArtefactError:
        return None


def _draw(board: Board) -> None:
    announced = list(board.watch.announced)
    if not announced:
        first = board.settings.training.first_events
        nothing(
            "model_training",
            f"No model has been trained yet: lists are trending items until {first:,} events have come.",
        )
        return
    current = _current(board)
    with grid():
        with card("Offline", "ndcg@10 on the newest events, which none of them was trained on"):
            ui.echart(_offline(announced)).classes("ms-chart")
        with card("Live", "recall@10 of each model's lists on what users found by themselves afterwards"):
            _live(board)
    _learning(announced)
    with card("Versions", "newest first"):
        here = set(_store(board).versions())
        for each in list(reversed(announced))[:_SHOWN]:
            _version(board, each, current, here)


def _offline(announced: list[ModelAnnouncement]) -> charts.Options:
    trained = [each for each in announced if not each.why.startswith("by hand")]
    options = charts.base("ndcg at 10 of each candidate, the model in service then, and trending")
    return options | {
        "xAxis": charts.axis("category", data=[each.version[-10:] for each in trained]),
        "yAxis": charts.axis("value", splitNumber=3, scale=True),
        "series": [
            charts.line(
                name,
                [_rounded(each.metrics.get(f"{prefix}ndcg_at_10")) for each in trained],
                colour=colour,
                showSymbol=True,
                symbolSize=7,
            )
            for prefix, name, colour in _RIVALS
        ],
    }


def _learning(announced: list[ModelAnnouncement]) -> None:
    newest = [each for each in announced if each.losses][-_CURVES:]
    if not newest:
        return
    with (
        card(
            "Learning", "mean loss of each epoch, of the newest trainings; a fine-tune begins where the last one ended"
        ),
        grid(),
    ):
        for network in dict.fromkeys(name for each in newest for name in each.losses):
            options = charts.base(f"Loss by epoch of the network {network}")
            curves = {each.version[-10:]: each.losses.get(network, []) for each in newest}
            epochs = range(1, max(map(len, curves.values())) + 1)
            options |= {
                "xAxis": charts.axis("category", data=[f"epoch {epoch}" for epoch in epochs]),
                "yAxis": charts.axis("value", splitNumber=3, scale=True),
                "series": [
                    charts.line(name, [_rounded(loss) for loss in losses], showSymbol=True, symbolSize=6)
                    for name, losses in curves.items()
                ],
            }
            with ui.element("div").classes("ms-part"):
                ui.label(network.replace("_", " ")).classes("ms-strong")
                ui.echart(options).classes("ms-chart")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _live(board: Board) -> None:
    scored = {name: 100 * each.hits / each.scored for name, each in board.watch.score.models.items() if each.scored}
    if not scored:
        nothing("query_stats", "No event could be scored yet: it takes a list, and then what its user finds alone.")
        return
    options = charts.bars("Recall at 10 by model, in per cent", dict(reversed(scored.items())), colour=charts.TEAL)
    options["xAxis"]["axisLabel"]["formatter"] = "{value} %"
    ui.echart(options).style(charts.height_of_bars(len(scored))).classes("ms-bars")


def _version(board: Board, each: ModelAnnouncement, current: str | None, here: set[str]) -> None:
    serves = each.version == current
    with ui.element("article").classes("ms-version" + (" ms-serves" if serves else "")):
        with row("ms-between"):
            with row():
                ui.label(each.version).classes("ms-strong")
                if serves:
                    chip("in service", charts.TEAL)
                elif each.promoted:
                    chip("was put into service", charts.BLUE)
                else:
                    chip("turned down", charts.ROSE)
                chip(each.kind)
            ui.label(f"{span(max(time.time() - each.created_at / 1000, 0))} ago").classes("ms-soft")
        ui.label(each.why).classes("ms-why")
        with row("ms-between"):
            with row():
                fact("events", f"{each.events:,}")
                for key, name in (("recall_at_10", "recall@10"), ("ndcg_at_10", "ndcg@10"),
                                  ("index_recall", "index recall"), ("seconds", "seconds")):  # fmt: skip
                    if key in each.metrics:
                        fact(name, f"{each.metrics[key]:.3g}")
                live = board.watch.score.models.get(each.version)
                if live is not None and live.scored:
                    fact("live recall@10", f"{live.hits / live.scored:.3g} of {live.scored:,}")
                engaged = board.watch.outcomes.breakdown("model").get(each.version)
                if engaged is not None and engaged[1]["engagement_rate"] is not None:
                    fact("engaged sessions", f"{engaged[1]['engagement_rate']:.1%}")
            if not serves and each.version in here:
                word = "Roll back to it" if each.promoted else "Put into service"
                ui.button(word, icon="settings_backup_restore", on_click=partial(_promote, board, each.version)).props(
                    "no-caps outline"
                )


async def _promote(board: Board, version: str) -> None:
    if not may(board, "admin"):
        return
    current = _current(board)
    with ui.dialog() as dialog, ui.element("div").classes("ms-card ms-dialog"):
        ui.label(f"Put {version} into service?").classes("ms-title")
        ui.label(f"It takes the place of {current} at once, for everyone.").classes("ms-soft")
        reason = ui.input("Why? This is announced with it").props("outlined dense autocomplete=off").classes("w-full")
        with row("ms-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            ui.button("Put into service", on_click=lambda: dialog.submit(True)).props("unelevated no-caps")
    agreed = await dialog
    why = reason.value or "no reason given"
    dialog.delete()
    if not agreed:
        return
    try:
        await put_into_service(board.live, version, instead_of=current, why=why)
    except (ArtefactError, Problem, OSError) as error:
        ui.notify(told(error), type="negative")
        return
    ui.notify(f"{version} is in service", type="positive")
