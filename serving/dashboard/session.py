"""Who looks: the scopes of the token that was given in this browser, kept in the server's memory alone.

The browser has a signed cookie that names its session and cannot be read by scripts; the token itself is not kept.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from nicegui import ui

from serving.api.access import scopes_of
from serving.dashboard.board import Board
from streams.settings.settings import Scope

#: Who has signed in is forgotten after so long, in seconds.
KEPT_S: Final = 12 * 3600
_MOST: Final = 1_000


class Sessions:
    """The scopes of those who have signed in, the newest so many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._granted: OrderedDict[str, tuple[float, frozenset[Scope]]] = OrderedDict()

    def grant(self, session: str, scopes: frozenset[Scope]) -> None:
        """Let a session do what these scopes allow, in place of what it might before."""
        self._granted.pop(session, None)
        self._granted[session] = self._clock() + KEPT_S, scopes
        if len(self._granted) > _MOST:
            self._granted.popitem(last=False)

    def scopes(self, session: str) -> frozenset[Scope]:
        """What a session may do."""
        until, scopes = self._granted.get(session, (0.0, frozenset[Scope]()))
        return scopes if self._clock() < until else frozenset()

    def forget(self, session: str) -> None:
        """Take everything back."""
        self._granted.pop(session, None)


_sessions = Sessions()


def scopes(board: Board) -> frozenset[Scope]:
    """What the visitor may do; everything, when no token is set."""
    if not board.settings.api.tokens:
        return frozenset({"read", "write", "admin"})
    return _sessions.scopes(_name())


def sign_in(board: Board, token: str) -> bool:
    """Take a token; False when it is not known."""
    found = scopes_of(token, board.settings.api.tokens)
    _sessions.grant(_name(), found)
    return bool(found)


def sign_out() -> None:
    """Forget what the visitor was allowed."""
    _sessions.forget(_name())


def may(board: Board, scope: Scope) -> bool:
    """Whether the visitor may do what needs that scope; says so when not."""
    if scope in scopes(board):
        return True
    ui.notify(f"This needs a token with the scope {scope}: sign in with one", type="negative")
    return False


def _name() -> str:
    """The session's name in the cookie that the page was asked for with."""
    return str(ui.context.client.request.session["id"])
