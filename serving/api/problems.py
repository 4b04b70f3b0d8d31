"""Errors as RFC 9457 has them: type, title, status, and a detail that says what is wrong and what would be right."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from streams.contract.events import BadRecord

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """A problem on the wire."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    #: which part of the request is wrong, where one is
    field: str | None = None


class Problem(Exception):
    """Ends a request with a problem."""

    def __init__(
        self, status: int, title: str, detail: str, *, field: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.details = ProblemDetails(title=title, status=status, detail=detail, field=field or None)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer that tells it."""
        content = self.details.model_dump(exclude_none=True)
        return JSONResponse(content, self.details.status, self.headers, MEDIA_TYPE)


def tell_problems(app: FastAPI) -> None:
    """Have every error of the app told as a problem."""

    @app.exception_handler(Problem)
    async def ours(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(BadRecord)
    async def broken(_: Request, bad: BadRecord) -> Response:
        return Problem(422, "The record cannot be used", bad.reason, field=bad.field).response()

    @app.exception_handler(RequestValidationError)
    async def unprocessable(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return Problem(422, "The request is not valid", str(first["msg"]), field=field).response()

    @app.exception_handler(StarletteHTTPException)
    async def framework(request: Request, error: StarletteHTTPException) -> Response:
        detail = {
            404: f"there is nothing at {request.url.path}; /docs lists what there is",
            405: f"{request.method} is not known at {request.url.path}; /docs lists what is",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework names the methods of the first route that fits, not of all
            headers["Allow"] = ", ".join(_methods(app, request.url.path))
        return Problem(error.status_code, str(error.detail), detail, headers=headers).response()


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods that the paths of the OpenAPI document take."""
    found = [
        methods
        for template, methods in app.openapi()["paths"].items()
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
    ]
    return sorted(method.upper() for methods in found for method in methods)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the problems that a path may end in."""
    titles = {
        401: "No token, or one that is not known",
        403: "The token's scopes do not cover this",
        404: "Nothing is known by that name",
        409: "The body names another than the path",
        413: "The body is too long",
        415: "The body is not sent as JSON",
        421: "The request is for another host",
        422: "The request is not valid",
        429: "Too many requests",
        503: "A server that this needs is away",
    }
    return {
        status: {"model": ProblemDetails, "description": titles[status], "content": {MEDIA_TYPE: {}}}
        for status in statuses
    }
