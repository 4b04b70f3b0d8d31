"""Shadows and exploring: what lists that nobody is shown would have found, and what the place that explores earns."""

from collections.abc import Callable

from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, chip, fact, nothing, redraw, row
from serving.experiments.exploring import PolicyResult
from serving.experiments.shadows import ShadowResult

_COLOURS = {"no exploring": charts.GREY, "as drawn": charts.TEAL, "drawn alike": charts.VIOLET}


def shadow_cards(board: Board) -> Callable[[], None]:
    """Lay the cards out; returns what brings them up to date."""
    with card("Shadows", "lists made beside those in service and shown to nobody: recall@10 of what users then find"):
        if not board.settings.experiments.shadows:
            nothing(
                "visibility_off",
                "No shadow runs. `[[experiments.shadows]]` with a pipeline, or a model (newest), begins one.",
            )
        shadows = ui.element("div").classes("ms-stack")
    with card("Exploring", "what the place that explores earns: the share of shown places that are clicked or watched"):
        says = ui.label().classes("ms-soft")
        exploring = ui.echart({}).classes("ms-bars")

    def look() -> None:
        shadows.clear()
        with shadows:
            for result in board.live.report.shadows:
                _shadow(result)
        found = board.watch.outcomes.exploring
        says.text = (
            "; ".join(f"{each.policy}: {_rows(each)}" for each in found)
            if found
            else "No list that could explore was shown yet. It takes impressions, and exploration in the pipeline."
        )
        exploring.visible = bool(found)
        rows = [
            charts.Bounded(each.policy, each.value.value, each.value.low, each.value.high, _COLOURS[each.policy])
            for each in found
        ]
        options = charts.intervals("What policies for the exploring place earn", rows, axisLabel=charts.IN_PER_CENT)
        exploring.style(charts.height_of_bars(2 * len(rows)))
        redraw(exploring, options)

    return look


def _shadow(result: ShadowResult) -> None:
    with ui.element("article").classes("ms-version"):
        with row():
            ui.label(result.name).classes("ms-strong")
            chip(f"model {result.model or 'none yet'}", charts.VIOLET)
            chip(f"pipeline {result.pipeline or 'of each arm'}")
        ui.label(result.verdict).classes("ms-says")
        with row():
            fact("events", f"{result.events:,}")
            fact("users", f"{result.users:,}")
            fact("lists made", f"{result.lists:,}")
            fact("passed over", f"{result.passed_over:,}")
            fact("p at every look", f"{result.difference.p_always:.3g}")
        if result.events:
            rows = [
                charts.Bounded(name, each.value, each.low, each.high, colour)
                for name, each, colour in (
                    ("in service", result.served, charts.BLUE),
                    ("shadow", result.own, charts.VIOLET),
                )
            ]
            options = charts.intervals("Recall at 10 of both", rows, axisLabel=charts.IN_PER_CENT)
            ui.echart(options).style("height: 130px").classes("ms-bars")


def _rows(each: PolicyResult) -> str:
    if each.ips is None:
        return f"{each.rows:,} places"
    return f"estimated by SNIPS from {each.rows:,} places, worth {each.effective_rows:,.0f} (IPS {each.ips.value:.1%})"
