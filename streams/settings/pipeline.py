"""Settings of the pipeline that makes lists: its components by name, and what each of them goes by."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streams.settings.sections import Positive, PositiveSeconds, Section, Share


class FreshnessSettings(Section):
    """What was published lately."""

    boost: float = Field(0.0, description="added to the score of what was published this moment")
    half_life_days: PositiveSeconds = Field(7.0, description="age at which half of the boost is left")
    new_days: PositiveSeconds = Field(14.0, description="age up to which an item is a new release")


class DiversitySettings(Section):
    """How unlike each other the items of a list are to be."""

    kind: Literal["mmr", "dpp", "none"] = Field(
        "mmr", description="maximal marginal relevance, a determinantal point process, or the order of scores"
    )
    strength: Annotated[float, Field(ge=0)] = Field(
        1.0, description="mmr: what likeness to an item chosen before takes from a score; dpp: between 0 and 1"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "dpp" and self.strength >= 1:
            raise ValueError("a dpp's strength must be below 1, at which scores would not count at all; try 0.5")
        return self


class CalibrationSettings(Section):
    """How near a list's shares of a feature are to be to those of the user's history."""

    feature: str = Field("genre", description="the categorical feature")
    strength: Annotated[float, Field(ge=0)] = Field(0.0, description="what its divergence takes from a score")


class ExplorationSettings(Section):
    """A place for new items, drawn by Thompson sampling."""

    rate: Share = Field(0.1, description="the share of lists that explore")
    place: Positive = Field(12, description="the place of the list, from 1 on")
    pool: Positive = Field(50, description="new items to draw from")
    likes_below: PositiveSeconds = Field(
        20.0, description="decayed positives from which on an item is not new any more"
    )


class MaturitySettings(Section):
    """For which age an item is, and how old a user is, in years."""

    least_age: str = Field("min_age", description="an item's numeric feature: the least age")
    certificate: str = Field("certificate", description="an item's categorical feature: its certificate")
    certificates: dict[str, float] = Field(
        {"G": 0.0, "PG": 8.0, "PG-13": 13.0, "R": 17.0, "NC-17": 18.0, "TV-PG": 8.0, "TV-14": 14.0, "TV-MA": 17.0}
        | {str(years): float(years) for years in (6, 7, 12, 15, 16, 18)},
        description="the least age of each certificate",
    )
    age: str = Field("age", description="a user's feature: a number, or a group such as 25-34")
    limit: str = Field("max_age_rating", description="a user's numeric feature: shown nothing for older people")
    unknown_age: float = Field(120.0, description="the age of a user whose record does not say")


class CountrySettings(Section):
    """Where an item may be shown."""

    feature: str = Field("country", description="a user's feature")
    only_in: str = Field("available_in", description="an item's feature: the only countries it may be shown in")
    not_in: str = Field("blocked_in", description="an item's feature: countries it may not be shown in")


class ContinueSettings(Section):
    """What counts as begun and not finished."""

    least: float = Field(0.1, description="share watched from which on an item was begun")
    most: float = Field(0.8, description="share watched from which on it was finished")
    within_days: PositiveSeconds = Field(14.0, description="how long it can be gone on with")


class OnboardingSettings(Section):
    """Choices made at the start: the profile's features `onboarding` (as genre=Drama) and `onboarding_items` (ids)."""

    actions: Positive = Field(5, description="actions after which they count no more")
    boost: float = Field(5.0, description="added to the score of what fits them all, less with each action")


class RuleSettings(Section):
    """What to do with some items whatever the models say."""

    match: Annotated[str, Field(pattern=r"^[^=]+=.+$")] = Field(description="item=ID, or a feature as genre=Drama")
    action: Literal["boost", "demote", "pin", "remove"] = Field(description="what to do with them")
    by: float = Field(1.0, description="how much a boost adds or a demotion takes")


class PipelineSettings(Section):
    """How a list is made. A component is named, or given as the import path package.module:Class."""

    sources: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {
            "sequence": 100,
            "two_tower": 100,
            "slist": 100,
            "trending": 100,
            "neighbours": 100,
            "segment_trending": 50,
            "new_releases": 50,
            "onboarding": 100,
            "friends": 50,
        },
        description="who proposes candidates, and how many each; 0 takes one out",
    )
    filters: tuple[str, ...] = Field(
        ("withdrawn", "hidden", "disliked", "seen", "fatigue", "country", "maturity"),
        description="what drops candidates, in this order",
    )
    minutes_weight: float = Field(
        0.0, description="what log(1 + the minutes that the user would watch) counts, where the model knows them"
    )
    adjusters: tuple[str, ...] = Field(("freshness", "onboarding"), description="what adds to scores")
    late_filters: tuple[str, ...] = Field((), description="what drops from the finished list, which then moves up")
    reserve: Positive = Field(60, description="the best candidates, which a list is chosen from")
    caps: dict[str, Positive] = Field({}, description="per feature, the most items of a list with the same value")
    provider: str = Field("creator", description="the feature by whose values exposure is measured")
    fatigue: Positive = Field(8, description="times shown, and never turned to, after which an item is left out")
    segment_half_life: Annotated[int, Field(ge=0)] = Field(
        1, description="which of popularity.half_lives_s segment_trending takes, from 0 on"
    )
    freshness: FreshnessSettings = FreshnessSettings()
    diversity: DiversitySettings = DiversitySettings()
    calibration: CalibrationSettings = CalibrationSettings()
    exploration: ExplorationSettings = ExplorationSettings()
    maturity: MaturitySettings = MaturitySettings()
    countries: CountrySettings = CountrySettings()
    continue_watching: ContinueSettings = ContinueSettings()
    onboarding: OnboardingSettings = OnboardingSettings()
    rules: tuple[RuleSettings, ...] = Field((), description="what to boost, demote, pin or remove")
