"""What surrounds every page: the name, the ways to the pages, light and dark, who is signed in, and what is away."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from nicegui import ui

from serving.dashboard.board import Board
from serving.dashboard.feed.live_feed import EVERY_S
from serving.dashboard.pages import (
    dead_letters_page,
    experiments_page,
    health_page,
    items_page,
    live_page,
    models_page,
    onboarding_page,
    user_page,
)
from serving.dashboard.session import scopes, sign_in, sign_out


class Place(NamedTuple):
    """A page in the navigation."""

    path: str
    name: str
    icon: str
    build: Callable[..., Awaitable[None] | None]


PLACES: Final = (
    Place("/", "Live", "insights", live_page.build),
    Place("/user", "User", "person", user_page.build),
    Place("/items", "Items", "movie", items_page.build),
    Place("/models", "Models", "model_training", models_page.build),
    Place("/experiments", "Experiments", "science", experiments_page.build),
    Place("/dead-letters", "Dead letters", "mark_email_unread", dead_letters_page.build),
    Place("/health", "Health", "monitor_heart", health_page.build),
)


def root(board: Board) -> None:
    """The one page that the browser loads; going from place to place changes only its middle."""
    ui.colors(primary="#4f6bed", positive="#12946b", negative="#d0454c", warning="#b7791f")
    dark = ui.dark_mode(None)
    links = _header(board, dark)
    _away(board)
    with ui.element("main").classes("ms-main").props("id=main tabindex=-1") as main:
        pass
    if "read" not in scopes(board):
        with main:
            _login(board)
        return
    with main:
        ui.sub_pages(
            {place.path: partial(place.build, board) for place in PLACES}
            | {"/onboarding": partial(onboarding_page.build, board)}
        )
    _mark(links, ui.context.client.sub_pages_router.current_path)
    ui.context.client.sub_pages_router.on_path_changed(partial(_mark, links))


def _header(board: Board, dark: ui.dark_mode) -> dict[str, ui.link]:
    links = {}
    ui.html('<a class="ms-skip" href="#main">Skip to the content</a>', sanitize=False)
    with ui.element("header").classes("ms-header"):
        with ui.link(target="/").classes("ms-brand"):
            ui.html('<svg viewBox="0 0 24 24" aria-hidden="true"><use href="#ms-mark"/></svg>', sanitize=False)
            ui.label("millstream")
        with ui.element("nav").classes("ms-nav").props('aria-label="Pages"'):
            for place in PLACES:
                with ui.link(target=place.path).classes("ms-nav-link") as link:
                    ui.icon(place.icon).props("aria-hidden=true")
                    ui.label(place.name)
                links[place.path] = link
        with ui.element("div").classes("ms-tools"):
            ui.button(icon="dark_mode", color=None, on_click=lambda: _turn(dark)).props(
                'flat round dense aria-label="Light or dark"'
            ).classes("ms-tool")
            if board.settings.api.tokens:
                ui.button(icon="key", color=None, on_click=_leave).props(
                    'flat round dense aria-label="Sign out"'
                ).classes("ms-tool")
    return links


async def _turn(dark: ui.dark_mode) -> None:
    dark.value = not await ui.run_javascript("document.body.classList.contains('body--dark')")


def _leave() -> None:
    sign_out()
    ui.navigate.reload()


def _mark(links: dict[str, ui.link], path: str) -> None:
    here = path.partition("?")[0].rstrip("/") or "/"
    for target, link in links.items():
        if target == here:
            link.props("aria-current=page")
        else:
            link.props(remove="aria-current")


def _away(board: Board) -> None:
    """A strip across the page for as long as a server does not answer."""
    with ui.element("div").classes("ms-away").props("role=alert") as strip:
        text = ui.label()

    def look() -> None:
        board.watch.look()
        text.text = board.watch.now.away
        strip.visible = bool(board.watch.now.away)

    look()
    ui.timer(2 * EVERY_S, look)


def _login(board: Board) -> None:
    with ui.element("section").classes("ms-card ms-login"):
        ui.label("Sign in").classes("ms-title")
        ui.label("This system asks for a token. `millstream api-token` makes one.").classes("ms-soft")
        token = ui.input("Token", password=True).props("outlined autofocus autocomplete=off").classes("w-full")
        wrong = ui.label().classes("ms-bad").props("role=alert")

        def enter() -> None:
            given, token.value = token.value or "", ""
            if sign_in(board, given):
                ui.navigate.reload()
            else:
                wrong.text = "The token is not known here."

        token.on("keydown.enter", enter)
        ui.button("Sign in", on_click=enter).props("unelevated no-caps")
