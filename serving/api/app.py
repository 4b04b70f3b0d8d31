"""The HTTP API as one app: routes, bounds, errors, and the connections for as long as it runs."""

import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serving.api import health, online, reads, reasons, writes
from serving.api.access import Bounds
from serving.api.live import Live
from serving.api.metrics import Metrics, Timed
from serving.api.origins import Origins
from serving.api.paths import Segments
from serving.api.problems import described, tell_problems
from streams.contract.schemas import components
from streams.settings.settings import Settings, SettingsError

#: What is under way when the API is told to stop gets so many seconds.
_GRACE_S: Final = 5
_SUMMARY: Final = "Recommendations out, events and records in; Kafka behind both."


def make_api(settings: Settings) -> FastAPI:
    """The app; its lifespan connects to Kafka and Redis."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live = Live(settings)
        app.state.live = live
        for collector in (live.system, live.gauges):
            app.state.metrics.registry.register(collector)
        async with live.open():
            yield

    app = FastAPI(
        title="millstream",
        version=_version(),
        summary=_SUMMARY,
        lifespan=lifespan,
        # else a client that follows redirects erases `ann` when it asks to erase `ann/`
        redirect_slashes=False,
        responses=described(421),
    )
    app.state.metrics = Metrics()
    # a request comes through the one that is added last first
    app.add_middleware(Segments)
    app.add_middleware(Bounds, settings=settings.api)
    if settings.api.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.api.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Origins, settings=settings.api)
    app.add_middleware(Timed, metrics=app.state.metrics)
    tell_problems(app)
    for router in (reads.router, reasons.router, online.router, writes.router, health.router):
        app.include_router(router)
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        described = generated()
        described["components"]["schemas"] |= components()
        return described

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def serve(settings: Settings, mount: Callable[[FastAPI, Settings], None] | None = None) -> None:
    """Run the API until Ctrl-C or SIGTERM.

    Args:
        mount: adds the dashboard, or anything else that is served with the API.

    Raises:
        SettingsError: it would be open to others without a token.
    """
    check_exposure(settings)
    app = make_api(settings)
    if mount is not None:
        mount(app, settings)
    config = uvicorn.Config(
        app,
        host=settings.api.host,
        port=settings.api.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    _Server(config, app).run()


class _Server(uvicorn.Server):
    """Ends open streams when it is told to stop, which would hold it up, and then exits as any role does."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # a second signal does not wait
        self.should_exit = True
        live: Live | None = getattr(self._app.state, "live", None)
        if live is not None:
            live.end_streams()


def check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond this machine without tokens.

    Raises:
        SettingsError: what to set.
    """
    host = settings.api.host
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not settings.api.tokens:
        raise SettingsError(
            f"api.host {host!r} lets others in, and no token is set: make one with `millstream api-token`, put its "
            "digest into api.tokens, or set api.host to 127.0.0.1"
        )


def _version() -> str:
    try:
        return version("millstream")
    except PackageNotFoundError:  # run out of its sources
        return "0"
