"""The places of a list, drawn as one element: a page that makes hundreds of them keeps its reader waiting.

What comes from events and records is escaped, so that nothing in it is taken for HTML.
"""

from collections.abc import Awaitable, Callable, Sequence
from html import escape
from typing import Final

from nicegui import events, ui

from serving.api.origins import DASHBOARD
from serving.dashboard.feed.acting import Act, Move
from serving.dashboard.pages.parts import nothing, source_chips, to

_ACTS: Final[tuple[tuple[Act, str, str], ...]] = (
    ("watch", "play_arrow", "Watch"),
    ("like", "favorite", "Like"),
    ("hide", "visibility_off", "Hide"),
    ("skip", "skip_next", "Skip"),
)
_KNOWN: Final = frozenset(what for what, _, _ in _ACTS)
_BUTTONS: Final = "".join(
    f'<button type="button" class="ms-act ms-act-{what}" data-act="{what}" aria-label="{word}" title="{word}">'
    f'<i class="q-icon material-icons" aria-hidden="true">{icon}</i></button>'
    for what, icon, word in _ACTS
)
#: Tells which button was pressed, and at which item.
_PRESSED: Final = """event => {
    const button = event.target.closest("[data-act]");
    if (button) emit(button.dataset.act, button.closest("li").dataset.item);
}"""


class Places:
    """The list on a page; `act` is called with what was pressed, and the item."""

    def __init__(self, title: Callable[[str], str], act: Callable[[Act, str], Awaitable[None]]) -> None:
        self._title = title
        self._list = ui.html("", sanitize=False, tag="ol").classes("ms-places")
        self._empty = ui.element("div")
        with self._empty:
            nothing("playlist_remove", "The list is empty: lists fill as events come and items are described.")
        self._empty.visible = False

        async def pressed(event: events.GenericEventArguments) -> None:
            what, item = event.args  # a browser may send anything
            if what in _KNOWN:
                await act(what, str(item))

        self._list.on("click", pressed, js_handler=_PRESSED)

    def show(self, moves: Sequence[Move]) -> None:
        """Draw these places."""
        self._list.content = drawn(moves, self._title)
        self._empty.visible = not moves


def drawn(moves: Sequence[Move], title: Callable[[str], str]) -> str:
    """The places as HTML; `title` gives an item's."""
    scores = [move.place.score for move in moves]
    return "".join(
        _place(number, move, title(move.place.item_id), _share(move.place.score, scores))
        for number, move in enumerate(moves, 1)
    )


def _place(number: int, move: Move, title: str, share: float) -> str:
    place, up = move
    new = " ms-new" if up is None else ""
    moved = "new" if up is None else f"▲ {up}" if up > 0 else f"▼ {-up}" if up < 0 else ""
    down = " down" if up is not None and up < 0 else ""
    return (
        f'<li class="ms-place{new}" data-item="{escape(place.item_id)}">'
        f'<div class="ms-rank">{number}</div><div class="ms-place-text">'
        f'<a class="ms-place-title" href="{escape(DASHBOARD + to("/items", item=place.item_id))}">{escape(title)}</a>'
        f'<div class="ms-row ms-place-why">{source_chips(place.sources)}'
        f'<div class="ms-soft">{escape(place.reason)}</div></div></div>'
        f'<div class="ms-moved{down}">{moved}</div>'
        f'<div class="ms-score" aria-label="score {place.score:.3f}">'
        f'<div style="width: {100 * share:.0f}%"></div><div>{place.score:.3f}</div></div>'
        f'<div class="ms-acts">{_BUTTONS}</div></li>'
    )


def _share(score: float, scores: Sequence[float]) -> float:
    """How long a score's bar is: the list's best fills it, the worst leaves a tenth."""
    low, high = min(scores), max(scores)
    return 1.0 if high == low else 0.1 + 0.9 * (score - low) / (high - low)
