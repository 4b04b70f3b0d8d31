"""Settings: one typed object, read once from command line, environment, .env and millstream.toml, then passed down."""

import difflib
import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from models.config import TrainingConfig
from models.data.labels import LabelRules
from models.data.popularity import PopularityConfig
from models.training.gate import MIN_EVENTS
from streams.settings.endpoints import EMBEDDED, KafkaTarget, RedisTarget, Url, redacted
from streams.settings.online import ExperimentsSettings, OnlineSettings
from streams.settings.pipeline import PipelineSettings
from streams.settings.sections import Host, Positive, PositiveSeconds, Section

log = logging.getLogger(__name__)

PREFIX: Final = "MILLSTREAM_"
CONFIG_VARIABLE: Final = "MILLSTREAM_CONFIG"
#: Variables of ours that are no settings.
_OTHER_VARIABLES: Final = (CONFIG_VARIABLE, "MILLSTREAM_TEST_")
_URLS: Final = ("broker_url", "redis_url")


class SettingsError(Exception):
    """A setting that cannot be used: the message names it, shows its value (no password) and what would be right."""


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    def check(url: Url) -> Url:
        if url.get_secret_value() != EMBEDDED:
            parse(url.get_secret_value())
        return url

    return AfterValidator(check)


def _strict(cls: type) -> BeforeValidator:
    """Make pydantic refuse fields that a plain dataclass does not have, and read JSON where a variable holds it."""

    def check(value: object) -> object:
        return _strict_fields(cls, value, "")

    return BeforeValidator(check)


def _strict_fields(cls: type, value: object, path: str) -> object:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value  # pydantic says what is wrong with it
    if not isinstance(value, Mapping):
        return value
    hints = get_type_hints(cls)
    names = [each.name for each in fields(cls)]
    result = {}
    for name, inner in value.items():
        if name not in names:
            raise ValueError(f"{path + name!r} is unknown{_nearest(name, names)}")
        kind = hints[name]
        if isinstance(kind, type) and is_dataclass(kind):
            inner = _strict_fields(kind, inner, f"{path}{name}.")
        elif isinstance(inner, str) and inner.lstrip().startswith("["):
            inner = json.loads(inner)
        result[name] = inner
    return result


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


class IngestSettings(Section):
    """What is read from the topics, and how much of a user is kept."""

    batch_max: Positive = Field(2000, description="the most records handled at once")
    max_event_bytes: Positive = Field(65_536, description="a longer event is a dead letter")
    max_record_bytes: Positive = Field(262_144, description="a longer item or user record is a dead letter")
    max_future_s: PositiveSeconds = Field(86_400.0, description="an event further ahead of the clock is a dead letter")
    unknown_items: Literal["accept", "reject"] = Field(
        "accept", description="an event on an item that the catalogue does not know: take it, or make it a dead letter"
    )
    sequence_length: Positive = Field(200, description="actions kept of each user")
    follows_max: Positive = Field(200, description="of those whom a user follows, how many are kept")
    searched_max: Positive = Field(64, description="of the words that a user searched for, how many are kept")
    seen_max: Positive = Field(5000, description="items remembered as seen by each user")
    recent_event_ids: Positive = Field(128, description="event ids remembered of each user, to know a copy by")
    likes_bytes: Positive = Field(
        8_388_608, description="of the newest likes, what each partition keeps for neighbours that follow them"
    )
    histogram_half_life_s: PositiveSeconds = Field(
        2_592_000.0, description="event time after which an entry of a user's histogram counts half"
    )
    histogram_max: Positive = Field(512, description="entries kept in each user's histogram")
    segments: tuple[str, ...] = Field(
        ("country", "language", "gender", "age"), description="profile features whose values have trends of their own"
    )


class ListSettings(Section):
    """The published lists."""

    size: Positive = Field(20, description="items in a list")
    refresh_batch: Positive = Field(256, description="the most users refreshed at once")


class TrainingSettings(Section):
    """When to train, and on how much. Periods in seconds are event time unless they say otherwise."""

    first_events: Positive = Field(2000, description="events before the first training")
    every_events: Positive = Field(20_000, description="events between two fine-tunes; fewer while the log is young")
    every_s: PositiveSeconds = Field(86_400.0, description="event time between two fine-tunes")
    min_events: Positive = Field(10_000, description="events that a fine-tune due by time needs at least")
    retrain_every_events: Positive = Field(
        100_000, description="events between two full trainings; one is due as well when the log has doubled"
    )
    retrain_every_s: PositiveSeconds = Field(
        604_800.0, description="event time between two full trainings, if half as much again came in it"
    )
    max_events: Positive = Field(2_000_000, description="the newest events that a training reads at most")
    segment_events: Positive = Field(50_000, description="rows in one file of the sample log")
    flush_s: PositiveSeconds = Field(1.0, description="clock time after which gathered rows are written")
    keep_versions: Annotated[int, Field(ge=2)] = Field(3, description="artefacts kept")
    gate_min_events: Positive = Field(
        MIN_EVENTS, description="comparable events without which a trained model does not replace the one in service"
    )
    threads: Annotated[int, Field(ge=0)] = Field(0, description="threads of a training; 0: all cores but one")

    @property
    def training_threads(self) -> int:
        """The threads to train with, 0 resolved."""
        return self.threads or max((os.cpu_count() or 1) - 1, 1)


