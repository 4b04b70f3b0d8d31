"""Why an item is on a user's list or is not: asked for by title, answered in a sentence and by what its score is of."""

from functools import partial

from nicegui import ui

from serving.api.problems import Problem
from serving.api.reasons import ItemExplanation, explained
from serving.dashboard.board import Board
from serving.dashboard.feed.acting import told
from serving.dashboard.feed.finding import find
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, nothing, row, source_chips

_PARTS = 10


def why_card(board: Board, user: str) -> None:
    """A card that answers for any item of the catalogue."""
    with card("Why, or why not?", "any item: on the list, below it, or left out"):
        with row("ms-search"):
            asked = ui.input("Title or id of an item").props("outlined dense autocomplete=off").classes("ms-grow")
            ui.button("Ask", icon="help_outline", on_click=lambda: look()).props("unelevated no-caps")
        picks = ui.element("div").classes("ms-row")
        answer = ui.element("div").props("role=status aria-live=polite")

    async def look() -> None:
        found = find(board.live.engine.catalogue, asked.value or "", 6)
        picks.clear()
        if not found:
            answer.clear()
            with answer:
                nothing("search_off", "No item is called so.")
            return
        with picks:
            for item in found[1:]:
                ui.button(item.title or item.item_id, color=None, on_click=partial(explain, item.item_id)).props(
                    "flat dense no-caps"
                ).classes("ms-pick")
        await explain(found[0].item_id)

    async def explain(item: str) -> None:
        answer.clear()
        try:
            found = await explained(board.live, user, item)
        except Problem as problem:
            with answer:
                nothing("error_outline", told(problem))
            return
        with answer:
            _show(board, found)

    asked.on("keydown.enter", look)


def _show(board: Board, found: ItemExplanation) -> None:
    ui.label(f"“{board.watch.title(found.item_id)}”: {found.says}.").classes("ms-says")
    if found.sources:
        ui.html(source_chips(found.sources), sanitize=False).classes("ms-row")
    parts = {part.feature.replace("_", " "): part.adds for part in found.parts[:_PARTS]}
    if parts:
        ui.label("What lifts its score above the user's mean candidate, or lowers it").classes("ms-soft")
        options = charts.bars("Parts of the score", parts, colour=charts.BLUE)
        for bar in options["series"][0]["data"]:
            bar["itemStyle"] = {"color": charts.TEAL if bar["value"] >= 0 else charts.ROSE}
        ui.echart(options).style(charts.height_of_bars(len(parts))).classes("ms-bars")
