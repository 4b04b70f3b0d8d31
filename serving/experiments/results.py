"""What came of an experiment: effects with intervals, the sequential test, the sample ratio, and a plain verdict."""

from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from models.statistics.effects import Estimate, Floats, difference, linearised, mean_of, without_past
from models.statistics.interleaving import preference
from models.statistics.samples import MISMATCH, sample_ratio_p, users_needed
from models.statistics.sequential import always_valid_interval, always_valid_p
from serving.experiments.ledger import Ledger, Sample
from serving.measures import RATES, Measure
from streams.settings.online import ExperimentSettings, Metric

#: Fewer users than this in an arm are too few for estimates that are taken for normal.
USERS_LEAST: Final = 100
#: More lists than this share with another variant than assigned: the arms are not what users get.
STRANGE_MOST: Final = 0.02


class Interval(BaseModel):
    """An estimate and the bounds around it; None where too little was seen, or nothing but the same, to tell them."""

    value: float
    low: float | None
    high: float | None


class Effect(BaseModel):
    """By how much an arm is more than the control, in the metric's own unit."""

    fixed: Interval = Field(description="right when looked at once, at a moment chosen beforehand")
    always: Interval = Field(description="right at every look")
    p_fixed: float
    p_always: float = Field(description="the sequential test's: it may be looked at whenever one likes")


class Comparison(BaseModel):
    """An arm against the control in one metric."""

    raw: Effect
    adjusted: Effect | None = Field(None, description="with what the users' past foretells taken out (CUPED)")
    variance_left: float | None = Field(None, description="what the adjustment left of the variance")
    relative: float | None = Field(None, description="the raw effect as a share of the control")

    @property
    def best(self) -> Effect:
        """The adjusted effect where there is one."""
        return self.adjusted or self.raw


class ArmResult(BaseModel):
    """One arm."""

    name: str
    pipeline: str | None
    share: float
    users: int
    metrics: dict[str, Interval]
    against_control: dict[str, Comparison] | None = Field(None, description="None for the control")


class ExperimentResult(BaseModel):
    """An experiment as of now."""

    name: str
    metric: str = Field(description="what decides")
    arms: list[ArmResult]
    preference: Effect | None = Field(
        None, description="of an interleaved experiment: how much users prefer the second arm's picks, from -1 to 1"
    )
    sample_ratio_p: float = Field(description="how often chance alone makes shares so uneven")
    lists: int
    strange_lists: int = Field(description="lists with another variant than their user was assigned")
    sampled: float = Field(description="share of the users that are compared; below 1 when there are many")
    verdict: str


def result_of(settings: ExperimentSettings, ledger: Ledger, sample: Sample, alpha: float) -> ExperimentResult:
    """What a sample of an experiment's users says, tested at `alpha` for all its arms together."""
    if settings.interleave:
        return _interleaved(settings, ledger, sample, alpha)
    in_arm = [sample.arm == number for number in range(len(settings.arms))]
    users = [int(each.sum()) for each in in_arm]
    each_alpha = alpha / (len(settings.arms) - 1)  # Bonferroni, over the arms that are compared with the control
    arms = []
    for number, arm in enumerate(settings.arms):
        compared = None
        if number:
            compared = {
                name: _compare(name, sample, in_arm[number], in_arm[0], settings.effect, each_alpha) for name in RATES
            }
        metrics = {name: interval_of(mean_of(_values(name, sample.now[in_arm[number]])), 1 - alpha) for name in RATES}
        arms.append(
            ArmResult(
                name=arm.name,
                pipeline=arm.pipeline,
                share=arm.share,
                users=users[number],
                metrics=metrics,
                against_control=compared,
            )
        )
    ratio_p = sample_ratio_p(users, [arm.share for arm in settings.arms])
    return ExperimentResult(
        name=settings.name,
        metric=settings.metric,
        arms=arms,
        sample_ratio_p=ratio_p,
        lists=ledger.lists,
        strange_lists=ledger.strange,
        sampled=sample.share,
        verdict=_verdict(settings, arms, ratio_p, ledger, _needed(settings, sample, in_arm[0], each_alpha), each_alpha),
    )


def _interleaved(settings: ExperimentSettings, ledger: Ledger, sample: Sample, alpha: float) -> ExperimentResult:
    """Every user got lists that both arms picked: what counts is whose picks were taken."""
    first, second = sample.now[:, Measure.FIRST_TAKEN], sample.now[:, Measure.SECOND_TAKEN]
    metrics = {name: interval_of(mean_of(_values(name, sample.now)), 1 - alpha) for name in RATES}
    users = int((first + second > 0).sum())
    arms = [
        ArmResult(
            name=arm.name, pipeline=arm.pipeline, share=arm.share, users=users, metrics=metrics, against_control=None
        )
        for arm in settings.arms
    ]
    effect = effect_of(preference(first, second), settings.effect, alpha)
    refused = _strange(ledger)
    if refused or users < USERS_LEAST:
        verdict = refused or f"Too early: fewer than {USERS_LEAST} users took anything from an interleaved list."
    else:
        better, worse = reversed(arms) if effect.always.value > 0 else arms
        said = "is preferred to" if effect.p_always < alpha else "is not shown to be preferred to"
        low, high = effect.always.low or 0.0, effect.always.high or 0.0
        verdict = (
            f"{better.name} {said} {worse.name}: {effect.always.value:+.3f} "
            f"({low:+.3f} to {high:+.3f} at whatever moment one looks; above 0 for {arms[1].name})."
        )
    return ExperimentResult(
        name=settings.name,
        metric=settings.metric,
        arms=arms,
        preference=effect,
        sample_ratio_p=1.0,
        lists=ledger.lists,
        strange_lists=ledger.strange,
        sampled=sample.share,
        verdict=verdict,
    )


