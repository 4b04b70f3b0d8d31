"""Which hosts the API answers to, and what the web pages of other sites may do.

A page of any site can have its visitor's browser send requests here. It cannot hide where it comes from: the browser
puts the page's origin into `Origin` with each write and each websocket. But a page can have its own name resolve to
this machine (DNS rebinding). The browser then takes page and API for one site, and only `Host` still shows the name of
the page.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.problems import Problem
from streams.settings.sections import host_name
from streams.settings.settings import ApiSettings

#: Where the dashboard is. Its pages read over a websocket or by polling, so all of it is closed to foreign pages.
DASHBOARD: Final = "/dashboard"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?")


@lru_cache(256)
def _host(text: str) -> str | None:
    """The host as others that are the same compare to it; None for what is no host, as a Unix socket's path."""
    try:
        return host_name(text)
    except ValueError:
        return None


class _Authority(NamedTuple):
    """Host and port of a header."""

    host: str
    port: int | None

    def at(self, default: int) -> tuple[str, int]:
        """Host and port, a port that is not named being the scheme's own."""
        return self.host, self.port or default


def _authority(text: str) -> _Authority | None:
    """What `Host` or the end of `Origin` names; None for what is no host."""
    parts = _AUTHORITY.fullmatch(text)
    host = _host(parts[1]) if parts else None
    return _Authority(host, int(parts[2]) if parts[2] else None) if parts and host else None


def _only_reads(scope: Scope) -> bool:
    """Whether a request only reads the API: what comes of it a browser shows to the pages of api.cors_origins alone."""
    path = scope["path"]
    on_dashboard = path == DASHBOARD or path.startswith(DASHBOARD + "/")
    return scope["type"] == "http" and scope["method"] in _READING and not on_dashboard


class Origins:
    """ASGI middleware: refuses requests to a foreign host, and what a page of a foreign origin must not do."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._trusted = frozenset(settings.allowed_hosts)
        self._hosts = self._trusted | {"localhost", _host(settings.host)}
        self._pages = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = _authority(hosts[0]) if len(hosts) == 1 else None
        # a request without Host comes from no browser: HTTP/1.0, as some load balancers' checks
        if hosts and (host is None or not self._answers_to(host.host, scope)):
            raise Problem(
                421,
                "Foreign host",
                f"this API does not go by the host {', '.join(hosts)!r}: ask it by the name or address that it listens "
                "on, or put the name that it is reached by into api.allowed_hosts",
            )
        if _only_reads(scope):
            return
        for origin in headers.getlist("origin"):
            if not self._is_own(origin, host):
                raise Problem(
                    403,
                    "Foreign page",
                    f"pages of the origin {origin!r} may not do this: put the origin into api.cors_origins, or its "
                    "host into api.allowed_hosts if the API is reached by that name",
                )

    def _answers_to(self, host: str, scope: Scope) -> bool:
        """Whether a request for that host is meant for this API.

        An address at which the connection arrived is: with api.host=0.0.0.0 the API listens on each address of the
        machine, and a Kubernetes probe asks for the address of the pod. No name can be made to look like an address,
        so this lets no page in.
        """
        if host in self._hosts:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        server = scope.get("server")
        return address.is_loopback or (server is not None and host == _host(server[0]))

    def _is_own(self, origin: str, host: _Authority | None) -> bool:
        """Whether a page of that origin may do what the API's own pages may."""
        if origin in self._pages or "*" in self._pages:
            return True
        scheme, _, rest = origin.partition("://")
        page, default = _authority(rest), _PORTS.get(scheme)
        if page is None or default is None:
            return False
        # behind a proxy that rewrites Host, only the setting knows the name that the browser shows
        return page.host in self._trusted or (host is not None and page.at(default) == host.at(default))
