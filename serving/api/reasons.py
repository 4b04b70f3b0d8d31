"""Reasons: why an item is on a user's list or is not, and which items are like it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from serving.api.access import needs
from serving.api.live import AWAY, Live
from serving.api.problems import Problem, described
from serving.api.reads import ItemId, UserId, title, warm
from serving.explanation import Explanation, Fate
from streams.events import MAX_ID

router = APIRouter(prefix="/v1", dependencies=[Depends(needs("read"))])


class RelatedItem(BaseModel):
    """An item like another."""

    item_id: str
    title: str
    similarity: float
    source: str = Field(description="`neighbours`: the same users liked both; `two_tower`: their features are alike")


class RelatedList(BaseModel):
    """Items like one, the nearest first."""

    item_id: str
    model: str
    items: list[RelatedItem]
    explanation: str | None = Field(None, description="why there are no items")


@router.get("/items/{item_id}/related", responses=described(401, 403, 404, 422, 429))
async def related(
    request: Request,
    item_id: ItemId,
    n: Annotated[int, Query(ge=1, le=200, description="items")] = 20,
) -> RelatedList:
    """Items like one: those that the same users liked, then those whose features are alike."""
    live = warm(request)
    _known(live, item_id)
    found = await live.engine.related(item_id, n)
    return RelatedList(
        item_id=item_id,
        model=live.engine.version,
        items=[
            RelatedItem(item_id=other, title=title(live, other), similarity=round(similarity, 6), source=source)
            for other, similarity, source in found
        ],
        explanation=None if found else "no model has been trained yet: likeness is learnt from events",
    )


class Part(BaseModel):
    """What one feature adds to a score."""

    feature: str
    adds: float = Field(description="against the user's mean candidate")


class ItemExplanation(BaseModel):
    """What became of an item when the user's list was made just now."""

    user_id: str
    item_id: str
    fate: Fate
    says: str = Field(description="the same in a sentence")
    rank: int | None = Field(None, description="among all candidates, from 1 on")
    candidates: int
    score: float | None = None
    sources: list[str]
    parts: list[Part] = Field(description="the largest first; they sum to the score's excess over the mean candidate's")
    model: str


@router.get("/users/{user_id}/explain", responses=described(401, 403, 404, 422, 429, 503))
async def explain(
    request: Request,
    user_id: UserId,
    item: Annotated[str, Query(min_length=1, max_length=MAX_ID, description="the item that is asked about")],
) -> ItemExplanation:
    """Why an item is on the user's list; or what left it out; or at which rank it stood."""
    return await explained(warm(request), user_id, item)


async def explained(live: Live, user_id: str, item: str) -> ItemExplanation:
    """What becomes of an item when the user's list is made now.

    Raises:
        Problem: no such item is known, or Redis is away.
    """
    _known(live, item)
    try:
        found = await live.engine.explain(user_id, item)
    except AWAY as error:
        raise Problem(503, "Redis is away", f"the user's state cannot be read: {error}") from None
    ranked = found.fate == "ranked"
    return ItemExplanation(
        user_id=user_id,
        item_id=item,
        fate=found.fate,
        says=_says(found, live.settings.lists.size),
        rank=found.rank if ranked else None,
        candidates=found.candidates,
        score=round(found.score, 6) if ranked else None,
        sources=list(found.sources),
        parts=[Part(feature=name, adds=round(adds, 6)) for name, adds in found.parts if adds],
        model=live.engine.version,
    )


def _says(found: Explanation, size: int) -> str:
    if found.fate == "seen":
        return "the user has seen it, and what was seen is not shown again"
    if found.fate == "withdrawn":
        return "it is withdrawn: its record says that it is not available"
    if found.fate == "not proposed":
        return f"no source proposed it among the {found.candidates} candidates"
    where = "on the list" if found.rank <= size else f"below the {size} places of the list"
    proposers = " and ".join(found.sources)
    return f"{where}: rank {found.rank} of {found.candidates} candidates, proposed by {proposers}"


def _known(live: Live, item_id: str) -> None:
    if item_id not in live.engine.catalogue.numbers:
        raise Problem(404, "No such item", f"neither a record nor an event has named the item {item_id!r} so far")