def _strange(ledger: Ledger) -> str | None:
    """Why nothing can be read where lists are not what users were assigned."""
    if ledger.strange <= STRANGE_MOST * ledger.lists:
        return None
    return (
        f"Do not read the effects: {ledger.strange:,} of {ledger.lists:,} lists carry another variant than their "
        "user was assigned. Do all processes have the same settings of experiments?"
    )


def _values(name: Metric, sums: npt.NDArray[np.float64]) -> Floats:
    """Each user's value, whose mean is the metric."""
    over, under, _ = RATES[name]
    return sums[:, over] if under is None else linearised(sums[:, over], sums[:, under])


def _compare(
    name: Metric,
    sample: Sample,
    treated: npt.NDArray[np.bool_],
    control: npt.NDArray[np.bool_],
    hoped: float,
    alpha: float,
) -> Comparison:
    values = [_values(name, sample.now[each]) for each in (treated, control)]
    means = [mean_of(each) for each in values]
    base = float(means[1].value)
    tau = hoped * abs(base) or hoped
    raw = difference(*means)
    comparison = Comparison(raw=effect_of(raw, tau, alpha), relative=float(raw.value) / base if base else None)
    past = sample.before[treated | control]
    if past[:, RATES[name].over].any() and min(map(len, values)) > 1:
        before = np.zeros(len(sample.arm))
        before[treated | control] = _values(name, past)  # one ratio for both: no arm had had an effect yet
        adjusted = difference(*map(mean_of, without_past(values[0], values[1], before[treated], before[control])))
        comparison.adjusted = effect_of(adjusted, tau, alpha)
        comparison.variance_left = float(adjusted.variance / raw.variance) if raw.variance > 0 else None
    return comparison


def effect_of(estimate: Estimate, tau: float, alpha: float) -> Effect:
    """An effect with its bounds and p-values at `alpha`; `tau` is the size that is hoped for."""
    return Effect(
        fixed=interval_of(estimate, 1 - alpha),
        always=_bounded(estimate, always_valid_interval(estimate, tau, 1 - alpha)),
        p_fixed=float(estimate.p_value()),
        p_always=float(always_valid_p(estimate, tau)),
    )


def interval_of(estimate: Estimate, level: float) -> Interval:
    """An estimate with the bounds that hold it in that share of cases."""
    return _bounded(estimate, estimate.interval(level))


def _bounded(estimate: Estimate, bounds: tuple[Floats, Floats]) -> Interval:
    known = 0.0 < estimate.variance < np.inf  # of a handful of like values the bounds would claim to be sure
    low, high = (float(bound) if known and np.isfinite(bound) else None for bound in bounds)
    return Interval(value=float(estimate.value), low=low, high=high)


def _needed(settings: ExperimentSettings, sample: Sample, control: npt.NDArray[np.bool_], alpha: float) -> int | None:
    """Users in the control and one arm like it to find the effect hoped for, looked at once; None when nobody knows."""
    values = _values(settings.metric, sample.now[control])
    if len(values) < USERS_LEAST or not values.mean() or not values.var():
        return None
    return users_needed(settings.effect * float(values.mean()), float(values.var(ddof=1)), alpha=alpha)


def _verdict(
    settings: ExperimentSettings,
    arms: list[ArmResult],
    ratio_p: float,
    ledger: Ledger,
    needed: int | None,
    alpha: float,
) -> str:
    if ratio_p < MISMATCH:
        return (
            "Do not read the effects: the arms do not have the users that their shares say "
            f"(chance does so in {ratio_p:.1e} of cases), so something else decides who is counted."
        )
    refused = _strange(ledger)
    if refused:
        return refused
    control, *others = arms
    few = [arm.name for arm in arms if arm.users < USERS_LEAST]
    if few:
        return f"Too early: fewer than {USERS_LEAST} users in {', '.join(few)}."
    said = []
    for arm in others:
        assert arm.against_control is not None
        effect = arm.against_control[settings.metric].best
        if effect.p_always < alpha:
            better = "better" if effect.always.value > 0 else "worse"
            said.append(f"{arm.name} is {better} than {control.name}: {_told(effect, control, settings.metric)}.")
        else:
            said.append(
                f"{arm.name} is not shown to differ from {control.name}: {_told(effect, control, settings.metric)}."
            )
            if needed is not None and arm.users + control.users < needed:
                said.append(
                    f"An effect of {settings.effect:.0%} would take about {needed:,} users in the two; "
                    f"there are {arm.users + control.users:,}."
                )
    return " ".join(said)


def _told(effect: Effect, control: ArmResult, metric: Metric) -> str:
    name = metric.replace("_", " ")
    base = control.metrics[metric].value
    if base and effect.always.low is not None and effect.always.high is not None:
        value, low, high = (x / base for x in (effect.always.value, effect.always.low, effect.always.high))
        return f"{name} {value:+.1%} ({low:+.1%} to {high:+.1%} at whatever moment one looks)"
    return f"{name} {effect.always.value:+.4g}"
