"""Ids in paths: `/` within an id stays apart from `/` between the segments of a path.

Servers decode a path before it is cut into segments, so that the user `a/b`, sent as `a%2Fb`, would be two segments.
Here each segment is decoded alone. What is then left encoded, `%` and `/`, is decoded once the route is known.
"""

from typing import Annotated, Final
from urllib.parse import unquote_to_bytes

from fastapi import Path
from pydantic import BeforeValidator
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.problems import Problem
from streams.contract.events import MAX_ID

_PERCENT: Final = "%25"
_SLASH: Final = "%2F"


def decoded(segment: str) -> str:
    """The id that a segment of a path spells, which `Segments` has left encoded."""
    return segment.replace(_SLASH, "/").replace(_PERCENT, "%")


_ID: Final = BeforeValidator(decoded)
UserId = Annotated[str, Path(min_length=1, max_length=MAX_ID, description="the user, as events name it"), _ID]
ItemId = Annotated[str, Path(min_length=1, max_length=MAX_ID, description="the item, as events name it"), _ID]


class Segments:
    """ASGI middleware: decodes each segment of a path, except for `%` and `/` within it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or b""
        if b"%" in raw:
            try:
                scope["path"] = "/".join(map(_segment, raw.split(b"/")))
            except UnicodeDecodeError:
                # to put a replacement character in its place would make one id of many
                problem = Problem(422, "The request is not valid", "the path is not UTF-8: percent-encode ids as UTF-8")
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _segment(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode().replace("%", _PERCENT).replace("/", _SLASH)
