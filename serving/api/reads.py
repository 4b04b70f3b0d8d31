"""What can be read: a user's list, and the lists as they are published."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, StringConstraints
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.api.access import Needs, check_token
from serving.api.live import Asked, Live, Origin, Served
from serving.api.metrics import Metrics
from serving.api.paths import UserId, decoded
from serving.api.problems import Problem, described
from serving.lists.engine import DEFAULT
from serving.lists.explanation import Explanation
from streams.contract.events import MAX_ID, encode

router = APIRouter(prefix="/v1", dependencies=[Depends(Needs("read"))])

ContextFeature = Annotated[str, StringConstraints(pattern=r"^[^=]{1,64}=.{1,256}$")]


class Part(BaseModel):
    """What one feature or adjuster adds to a score."""

    feature: str
    adds: float = Field(description="against the user's mean candidate")


class Place(BaseModel):
    """One place of a list."""

    item_id: str
    title: str = Field(description="from the item's record; empty when no record describes it")
    score: float
    sources: list[str] = Field(description="who proposed the item")
    reason: str = Field(description="why, for the user to read")
    propensity: float | None = Field(None, description="how probable it was to be drawn for this place, if it was")
    probability: float | None = Field(None, description="that the user likes this item next, where the model knows")
    minutes: float | None = Field(None, description="that the user would watch it for, where the model knows")
    parts: list[Part] | None = Field(None, description="what made its score, when that was asked for")


class RecommendationList(BaseModel):
    """A user's top-N."""

    user_id: str
    rec_id: str = Field(description="send it back in the events that this list leads to")
    seq: int = Field(description="the number of the user's list; a computed one has that of the list before it")
    origin: Origin = Field(
        description="`published` on Kafka; `computed` now; with Redis away `remembered` from before, or `trending`"
    )
    degraded: str | None = Field(None, description="what is away, when the list is not what it should be")
    model: str
    index: str
    generated_at: int = Field(description="ms since 1970")
    items: list[Place]
    explanation: str | None = Field(None, description="why a list has no items")


async def recommendations(
    request: Request,
    user_id: UserId,
    n: Annotated[int | None, Query(ge=1, le=500, description="places; as set, when left out")] = None,
    exclude: Annotated[list[str] | None, Query(max_length=500, description="items not to list")] = None,
    surface: Annotated[
        str, Query(max_length=64, description="the pipeline that makes it, one of the settings'")
    ] = DEFAULT,
    context: Annotated[
        list[ContextFeature] | None, Query(max_length=32, description="what holds now, as country=KR")
    ] = None,
    explain: Annotated[bool, Query(description="tell what made each score; the list is then made now")] = False,
) -> Response:
    """The user's list: the published one, or one made now when the user has done something since.

    One is also made now when more places are asked for than a published list has, when items are excluded, for another
    surface, in a context, and to be explained. A published list is made again, and published with the next `seq`, when
    its model has left service or an item of it was withdrawn.
    """
    live = warm(request)
    if surface not in live.engine.pipelines:
        known = ", ".join(live.engine.pipelines)
        raise Problem(404, "No such surface", f"the settings name no pipeline {surface!r}; there are: {known}")
    held = dict(feature.split("=", 1) for feature in context or ())
    asked = Asked(n or live.settings.lists.size, frozenset(exclude or ()), surface, held, explain)
    return await _served(live, request.app.state.metrics, user_id, asked)


async def _served(live: Live, metrics: Metrics, user: str, asked: Asked) -> Response:
    served = await live.recommendations(user, asked)
    metrics.lists.labels(served.origin).inc()
    return Response(_answer(live, served), media_type="application/json")


class UsualRequest(APIRoute):
    """Answers what is asked for most, a user's list and nothing beside, past the framework.

    Reading parameters and dependencies takes it longer than all the rest. What is asked otherwise goes its usual way.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, user = scope["app"].state, decoded(scope["path_params"]["user_id"])
        live: Live = state.live
        usual = scope["method"] == "GET" and not scope["query_string"] and len(user) <= MAX_ID
        if usual and live.warm:
            check_token(live.settings.api, Headers(scope=scope), "read")
            answer = await _served(live, state.metrics, user, Asked(live.settings.lists.size))
            await answer(scope, receive, send)
        else:
            await super().handle(scope, receive, send)


router.add_api_route(
    "/users/{user_id}/recommendations",
    recommendations,
    response_model=RecommendationList,
    responses=described(401, 403, 404, 422, 429),
    route_class_override=UsualRequest,
)


def _answer(live: Live, served: Served) -> bytes:
    """A `RecommendationList` as JSON. To make it as that takes a seventh of a request's time."""
    made = served.recommendations
    places = [
        {
            "item_id": place.item_id,
            "title": title(live, place.item_id),
            "score": place.score,
            "sources": place.sources,
            "reason": place.reason,
            "propensity": place.propensity,
            "probability": place.probability,
            "minutes": place.minutes,
            "parts": None if served.why is None else [part.model_dump() for part in parts(served.why[place.item_id])],
        }
        for place in made.items
    ]
    return msgspec.json.encode(
        {
            "user_id": made.user_id,
            "rec_id": made.rec_id,
            "seq": made.seq,
            "origin": served.origin,
            "degraded": served.degraded,
            "model": made.model,
            "index": made.index,
            "generated_at": made.generated_at,
            "items": places,
            "explanation": None if places else _why_empty(live),
        }
    )


def parts(explanation: Explanation) -> list[Part]:
    """The parts of a score that are not nothing."""
    return [Part(feature=name, adds=round(adds, 6)) for name, adds in explanation.parts if round(adds, 6)]


def _why_empty(live: Live) -> str:
    if not len(live.engine.catalogue):
        return "no item is known yet: put items, or send events on them"
    return "nothing has been liked yet that this user has not seen and that is available: lists fill as events come"


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses=described(401, 403, 429) | {200: {"content": {"text/event-stream": {}}}},
)
async def stream(
    request: Request,
    user: Annotated[str | None, Query(min_length=1, max_length=MAX_ID, description="of this user only")] = None,
) -> StreamingResponse:
    """The lists as they are published, as server-sent events named `recommendations`; a comment keeps it alive."""
    live: Live = request.app.state.live
    if live.listeners >= live.settings.api.max_streams:
        raise Problem(429, "Too many streams", f"at most {live.settings.api.max_streams} are open at once")

    async def told() -> AsyncIterator[bytes]:
        yield b": lists as they are published\n\n"
        async for made in live.lists(user):
            if made is None:
                yield b": still here\n\n"
            else:
                yield b"event: recommendations\nid: " + made.rec_id.encode() + b"\ndata: " + encode(made) + b"\n\n"

    headers: dict[str, Any] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told(), media_type="text/event-stream", headers=headers)


def warm(request: Request) -> Live:
    """What the API holds, once it can serve."""
    live: Live = request.app.state.live
    if not live.warm:
        detail = "the catalogue and the trends are not read yet; /readyz tells"
        raise Problem(503, "Not ready", detail, headers={"Retry-After": "1"})
    return live


def title(live: Live, item_id: str) -> str:
    """The item's title; empty for one that no record describes."""
    catalogue = live.engine.catalogue
    number = catalogue.numbers.get(item_id)
    return "" if number is None else catalogue.items[number].title
