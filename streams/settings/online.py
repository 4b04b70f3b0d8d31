"""Settings of what is measured while the system runs: online metrics, and experiments."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from streams.settings.sections import Positive, PositiveSeconds, Section, Share

#: The name of those who take part in nothing on purpose.
HOLDOUT: Final = "holdout"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Metric = Literal[
    "engagement_rate",
    "click_through",
    "completion_rate",
    "long_watches_per_session",
    "watch_s_per_session",
    "sessions_per_user",
    "watch_s_per_user",
]


class OnlineSettings(Section):
    """What users make of their lists, counted in the API's process."""

    enabled: bool = Field(True, description="count in this process; of several API processes one is enough")
    window_s: PositiveSeconds = Field(300.0, description="event time that is counted together")
    windows: Positive = Field(288, description="windows kept")
    attribution_s: PositiveSeconds = Field(
        3600.0, description="clock time from a list's arrival in Kafka in which events count for it"
    )
    session_gap_s: PositiveSeconds = Field(
        1800.0, description="silence, in event time, that ends the session of a user whose events name none"
    )
    long_watch_s: PositiveSeconds = Field(120.0, description="seconds from which a watch is a long one")
    segments: tuple[str, ...] = Field(
        ("country", "device"), description="what of an event's context, or else of its user's profile, to break down by"
    )
    item_features: tuple[str, ...] = Field(("genre",), description="what of an item's record to break down by")
    recent_s: PositiveSeconds = Field(
        3600.0, description="event time that /metrics tells of, and that is held against what came before it"
    )
    concentration_half_life_s: PositiveSeconds = Field(
        86_400.0, description="event time after which an exposure or a click counts half in the concentration"
    )
    skew_every_s: PositiveSeconds = Field(
        1.0, description="clock time between two lists whose features are held against those of the training"
    )
    max_users: Positive = Field(100_000, description="users and sessions remembered; per experiment, users compared")
    max_lists: Positive = Field(200_000, description="lists remembered, and events to know a copy by")
    replay_s: PositiveSeconds = Field(86_400.0, description="clock time that is read again at the start")
    replay_records: Positive = Field(1_000_000, description="the most records of a topic that are read again")


class ArmSettings(Section):
    """One arm of an experiment."""

    name: Name
    share: Annotated[float, Field(gt=0, le=1)]
    pipeline: Name | None = Field(None, description="the pipeline that makes the arm's lists; none: the default one")


class ExperimentSettings(Section):
    """One experiment; its first arm is the one that the others are compared with."""

    name: Name
    salt: str = Field("", max_length=128, description="what users are drawn by; the name, when empty")
    traffic: Share = Field(1.0, description="share of the users that take part")
    arms: Annotated[tuple[ArmSettings, ...], Field(min_length=2, max_length=16)]
    interleave: bool = Field(
        False, description="draft each list from the pipelines of both arms, in place of giving each user one arm"
    )
    users: dict[str, Name] = Field({}, description="users put into an arm by hand; they are not counted")
    metric: Metric = Field("engagement_rate", description="what decides")
    effect: Annotated[float, Field(gt=0)] = Field(0.05, description="relative effect that is hoped for")
    starts_at: Annotated[int, Field(ge=0)] | None = Field(
        None, description="event time in ms from which users are compared; before it is their past"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"experiment {self.name}: two arms have one name; {', '.join(names)} are given")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"experiment {self.name}: the arms' shares add up to {total:g}; they must add up to 1")
        if self.interleave and [arm.share for arm in self.arms] != [0.5, 0.5]:
            raise ValueError(f"experiment {self.name}: to interleave takes two arms with a share of 0.5 each")
        for user, arm in self.users.items():
            if arm not in names:
                raise ValueError(
                    f"experiment {self.name}: {user!r} is put into {arm!r}; its arms are {', '.join(names)}"
                )
        return self


class ShadowSettings(Section):
    """Lists that are made beside those in service, shown to nobody, and scored on what their users then find."""

    name: Name
    pipeline: Name | None = Field(None, description="the pipeline that makes them; none: that of each user's arm")
    model: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$")] = Field(
        "", description="the version that makes them; newest: the one trained last; empty: the one in service"
    )
    share: Share = Field(0.05, description="share of the users")

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.pipeline is None and not self.model:
            raise ValueError(f"shadow {self.name}: without a pipeline or a model it makes the very lists in service")
        return self


class ExperimentsSettings(Section):
    """The experiments that run. A user takes part in one at most: the first that draws the user."""

    holdout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of all users who take part in no experiment and get the default lists"
    )
    salt: str = Field("millstream", max_length=128, description="what the holdout is drawn by")
    alpha: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.05, description="the chance at most of finding an effect where there is none"
    )
    running: tuple[ExperimentSettings, ...] = Field(
        (), description="each with name, arms (name, share, pipeline), traffic, users, metric, effect, starts_at"
    )
    shadows: Annotated[tuple[ShadowSettings, ...], Field(max_length=8)] = Field(
        (), description="each with name, pipeline, model, share: lists that nobody is shown, scored on what users find"
    )
    shadow_lists_per_s: PositiveSeconds = Field(5.0, description="the most lists a second of all shadows together")

    @model_validator(mode="after")
    def _is_told_apart(self) -> Self:
        names = [each.name for each in self.running]
        if len(set(names)) < len(names) or HOLDOUT in names:
            raise ValueError(f"experiments need a name each, and not {HOLDOUT!r}; {', '.join(names)} are given")
        shadows = [each.name for each in self.shadows]
        if len(set(shadows)) < len(shadows):
            raise ValueError(f"shadows need a name each; {', '.join(shadows)} are given")
        return self
