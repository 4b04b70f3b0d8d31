"""Live: the loop with its rates, the curves, and what streams by. The browser fills it in from one shared sample."""

import msgspec
from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.feed.live_feed import EVERY_S
from serving.dashboard.pages import charts
from serving.dashboard.pages.loop_picture import loop
from serving.dashboard.pages.parts import card, grid

#: Name of a tile, the live value in large, and the one beneath it.
_TILES = (
    ("Events", "events", "total"),
    ("Lists", "lists", "deaths"),
    ("Freshness, p50", "p50", "tails"),
    ("Behind", "behind", "workers"),
    ("Recall@10", "recall", "gain"),
    ("Model age", "modelage", "index"),
    ("Training", "step", "next"),
)
_PER_CENT = "v => v == null ? '\u2013' : (100 * v).toFixed(1) + ' %'"
_MILLISECONDS = "v => v == null ? '\u2013' : Math.round(v) + ' ms'"


def build(board: Board) -> None:
    """Lay the page out, and send it each new sample."""
    with ui.element("div").classes("ms-tiles"):
        for name, large, small in _TILES:
            with ui.element("div").classes("ms-card ms-tile"):
                ui.label(name).classes("ms-soft")
                ui.label("\u2013").classes("ms-large").props(f"data-live={large}")
                ui.label("").classes("ms-soft").props(f"data-live={small}")
    with card():
        ui.html(loop(), sanitize=False)
    with card(
        "Is the list right?",
        "recall@10 of what users found by themselves, in the list they had before: the newest 2,000",
    ):
        ui.label("").classes("ms-says").props("data-live=ahead")
        recall = _room("ms-chart-tall")
    with grid():
        with card("Throughput", "per second, the last two minutes"):
            rates = _room()
        with card("Freshness", "from an event in Kafka to its list in Kafka"):
            fresh = _room()
    with card("What users make of it", "of sessions and of shown places, over the newest hour or so of event time"):
        outcomes = _room()
    with grid():
        with card("Events"):
            ui.html('<ul class="ms-stream" id="ms-events"><li>No event has come by yet.</li></ul>', sanitize=False)
        with card("Lists"):
            ui.html('<ul class="ms-stream" id="ms-lists"><li>No list has come by yet.</li></ul>', sanitize=False)

    def draw() -> None:
        _begin(
            board,
            [
                _chart(recall, _recall(), [["recall"], ["trending"]], marks=True),
                _chart(rates, _rates(), [["events"], ["lists"]], recent=True),
                _chart(fresh, _freshness(), [["freshness", place] for place in range(3)], recent=True),
                _chart(outcomes, _outcomes(), [["engaged"], ["clicked"]], marks=True),
            ],
        )

    _begin(board, [])
    _feed(board)
    ui.timer(0, draw, once=True)  # the page is there before the code that draws charts


def _begin(board: Board, drawn: list[dict[str, object]]) -> None:
    """Send what there is, for these charts."""
    watch = board.watch
    arguments = (drawn, watch.history.samples, list(watch.recent)) if drawn else ((), (), ())
    ui.run_javascript(f"millstream.begin({', '.join(msgspec.json.encode(each).decode() for each in arguments)})")


def _feed(board: Board) -> None:
    """Send each sample as it comes; it was encoded once for all pages."""
    watch = board.watch
    sent = ""

    def send() -> None:
        nonlocal sent
        if watch.payload is not sent:
            sent = watch.payload
            ui.run_javascript(f"millstream.tick({sent})")

    send()
    ui.timer(EVERY_S, send)


def _room(classes: str = "ms-chart") -> ui.element:
    """Where a chart is going to be."""
    return ui.element("div").classes(classes)


def _chart(
    room: ui.element, options: charts.Options, of: list[list[object]], *, recent: bool = False, marks: bool = False
) -> dict[str, object]:
    """Draw a chart in its room, and tell the page's script what of a sample its curves are."""
    with room:
        chart = ui.echart(options).classes("ms-fill")
    return {"id": chart.id, "recent": recent, "marks": marks, "of": of}


def _rates() -> charts.Options:
    return charts.curves(
        "Events and lists a second",
        [charts.line("events", fill=True), charts.line("lists", fill=True)],
        minInterval=1,
    )


def _recall() -> charts.Options:
    options = charts.curves(
        "Recall at 10 of the system and of trending items over time",
        [
            charts.line("system", colour=charts.BLUE, fill=True, markLine=_promotions()),
            charts.line("trending", colour=charts.AMBER),
        ],
        axisLabel=charts.IN_PER_CENT,
    )
    options["tooltip"][":valueFormatter"] = _PER_CENT
    options["grid"]["top"] = 52
    return options


def _promotions() -> charts.Options:
    return {
        "symbol": "none",
        "animation": False,
        "lineStyle": {"color": charts.VIOLET, "type": "dashed", "width": 1},
        "label": {"color": charts.GREY, "fontSize": 10, ":formatter": "p => '▲ ' + p.name.slice(-10)"},
        "data": [],
    }


def _outcomes() -> charts.Options:
    options = charts.curves(
        "Share of sessions with a click or a watch, and of shown places that were taken, over time",
        [
            charts.line("engaged sessions", colour=charts.TEAL, fill=True, markLine=_promotions()),
            charts.line("click-through", colour=charts.VIOLET),
        ],
        axisLabel=charts.IN_PER_CENT,
        max=1,
    )
    options["tooltip"][":valueFormatter"] = _PER_CENT
    options["grid"]["top"] = 52
    return options


def _freshness() -> charts.Options:
    options = charts.curves(
        "Milliseconds from an event to its list: half, 95 % and 99 % of the lists are faster",
        [
            charts.line("p50", colour=charts.TEAL, fill=True),
            charts.line("p95", colour=charts.AMBER),
            charts.line("p99", colour=charts.ROSE),
        ],
        axisLabel={"color": charts.GREY, "formatter": "{value} ms"},
    )
    options["tooltip"][":valueFormatter"] = _MILLISECONDS
    return options
