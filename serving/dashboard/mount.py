"""Puts the dashboard onto the HTTP API's app, at /dashboard; `/` leads there."""

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from nicegui import app as pages
from nicegui import ui
from starlette.responses import RedirectResponse

from serving.api.live import Live
from serving.api.origins import DASHBOARD
from serving.dashboard.board import Board
from serving.dashboard.feed.live_feed import Watch
from serving.dashboard.pages import frame
from serving.dashboard.session import KEPT_S
from streams.settings.settings import Settings

_STATIC: Final = Path(__file__).parent / "static"
#: Messages kept for a page whose connection is cut; the next sample makes the last one stale anyhow.
_HISTORY: Final = 20


def mount(api: FastAPI, settings: Settings) -> None:
    """Serve the dashboard with the API. A process can do so for one API only: NiceGUI is one to a process."""
    logging.getLogger("nicegui").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_of_no_page)
    around = api.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with around(app) as state:
            live: Live = app.state.live
            async with Watch(live).open() as watch:
                app.state.board = Board(settings, live, watch, app.state.metrics)
                yield state

    api.router.lifespan_context = lifespan

    @api.get("/", include_in_schema=False)
    @api.get(DASHBOARD, include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse(DASHBOARD + "/")

    def root() -> None:
        frame.root(api.state.board)

    pages.router.redirect_slashes = False  # as the API
    ui.add_css((_STATIC / "dashboard.css").read_text(), shared=True)
    ui.add_head_html(f"<script>{(_STATIC / 'live.js').read_text()}</script>", shared=True)
    ui.add_body_html((_STATIC / "marks.svg").read_text(), shared=True)
    ui.run_with(
        api,
        root=root,
        title="millstream",
        favicon=_STATIC / "favicon.svg",
        dark=None,
        mount_path=DASHBOARD,
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=_HISTORY,
        show_welcome_message=False,
        storage_secret=secrets.token_urlsafe(32) if settings.api.tokens else None,
        session_middleware_kwargs={"session_cookie": "millstream", "max_age": KEPT_S, "same_site": "strict"},
    )


def _of_no_page(record: logging.LogRecord) -> bool:
    """Whether a line of the log is about anything but a page's connection: those come with each page that opens."""
    text = record.getMessage()
    return '"WebSocket ' not in text and not text.startswith("connection ")
