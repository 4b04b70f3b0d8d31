"""Reasons: why an item is on a user's list or is not, and which items are like it."""

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from serving.api.access import Needs
from serving.api.live import AWAY, Live
from serving.api.paths import ItemId, UserId
from serving.api.problems import Problem, described
from serving.api.reads import Part, parts, title, warm
from serving.lists.explanation import NOT_PROPOSED, RANKED, Explanation
from streams.contract.events import MAX_ID

router = APIRouter(prefix="/v1", dependencies=[Depends(Needs("read"))])


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


class ItemExplanation(BaseModel):
    """What became of an item when the user's list was made just now."""

    user_id: str
    item_id: str
    fate: str = Field(description="`ranked`, `not proposed`, or the name of the filter that left it out")
    says: str = Field(description="the same in a sentence")
    place: int | None = Field(None, description="on the list, from 1 on")
    rank: int | None = Field(None, description="by score among all candidates, from 1 on")
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
    ranked = found.fate == RANKED
    return ItemExplanation(
        user_id=user_id,
        item_id=item,
        fate=found.fate,
        says=_says(found),
        place=found.place or None,
        rank=found.rank if ranked else None,
        candidates=found.candidates,
        score=round(found.score, 6) if ranked else None,
        sources=list(found.sources),
        parts=parts(found),
        model=live.engine.version,
    )


class Step(BaseModel):
    """What one component of the pipeline did."""

    stage: str
    component: str
    says: str
    count: int
    items: list[str] = Field(description="some of them")


class ListTrace(BaseModel):
    """A list made just now, stage by stage."""

    user_id: str
    model: str
    steps: list[Step]
    items: list[str] = Field(description="the list that came out")


@router.get("/users/{user_id}/trace", responses=described(401, 403, 422, 429, 503))
async def trace(request: Request, user_id: UserId) -> ListTrace:
    """What each source, filter and later stage does when the user's list is made now."""
    live = warm(request)
    try:
        told = await live.engine.trace(user_id)
    except AWAY as error:
        raise Problem(503, "Redis is away", f"the user's state cannot be read: {error}") from None
    steps = [Step(**asdict(step)) for step in told.steps]
    return ListTrace(user_id=user_id, model=told.model, steps=steps, items=list(told.items))


class ComponentCounts(BaseModel):
    """What a component has done in this process."""

    component: str
    calls: int
    ms_per_call: float
    entered: int = Field(description="candidates that came in, all users together")
    left: int = Field(description="candidates that went out, or were proposed")
    removed: int
    failures: int


class PipelineState(BaseModel):
    """A pipeline: its components by stage, what they have done, and how the places of lists are shared."""

    surface: str
    stages: dict[str, list[str]]
    counts: list[ComponentCounts]
    provider: str = Field(description="the feature by whose values exposure is measured")
    exposure: dict[str, float] = Field(description="the largest shares of exposure, earlier places counting more")
    exposure_gini: float = Field(description="0 when all providers listed are exposed alike, near 1 when one has all")


@router.get("/pipelines", responses=described(401, 403, 429))
async def pipelines(request: Request) -> list[PipelineState]:
    """The pipelines of the settings, and what each component has done in this process."""
    live = warm(request)
    return [
        PipelineState(
            surface=name,
            stages=dict(pipeline.describe()),
            counts=[
                ComponentCounts(
                    component=component,
                    calls=counts.calls,
                    ms_per_call=round(1000 * counts.seconds / counts.calls, 3),
                    entered=counts.entered,
                    left=counts.left,
                    removed=counts.removed,
                    failures=counts.failures,
                )
                for component, counts in pipeline.stages.counts.items()
            ],
            provider=pipeline.settings.provider,
            exposure=pipeline.exposure.largest(20),
            exposure_gini=round(pipeline.exposure.gini, 4),
        )
        for name, pipeline in live.engine.pipelines.items()
    ]


_LEFT_OUT: Final = {
    "withdrawn": "it is withdrawn: its record says that it is not available",
    "seen": "the user has seen it, and what was seen is not shown again",
    "hidden": "the user hid it",
    "disliked": "the user disliked it",
    "fatigue": "it was shown to the user again and again, and never turned to",
    "country": "it may not be shown in the user's country",
    "maturity": "it is for older people, or above the limit of the user's profile",
    "ruled_out": "a rule in the settings leaves it out",
}


def _says(found: Explanation) -> str:
    if found.fate == NOT_PROPOSED:
        drawn = f"; it was drawn for place {found.place} to explore it" if found.place else ""
        return f"no source proposed it among the {found.candidates} candidates{drawn}"
    if found.fate != RANKED:
        return _LEFT_OUT.get(found.fate, f"the filter {found.fate} left it out")
    where = f"place {found.place} of the list" if found.place else "not on the list"
    proposers = " and ".join(found.sources)
    return f"{where}: rank {found.rank} by score of {found.candidates} candidates, proposed by {proposers}"


def _known(live: Live, item_id: str) -> None:
    if item_id not in live.engine.catalogue.numbers:
        raise Problem(404, "No such item", f"neither a record nor an event has named the item {item_id!r} so far")
