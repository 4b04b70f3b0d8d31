"""What users make of their lists, and what came of the experiments, over HTTP."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from serving.api.access import Needs
from serving.api.live import Live
from serving.api.problems import Problem, described
from serving.experiments.exploring import PolicyResult, judged
from serving.experiments.results import ExperimentResult
from serving.experiments.shadows import ShadowResult
from serving.measures import RATES, Measure, rates
from serving.online.windows import summed

router = APIRouter(prefix="/v1", dependencies=[Depends(Needs("read"))])


class Counted(BaseModel):
    """What was counted, and the rates that it makes; None where there is nothing to divide by."""

    counts: dict[str, float]
    rates: dict[str, float | None]


class Moment(Counted):
    """One window, all values together."""

    begins: int = Field(description="event time in ms")


class OnlineMetrics(BaseModel):
    """What users made of their lists."""

    by: str
    breakdowns: list[str] = Field(description="what else to ask for as `by`")
    since: int = Field(description="event time in ms at which the first window counted begins")
    until: int = Field(description="event time in ms at which the newest one ends; 0 when nothing was counted")
    behind: int = Field(description="lists and events that are there and not counted yet")
    late: int = Field(description="what came too late for the oldest window")
    unmatched: dict[str, int] = Field(description="events whose `rec_id` led to no place of a list, by why")
    total: Counted
    values: dict[str, Counted]
    series: list[Moment] = Field(description="window by window, the oldest first")
    drift: dict[str, float] = Field(description="stability index of the newest events against those before")
    concentration: dict[str, float] = Field(description="Gini coefficients over the items")
    meanings: dict[str, str] = Field(description="what each rate is")


@router.get("/metrics/online", responses=described(401, 403, 404, 422, 429, 503))
async def online_metrics(
    request: Request,
    by: Annotated[str, Query(max_length=64, description="the breakdown")] = "variant",
    seconds: Annotated[
        float | None,
        Query(gt=0, le=10**9, description="of the newest so many seconds of event time; of all, when left out"),
    ] = None,
) -> OnlineMetrics:
    """What users made of their lists, in windows of event time, broken down `by` one dimension."""
    live = _counting(request)
    tally = live.tally
    windows = tally.windows
    if by not in windows.dimensions:
        raise Problem(404, "No such breakdown", f"`by` is one of {', '.join(windows.dimensions)}", field="by")
    since = windows.since(seconds) if seconds else 0
    values = tally.breakdown(by, since)
    series = [(begins, summed(each)) for begins, each in windows.series(by).items() if begins >= since]
    everything = summed({value: counts for value, (counts, _) in values.items()})
    return OnlineMetrics(
        by=by,
        breakdowns=list(windows.dimensions),
        since=series[0][0] if series else 0,
        until=windows.newest + windows.window_ms if series else 0,
        behind=live.follower.behind,
        late=windows.late,
        unmatched=dict(tally.attribution.unmatched),
        total=Counted(counts=_named(everything), rates=rates(everything)),
        values={value: Counted(counts=_named(counts), rates=found) for value, (counts, found) in values.items()},
        series=[Moment(begins=begins, counts=_named(counts), rates=rates(counts)) for begins, counts in series],
        drift=tally.drift(),
        concentration=live.gauges.concentration(),
        meanings={name: rate.meaning for name, rate in RATES.items() if rate.under is not None},
    )


def _named(counts: list[float]) -> dict[str, float]:
    return {measure.name.lower(): round(count, 6) for measure, count in zip(Measure, counts, strict=True)}


class Results(BaseModel):
    """The experiments that run."""

    behind: int = Field(description="lists and events that are there and not counted yet")
    until: int = Field(description="event time in ms up to which was counted")
    experiments: list[ExperimentResult]
    shadows: list[ShadowResult]
    exploring: list[PolicyResult] = Field(description="policies for the place that explores, by the log of lists")


@router.get("/experiments", responses=described(401, 403, 429, 503))
async def experiments(request: Request) -> Results:
    """The results of the experiments that run: per arm the metrics, the effect against the first arm, and a verdict."""
    live = _counting(request)
    return Results(
        behind=live.follower.behind,
        until=live.tally.windows.newest + live.tally.windows.window_ms,
        experiments=await live.report.refresh(),
        shadows=live.report.shadows,
        exploring=judged(live.tally.exploring.choices()),
    )


@router.get("/experiments/choices", response_class=Response, responses=described(401, 403, 429, 503))
async def choices(request: Request) -> Response:
    """What stood at the exploring places that were shown: JSON lines with rec_id, item_id, logged and reward.

    `logged` is the chance of the draw among the new items. With `new`, the chance under another policy, added to each
    line, `millstream experiments off-policy` judges that policy.
    """
    drawn = [each._asdict() for each in _counting(request).tally.exploring.choices() if each.logged is not None]
    return Response(msgspec.json.Encoder().encode_lines(drawn), media_type="application/x-ndjson")


def _counting(request: Request) -> Live:
    live: Live = request.app.state.live
    if not live.settings.online.enabled:
        raise Problem(503, "Not counted here", "`online.enabled` is off for this process: ask the one that has it on")
    return live
