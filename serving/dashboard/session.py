"""Who looks: the scopes of the token given in this browser tab, kept in the server's memory alone."""

from typing import Final

from nicegui import app, ui

from serving.api.access import scopes_of
from serving.dashboard.board import Board
from streams.settings import Scope

#: A tab that was signed in is forgotten after so long, in seconds.
KEPT_S: Final = 12 * 3600.0
_KEY: Final = "scopes"


def scopes(board: Board) -> frozenset[str]:
    """What the visitor may do; everything, when no token is set. The tab must be connected."""
    if not board.settings.api.tokens:
        return frozenset({"read", "write", "admin"})
    return frozenset(app.storage.tab.get(_KEY, ()))


def sign_in(board: Board, token: str) -> bool:
    """Take a token; False when it is not known. Only its scopes are kept."""
    found = scopes_of(token, board.settings.api.tokens)
    app.storage.tab[_KEY] = sorted(found)
    return bool(found)


def sign_out() -> None:
    """Forget what the tab was allowed."""
    app.storage.tab.pop(_KEY, None)


def may(board: Board, scope: Scope) -> bool:
    """Whether the visitor may do what needs that scope; says so when not."""
    if scope in scopes(board):
        return True
    ui.notify(f"This needs a token with the scope {scope}: sign in with one", type="negative")
    return False