Scope = Literal["read", "write", "admin"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ApiSettings(Section):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="the address it listens on; one that others reach needs tokens")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8080, description="its port; 0 takes a free one")
    dashboard: bool = Field(True, description="whether the dashboard is there too, at /dashboard")
    tokens: dict[Digest, tuple[Scope, ...]] = Field(
        {},
        description="SHA-256 of each token (`millstream api-token` makes one) and its scopes: read, write, admin; "
        "with none set, whoever reaches it may do everything",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="pages that browsers may use the API from, as https://shop.example; none, when empty"
    )
    allowed_hosts: tuple[Host, ...] = Field(
        (), description="names it is reached by, as api.example; localhost and the addresses it listens on need none"
    )
    rate_per_s: PositiveSeconds = Field(1000.0, description="requests a second that one client may make for long")
    burst: Positive = Field(2000, description="requests that one client may make at once")
    max_body_bytes: Positive = Field(4_194_304, description="a longer body is refused")
    max_events: Positive = Field(1000, description="the most events in one request")
    max_streams: Positive = Field(200, description="streams of lists open at once")
    heartbeat_s: PositiveSeconds = Field(15.0, description="silence after which a stream says that it lives")
    sync_s: PositiveSeconds = Field(0.25, description="how often model, catalogue and trends are brought up to date")
    kafka_patience_s: PositiveSeconds = Field(10.0, description="how long a write waits for Kafka")


