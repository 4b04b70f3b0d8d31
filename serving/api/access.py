"""Who may do what, how often, and how long a body may be."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from serving.api.problems import Problem
from streams.settings.settings import ApiSettings, Scope

#: Clients remembered by the rate limit; the one not seen for longest is forgotten first.
_CLIENTS: Final = 10_000


def digest(token: str) -> str:
    """What the settings keep of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def scopes_of(token: str, tokens: Mapping[str, Sequence[Scope]]) -> frozenset[Scope]:
    """The scopes of a token; none for one that is not known. Its time does not tell how near a guess was."""
    found: frozenset[Scope] = frozenset()
    given = digest(token)
    for known, scopes in tokens.items():
        if hmac.compare_digest(known, given):
            found = frozenset(scopes)
    # admin includes the rest, and who may write may read
    if "admin" in found:
        return frozenset({"read", "write", "admin"})
    return found | {"read"} if "write" in found else found


class Needs(HTTPBearer):
    """The dependency of a path that only tokens with that scope may use; without any token set, everyone may."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(
            scheme_name="HTTPBearer", auto_error=False, description="a token made by `millstream api-token`"
        )
        self._scope = scope

    async def __call__(self, request: HTTPConnection) -> None:
        check_token(request.app.state.live.settings.api, request.headers, self._scope)


def check_token(settings: ApiSettings, headers: Headers, scope: Scope) -> None:
    """Let those pass whose headers bear a token with the scope, and everyone where no token is set.

    Raises:
        Problem: 401 or 403.
    """
    if not settings.tokens:
        return
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unknown("a token is needed: Authorization: Bearer <token>")
    scopes = scopes_of(token, settings.tokens)
    if not scopes:
        raise _unknown("the token is not known here; `millstream api-token` makes one")
    if scope not in scopes:
        raise Problem(403, "Not allowed", f"this needs the scope {scope!r}; the token has {', '.join(scopes)}")


def _unknown(detail: str) -> Problem:
    return Problem(401, "Not authorised", detail, headers={"WWW-Authenticate": "Bearer"})


@dataclass
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """A token bucket for each client: `rate` requests a second, `burst` at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Take one request of the client's; 0 when it may pass, else how long until one may."""
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(float(self._burst), now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / self._rate
        bucket.tokens -= 1.0
        return 0.0


class Bounds:
    """ASGI middleware: turns away clients that ask too often, and bodies that are too long."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._max_bytes = settings.max_body_bytes
        self._limit = RateLimit(settings.rate_per_s, settings.burst)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_rate(scope)
            self._check_length(scope)
            await self._app(scope, self._counted(receive), send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    def _check_rate(self, scope: AsgiScope) -> None:
        client = scope.get("client")
        wait_s = self._limit.wait_s(client[0] if client else "")
        if wait_s:
            raise Problem(
                429,
                "Too many requests",
                f"try again in {wait_s:.2f} s; `api.rate_per_s` is the limit",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )

    def _check_length(self, scope: AsgiScope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._max_bytes:
                raise self._too_long()

    def _counted(self, receive: Receive) -> Receive:
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._max_bytes:
                raise self._too_long()
            return message

        return counted

    def _too_long(self) -> Problem:
        return Problem(413, "Too long", f"at most {self._max_bytes:,} bytes are taken; send events in smaller batches")
