"""How the API is: alive, ready, and in numbers."""

import asyncio
import contextlib
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from models.recommender import TRENDING_VERSION
from serving.api.live import AWAY, Live
from serving.api.metrics import Metrics
from serving.api.problems import Problem, described

router = APIRouter()

#: A scrape waits so long, in seconds, for what Redis tells.
_PATIENCE_S: Final = 1.0


class Readiness(BaseModel):
    """What serves."""

    model: str
    index: str
    fallback: bool
    items: int


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses=described(503))
async def readyz(request: Request) -> Readiness:
    """Ready to serve lists: warmed up, with a model, or with trending items alone until there is one (`fallback`)."""
    live: Live = request.app.state.live
    why_not = await live.ready()
    if why_not:
        raise Problem(503, "Not ready", why_not, headers={"Retry-After": "1"})
    engine = live.engine
    return Readiness(
        model=engine.version,
        index=engine.index_name,
        fallback=engine.version == TRENDING_VERSION,
        items=len(engine.catalogue),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """The numbers of the API, of the other roles, and of what users make of their lists, as Prometheus reads them."""
    live: Live = request.app.state.live
    told: Metrics = request.app.state.metrics
    told.streams.set(live.listeners)
    told.items.set(len(live.engine.catalogue))
    told.model.clear()
    told.model.labels(live.engine.version).set(1)
    with contextlib.suppress(*AWAY):  # then what Redis tells is left out, and millstream_redis_up is 0
        async with asyncio.timeout(_PATIENCE_S):
            await live.system.read(live.store)
    await live.report.refresh()
    return Response(generate_latest(told.registry), media_type=CONTENT_TYPE_LATEST)