class Settings(BaseSettings):
    """Everything that can be set. `load` reads it with messages for people."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        dotenv_filtering="match_prefix",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
    )

    broker_url: Annotated[Url, _checked(KafkaTarget.parse)] = Field(
        Url(EMBEDDED), description="embedded://, or kafka://[user:password@]host:port[,host:port]/[?option=value]"
    )
    redis_url: Annotated[Url, _checked(RedisTarget.parse)] = Field(
        Url(EMBEDDED), description="embedded://, redis://, rediss://, redis+cluster://, rediss+cluster:// or unix://"
    )
    data_dir: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        Path(".millstream"), description="artefacts, sample log, logs, and the embedded servers' files"
    )
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,200}$")] = Field(
        "", description="put before the name of every topic and key"
    )
    partitions: Positive = Field(4, description="partitions of a topic that is made")
    replication: Positive = Field(1, description="replicas of a topic that is made")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least level logged")
    ingest: IngestSettings = IngestSettings()
    popularity: Annotated[PopularityConfig, _strict(PopularityConfig)] = PopularityConfig()
    labels: Annotated[LabelRules, _strict(LabelRules)] = LabelRules()
    lists: ListSettings = ListSettings()
    pipeline: PipelineSettings = PipelineSettings()
    pipelines: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")], PipelineSettings] = Field(
        {}, description="other pipelines by name: one for each other surface, or for an arm of an experiment"
    )
    training: TrainingSettings = TrainingSettings()
    api: ApiSettings = ApiSettings()
    online: OnlineSettings = OnlineSettings()
    experiments: ExperimentsSettings = ExperimentsSettings()
    model: Annotated[TrainingConfig, _strict(TrainingConfig)] = TrainingConfig()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def kafka(self) -> KafkaTarget:
        """The broker.

        Raises:
            SettingsError: it is embedded, and was not started or found.
        """
        return KafkaTarget.parse(self._resolved("broker_url"))

    @property
    def redis(self) -> RedisTarget:
        """The Redis.

        Raises:
            SettingsError: it is embedded, and was not started or found.
        """
        return RedisTarget.parse(self._resolved("redis_url"))

    def _resolved(self, name: Literal["broker_url", "redis_url"]) -> str:
        url = getattr(self, name).get_secret_value()
        if url == EMBEDDED:
            raise SettingsError(
                f"{variable(name)} is embedded://, but no embedded server runs on {self.data_dir}: start "
                "`millstream up` with this data_dir first, or give the URL of a server"
            )
        return str(url)

    @property
    def embeds_broker(self) -> bool:
        """Whether the broker is embedded, and not started or found."""
        return self.broker_url.get_secret_value() == EMBEDDED

    @property
    def embeds_redis(self) -> bool:
        """Whether Redis is embedded, and not started or found."""
        return self.redis_url.get_secret_value() == EMBEDDED

    @property
    def uses_embedded(self) -> bool:
        """Whether a server is embedded, and not started or found."""
        return self.embeds_broker or self.embeds_redis

    def connected(self, *, broker_url: str | None, redis_url: str | None) -> Self:
        """These settings with the URLs of the servers that run in place of each `embedded://`; None changes nothing."""
        urls = (("broker_url", broker_url, self.embeds_broker), ("redis_url", redis_url, self.embeds_redis))
        given: dict[str, Any] = {name: Url(url) for name, url, embedded in urls if url and embedded}
        copy = self.model_copy(update=given)
        copy._origins = self._origins | dict.fromkeys(given, "embedded server")
        return copy

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment under which another process reads the very same settings, secrets included.

        Args:
            base: the rest of the environment; by default this process's.
        """
        result = {name: value for name, value in (base or os.environ).items() if not name.startswith(PREFIX)}
        dumped = self.model_dump(mode="json")
        for name in type(self).model_fields:
            value = getattr(self, name).get_secret_value() if name in _URLS else dumped[name]
            result[variable(name)] = value if isinstance(value, str) else json.dumps(value)
        return result

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` alone reads the outside, and knows where each value came from; `Settings(...)` is what it is given."""
        return (init_settings,)


class Row(NamedTuple):
    """One setting in force: its dotted name, its value in print, where the value came from, and what it is for."""

    name: str
    value: str
    origin: str
    meaning: str


def load(**overrides: Any) -> Settings:
    """Read the settings; `overrides` (the command line's) win, None among them is passed over.

    Raises:
        SettingsError: a setting cannot be used; one line for each fault.
    """
    _warn_of_unknown_variables()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    try:
        for source, layer in _layers({name: value for name, value in overrides.items() if value is not None}):
            values = _merged(values, layer)
            origins = dict.fromkeys(_paths(layer), source) | origins
    except (SourceError, ValueError) as error:
        raise SettingsError(f"settings cannot be read: {error}") from None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explained(fault, origins) for fault in error.errors())) from None
    settings._origins = origins
    return settings


def explain(settings: Settings) -> list[Row]:
    """Every setting in force and where it came from, in the order of declaration."""
    return [
        Row(name, _shown(value), _origin(settings._origins, name), meaning) for name, value, meaning in leaves(settings)
    ]


def variable(name: str) -> str:
    """The environment variable of a setting's dotted name."""
    return PREFIX + name.replace(".", "__").upper()


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def leaves(value: object, path: str = "", meaning: str = "") -> Iterator[tuple[str, object, str]]:
    """Each single setting under a settings object: its dotted name, its value, and what it is for where said."""
    if isinstance(value, BaseModel):
        known: Mapping[str, FieldInfo] = type(value).model_fields
        for name, info in known.items():
            yield from leaves(getattr(value, name), f"{path}.{name}" if path else name, info.description or "")
    elif is_dataclass(value) and not isinstance(value, type):
        meanings = _attributes(type(value))
        for each in fields(value):
            yield from leaves(getattr(value, each.name), f"{path}.{each.name}", meanings.get(each.name, ""))
    else:
        yield path, value, meaning


def _layers(overrides: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What each source gives, as (its name, nested values), the one that wins first."""
    file = _config_file()
    return [
        ("command line", overrides),
        ("environment", EnvSettingsSource(Settings)()),
        (".env", DotEnvSettingsSource(Settings)()),
        (str(file), TomlConfigSettingsSource(Settings, toml_file=file)()),
    ]


def _attributes(cls: type) -> dict[str, str]:
    """What a class's docstring says of each attribute; the models' dataclasses know no pydantic to say it with."""
    found = re.finditer(r"^ {4,8}(\w+(?:, \w+)*): (.+(?:\n {8,12}\S.*)*)$", inspect.getdoc(cls) or "", re.MULTILINE)
    return {name: " ".join(match[2].split()).rstrip(".") for match in found for name in match[1].split(", ")}


def _config_file() -> Path:
    given = os.environ.get(CONFIG_VARIABLE)
    file = Path(given or "millstream.toml").expanduser()
    if given and not file.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE}: {given} is not a file; name a TOML file, or unset the variable")
    return file


def _merged(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    result = {**lower, **upper}
    for name in upper.keys() & lower.keys():
        if isinstance(upper[name], Mapping) and isinstance(lower[name], Mapping):
            result[name] = _merged(upper[name], lower[name])
    return result


def _paths(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}{name}.")
        else:
            yield path + name


def _origin(origins: Mapping[str, str], name: str) -> str:
    """By the setting's own name, or that of the section it was given in."""
    while name:
        if name in origins:
            return origins[name]
        name = name.rpartition(".")[0]
    return "default"


def _explained(fault: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    path = [str(part) for part in fault["loc"]]
    name = ".".join(path)
    where = f"{variable(name)} (from {_origin(origins, name)})"
    if fault["type"] == "extra_forbidden":
        known = list(Settings.model_fields)
        if len(path) > 1:
            known = list(_section(path[0]).model_fields)
        return f"{where}: there is no such setting{_nearest(path[-1], known)}"
    value = fault["input"]
    shown = redacted(str(value)) if path[0] in _URLS else repr(value)
    return f"{where}: {shown}: {fault['msg'].removeprefix('Value error, ')}"


def _section(name: str) -> type[BaseModel]:
    annotation = Settings.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else Settings


def _warn_of_unknown_variables() -> None:
    """A mistyped variable would go unnoticed; yet it is no error, as Kubernetes sets variables of our prefix."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in os.environ:
        top = name.upper().partition("__")[0]
        if top.startswith(PREFIX) and top not in known and not top.startswith(_OTHER_VARIABLES):
            log.warning("%s is no setting of millstream and changes nothing%s", name, _nearest(top, known))
