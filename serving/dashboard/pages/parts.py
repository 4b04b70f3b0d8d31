"""The small parts that pages are made of: cards, facts, chips, and what stands where there is nothing to show."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

from nicegui import ui

from serving.dashboard.pages import charts

#: The colour of each candidate source, alike on every page.
SOURCES: Final = {
    "sequence": "#4f6bed",
    "two_tower": "#8b5cf6",
    "slist": "#c2557a",
    "neighbours": "#0ea5a0",
    "trending": "#e08a3c",
}
OTHER: Final = "#8a94a6"


@contextmanager
def card(title: str = "", soft: str = "", *, wide: bool = False) -> Iterator[ui.element]:
    """A section with a heading."""
    with ui.element("section").classes("ms-card" + (" ms-wide" if wide else "")) as section:
        if title:
            with ui.element("div").classes("ms-head"):
                ui.label(title).classes("ms-title").props("role=heading aria-level=2")
                if soft:
                    ui.label(soft).classes("ms-soft")
        yield section


@contextmanager
def row(classes: str = "") -> Iterator[ui.element]:
    """Things beside each other; they wrap where there is no room."""
    with ui.element("div").classes("ms-row " + classes) as element:
        yield element


@contextmanager
def grid() -> Iterator[ui.element]:
    """Cards in columns; one column on a phone."""
    with ui.element("div").classes("ms-grid") as element:
        yield element


def heading(title: str, soft: str = "") -> None:
    """A page's own heading."""
    with ui.element("div").classes("ms-page-head"):
        ui.label(title).classes("ms-page-title").props("role=heading aria-level=1")
        if soft:
            ui.label(soft).classes("ms-soft")


def chip(text: str, color: str = OTHER) -> None:
    """A short word with a dot of its colour."""
    with ui.element("span").classes("ms-chip").style(f"--dot: {color}"):
        ui.label(text)


def source_chips(sources: Iterable[str]) -> str:
    """Who proposed a place of a list, as chips in HTML: a list has too many for an element each."""
    return "".join(
        f'<span class="ms-chip" style="--dot: {SOURCES.get(source, OTHER)}">'
        f"<div>{escape(source.replace('_', ' '))}</div></span>"
        for source in sources
    )


def fact(name: str, value: str) -> ui.label:
    """A value under its name; returns the value's label."""
    with ui.element("div").classes("ms-fact"):
        ui.label(name).classes("ms-soft")
        return ui.label(value).classes("ms-value")


def redraw(chart: ui.echart, options: charts.Options) -> None:
    """Have a chart show other options."""
    chart.options.clear()
    chart.options.update(options)
    chart.update()


def nothing(icon: str, text: str) -> None:
    """What stands where there is nothing to show, with the reason."""
    with ui.element("div").classes("ms-nothing"):
        ui.icon(icon).props("aria-hidden=true")
        ui.label(text)


def to(path: str, **query: str) -> str:
    """The address of a page within the dashboard."""
    return f"{path}?{urlencode(query)}" if query else path


def button(text: str, icon: str, act: Callable[..., Any], *, quiet: bool = True) -> ui.button:
    """A button with words; quiet ones have no filling."""
    return ui.button(text, icon=icon, on_click=act).props("no-caps dense " + ("flat" if quiet else "unelevated"))


async def confirmed(question: str, detail: str, yes: str) -> bool:
    """Ask before something that others will notice; True for yes."""
    with ui.dialog() as dialog, ui.element("div").classes("ms-card ms-dialog"):
        ui.label(question).classes("ms-title")
        ui.label(detail).classes("ms-soft")
        with row("ms-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            ui.button(yes, on_click=lambda: dialog.submit(True)).props("unelevated no-caps")
    answer = await dialog
    dialog.delete()
    return bool(answer)


def span(seconds: float | None) -> str:
    """A length of time in words, in its largest unit."""
    if seconds is None:
        return "\u2013"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
