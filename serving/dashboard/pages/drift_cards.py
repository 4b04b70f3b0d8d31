"""Whether the world and the model still fit: input drift, training-serving skew, concentration, and staleness."""

from collections.abc import Callable
from typing import Final

from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, fact, grid, redraw, row, span
from serving.online.skew import LISTS_LEAST

#: By the rule of thumb of the stability index: below the first nothing has changed, above the second much has.
STEADY: Final = 0.1
CHANGED: Final = 0.25
_FEATURES: Final = 12


def drift_cards(board: Board) -> Callable[[], None]:
    """Lay the cards out; returns what brings them up to date."""
    with grid():
        with card(
            "What comes in", "stability index of the newest events against those before: above 0.25 much changed"
        ):
            drift = _Indexes("Input drift by dimension")
        with card("What the model reads", "of its features now, against those it learnt from: above 0.25 much changed"):
            skew = _Indexes("Training-serving skew by feature")
    with card("Concentration and age", "0 when all items have equally many, near 1 when one has all"):
        facts = ui.element("div").classes("ms-row")

    def look() -> None:
        outcomes = board.watch.outcomes
        drift.show(outcomes.drift, "It takes some hundred events before and after, to compare.")
        looked = f"{board.live.skew.lists} lists of the model in service were looked at"
        skew.show(outcomes.skew, f"It takes a trained model and {LISTS_LEAST} lists: {looked}.")
        facts.clear()
        with facts:
            for name, gini in outcomes.concentration.items():
                fact(f"Gini of {name}", f"{gini:.3f}")
            fact("model's age", span(board.watch.now.model_age_s))
            fact("event time it has not seen", span(board.watch.model_behind_s))

    return look


class _Indexes:
    """A chart of stability indexes, the highest first, coloured by what they mean."""

    def __init__(self, description: str) -> None:
        self._description = description
        with row():
            self._says = ui.label().classes("ms-says")
        self._chart = ui.echart({}).classes("ms-bars")

    def show(self, found: dict[str, float], nothing_yet: str) -> None:
        worst = dict(sorted(found.items(), key=lambda each: -each[1])[:_FEATURES])
        changed = sum(index > CHANGED for index in found.values())
        told = f"{changed} of {len(found)} changed much." if changed else f"None of {len(found)} changed much."
        self._says.text = told if found else nothing_yet
        options = charts.bars(self._description, {name.replace("_", " "): index for name, index in worst.items()})
        for bar in options["series"][0]["data"]:
            index = bar["value"]
            colour = charts.ROSE if index > CHANGED else charts.AMBER if index > STEADY else charts.TEAL
            bar["itemStyle"] = {"color": colour}
        self._chart.style(charts.height_of_bars(len(worst)))
        redraw(self._chart, options)
        self._chart.visible = bool(found)
