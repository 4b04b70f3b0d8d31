"""Onboarding: somebody new says what they like, and gets a first list."""

from typing import Final

from nicegui import ui

from serving.api.problems import Problem
from serving.dashboard.board import Board
from serving.dashboard.feed.acting import PATIENCE_S, introduce, told
from serving.dashboard.feed.finding import find, values
from serving.dashboard.pages.parts import card, heading, nothing, row, to
from serving.dashboard.session import may
from streams.contract.events import BadRecord, UserRecord

#: What is asked, feature by feature, where the catalogue has it.
_ASKED: Final = (("genre", "Genres"), ("language", "Languages"))
#: The profile features that the choices are kept under.
CHOICES: Final = "onboarding"
ITEMS: Final = "onboarding_items"


class _Chosen:
    """What the newcomer has chosen so far; kept in the order of choosing."""

    def __init__(self) -> None:
        self.values: dict[str, None] = {}
        self.items: dict[str, None] = {}

    def record(self, user: str) -> UserRecord:
        chosen = {CHOICES: list(self.values), ITEMS: list(self.items)}
        return UserRecord(user_id=user, categorical={name: some for name, some in chosen.items() if some})


def build(board: Board) -> None:
    """Lay the page out."""
    chosen = _Chosen()
    catalogue = board.live.engine.catalogue
    heading("New user", "A first list needs no history: a few choices will do.")
    with card("Who?"), row("ms-search"):
        name = ui.input("User id").props("outlined dense autocomplete=off").classes("ms-grow")
    asked = [(feature, title, values(catalogue, feature)) for feature, title in _ASKED]
    if not any(found for _, _, found in asked):
        nothing("movie_filter", "No item has been described yet, so there is nothing to choose from.")
    for feature, title, found in asked:
        if found:
            with card(title), row():
                for value in found:
                    _choice(chosen.values, f"{feature}={value}", value)
    with card("Titles"):
        with row("ms-search"):
            searched = ui.input("Something you like").props("outlined dense autocomplete=off").classes("ms-grow")
        results = ui.element("div").classes("ms-row")
        _offer(results, chosen, [(item, board.watch.title(item)) for item, _ in board.live.engine.popular(18)])
        searched.on_value_change(
            lambda change: _offer(
                results,
                chosen,
                [(item.item_id, item.title or item.item_id) for item in find(catalogue, change.value or "", 18)]
                or [(item, board.watch.title(item)) for item, _ in board.live.engine.popular(18)],
            )
        )
    status = ui.label().classes("ms-status").props("role=status aria-live=polite")

    async def begin() -> None:
        user = (name.value or "").strip()
        if not may(board, "write"):
            return
        if not user:
            status.text = "Give the new user an id first."
            return
        status.text = "The first list is being made …"
        try:
            answer = await introduce(board, chosen.record(user))
        except (Problem, BadRecord) as error:
            status.text = told(error)
            return
        if answer.made is None:
            status.text = f"No list came within {PATIENCE_S:.0f} s. Is a worker running? Health tells."
            return
        ui.notify(f"The first list was here after {answer.took_ms:.0f} ms", type="positive")
        ui.navigate.to(to("/user", user=user))

    with row():
        ui.button("Show the first list", icon="playlist_play", on_click=begin).props("unelevated no-caps")


def _offer(results: ui.element, chosen: _Chosen, items: list[tuple[str, str]]) -> None:
    results.clear()
    titles = dict(items)
    kept = {item: item for item in chosen.items if item not in titles}
    with results:
        for item, title in (kept | titles).items():
            _choice(chosen.items, item, title)


def _choice(among: dict[str, None], key: str, text: str) -> None:
    """A chip that is chosen or not."""

    def turn() -> None:
        if key in among:
            del among[key]
        else:
            among[key] = None
        show()

    def show() -> None:
        button.props(f"aria-pressed={str(key in among).lower()}")

    button = ui.button(text, color=None, on_click=turn).props("no-caps flat dense").classes("ms-choice")
    show()
