"""Items: what the catalogue holds, how an item fares, what is like it; and withdrawing and restoring it."""

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace
from nicegui import ui
from nicegui.events import EChartPointClickEventArguments

from serving.api.problems import Problem
from serving.api.writes import keep_item
from serving.dashboard.board import Board
from serving.dashboard.feed.acting import told
from serving.dashboard.feed.activity import STEP_S, STEPS
from serving.dashboard.feed.finding import find
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import (
    SOURCES,
    card,
    chip,
    confirmed,
    fact,
    grid,
    heading,
    nothing,
    row,
    source_chips,
    span,
    to,
)
from serving.dashboard.session import may
from streams.contract.events import BadRecord, ItemRecord, encode

_TRENDING = 15
_RELATED = 10


async def build(board: Board, item: str = "") -> None:
    """Lay the page out for an item, or for finding one."""
    heading("Items", "Find an item to see how it fares, and what is like it.")
    catalogue = board.live.engine.catalogue
    _search(board)
    if not item:
        _trending(board)
    elif item in catalogue.numbers:
        await _Item(board, item).build()
    else:
        nothing("search_off", f"No record and no event has named the item {item!r} so far.")


def _search(board: Board) -> None:
    with card():
        with row("ms-search"):
            asked = ui.input("Title or id").props("outlined dense autocomplete=off clearable").classes("ms-grow")
        results = ui.element("div").classes("ms-row").props("role=status aria-live=polite")

        def look() -> None:
            results.clear()
            found = find(board.live.engine.catalogue, asked.value or "")
            with results:
                for each in found:
                    ui.link(each.title or each.item_id, to("/items", item=each.item_id)).classes("ms-pick")
                if not found and asked.value:
                    ui.label("No item is called so.").classes("ms-soft")

        asked.on_value_change(look)


def _trending(board: Board) -> None:
    popular = board.live.engine.popular(_TRENDING)
    with card("Trending", "share of what all users liked of late"):
        if not popular:
            nothing("trending_up", "Nothing has been liked yet: trends come with events.")
            return
        shares = {f"{at}. {board.watch.title(item)}": 100 * share for at, (item, share) in enumerate(popular, 1)}
        options = charts.bars("Share of likes by item", shares, colour=charts.AMBER, keys=[item for item, _ in popular])
        options["xAxis"]["axisLabel"]["formatter"] = "{value} %"
        _opens(options, len(shares))


def _opens(options: charts.Options, count: int) -> None:
    """A chart of items whose bars open them."""
    items = [bar["key"] for bar in options["series"][0]["data"]]

    def go(clicked: EChartPointClickEventArguments) -> None:
        ui.navigate.to(to("/items", item=items[clicked.data_index]))

    ui.echart(options, on_point_click=go).style(charts.height_of_bars(count)).classes("ms-bars ms-opens")


class _Item:
    """One item's cards."""

    def __init__(self, board: Board, item: str) -> None:
        self._board = board
        self._item = item

    @property
    def _number(self) -> int:
        return self._board.live.engine.catalogue.numbers[self._item]

    @property
    def _record(self) -> ItemRecord:
        return self._board.live.engine.catalogue.items[self._number]

    async def build(self) -> None:
        with card():
            self._head = ui.element("div").classes("ms-stack")
        self._show_head()
        shown = self._record
        with grid():
            with card("Of late", f"the last {span(STEP_S * STEPS)}, as far as the dashboard has watched"):
                self._chart = ui.echart(self._activity()).classes("ms-chart")
            with card("In its windows", "event time, all users"):
                self._windows()
        with card("Like it", "what the same users liked, then what has like features"):
            await self._related()

        def look() -> None:
            nonlocal shown
            if self._record is not shown:
                shown = self._record
                self._show_head()
            self._chart.options.update(self._activity())
            self._chart.update()

        ui.timer(2.0, look)

    def _show_head(self) -> None:
        record = self._record
        self._head.clear()
        with self._head:
            with row("ms-between"):
                ui.label(record.title or record.item_id).classes("ms-title ms-item-title")
                if record.available:
                    self._switch("Withdraw", "block", False)
                else:
                    self._switch("Restore", "restore", True)
            with row():
                chip(
                    "may be recommended" if record.available else "withdrawn",
                    charts.TEAL if record.available else charts.ROSE,
                )
                chip(record.item_id)
                for feature, some in record.categorical.items():
                    for value in some:
                        chip(f"{feature.replace('_', ' ')}: {value}")
                if record.duration_s:
                    chip(f"lasts {span(record.duration_s)}")

    def _switch(self, word: str, icon: str, available: bool) -> None:
        colour = "primary" if available else "negative"
        ui.button(word, icon=icon, on_click=partial(self._set, available)).props(f"no-caps outline color={colour}")

    async def _set(self, available: bool) -> None:
        if not may(self._board, "write"):
            return
        title = self._board.watch.title(self._item)
        if not available and not await confirmed(
            f"Withdraw “{title}”?", "No list made from now on has it. It can be restored.", "Withdraw"
        ):
            return
        try:
            await keep_item(self._board.live, encode(replace(self._record, available=available)))
        except (Problem, BadRecord) as error:
            ui.notify(told(error), type="negative")
            return
        ui.notify("Sent to Kafka; it shows here as soon as a worker has taken it in", type="positive")

    def _activity(self) -> charts.Options:
        steps = self._board.watch.activity.of(self._number)
        series: list[tuple[str, str, Callable[[tuple[int, int, int, int]], int]]] = [
            ("on lists", charts.GREY, lambda step: step[1]),
            ("acted on", charts.BLUE, lambda step: step[2]),
            ("liked", charts.TEAL, lambda step: step[3]),
        ]
        return charts.curves(
            "How often the item was on lists, acted on and liked, in steps of 15 s",
            [
                charts.line(name, [[step[0], of(step)] for step in steps], colour=colour, fill=name == "on lists")
                for name, colour, of in series
            ],
            minInterval=1,
        )

    def _windows(self) -> None:
        counts = self._board.live.engine.counts(self._item)
        with row():
            for window in counts:
                fact(f"liked in {span(window.seconds)}", f"{window.positives:,.0f} of {window.events:,.0f}")
        options = charts.base("Events and likes by window")
        options |= {
            "xAxis": charts.axis("category", data=[span(window.seconds) for window in counts]),
            "yAxis": charts.axis("value", splitNumber=3, minInterval=1),
            "series": [
                {"name": name, "type": "bar", "data": data, "color": colour, "barMaxWidth": 28}
                for name, colour, data in (
                    ("events", charts.BLUE, [round(window.events, 1) for window in counts]),
                    ("liked", charts.TEAL, [round(window.positives, 1) for window in counts]),
                )
            ],
        }
        ui.echart(options).classes("ms-chart-low")

    async def _related(self) -> None:
        found = await self._board.live.engine.related(self._item, _RELATED)
        if not found:
            nothing("hub", "Nothing yet: likeness is learnt from events, with the first model.")
            return
        options = charts.bars(
            "Similarity of related items",
            {
                f"{at}. {self._board.watch.title(other)}": similarity
                for at, (other, similarity, _) in enumerate(found, 1)
            },
            keys=[other for other, _, _ in found],
        )
        for bar, (_, _, source) in zip(options["series"][0]["data"], found, strict=True):
            bar["itemStyle"] = {"color": SOURCES[source]}
        ui.html(source_chips(dict.fromkeys(source for _, _, source in found)), sanitize=False).classes("ms-row")
        _opens(options, len(found))
