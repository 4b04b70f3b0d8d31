"""What every command shares: where it prints, how it reads the settings, and how faults are told."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import click
from kafka.errors import KafkaError
from redis.exceptions import RedisError
from rich.console import Console

from deploy.embedded import EmbeddedError, find
from models.artefact import ArtefactError
from models.training.positives import NothingToLearn
from streams.contract.events import BadRecord
from streams.contract.topics import BrokerAway
from streams.datasets import DatasetError
from streams.kafka.codecs import CodecMissing
from streams.replay.probe import NoAnswer
from streams.settings.settings import Settings, SettingsError, load
from streams.state.store import StateAway

P = ParamSpec("P")
R = TypeVar("R")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


#: Faults of the surroundings, not of the program: told in one line, without a traceback.
FAULTS = (
    SettingsError, EmbeddedError, BrokerAway, StateAway, DatasetError, NoAnswer, BadRecord, ArtefactError,
    CodecMissing, NothingToLearn, KafkaError, RedisError, OSError,
)  # fmt: skip


def tells_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn known faults into a message and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except FAULTS as error:
            raise click.ClickException(str(error) or type(error).__name__) from None

    return run


def read_settings(**overrides: Any) -> Settings:
    """The settings, with the URLs of embedded servers that run on their data folder filled in."""
    settings = load(**overrides)
    servers = find(settings.data_dir) if settings.uses_embedded else None
    if servers is None:
        return settings
    return settings.connected(
        broker_url=servers.broker_url if settings.embeds_broker else None,
        redis_url=servers.redis_url if settings.embeds_redis else None,
    )


def set_up_logging(settings: Settings) -> None:
    """One line a record, on standard error; the libraries speak up from warnings on."""
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    if settings.log_level != "DEBUG":
        for name in ("faust", "mode", "aiokafka", "kafka", "asyncio", "redis"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a timer that is late says nothing of use


def end_like_ctrl_c() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it started is stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def without_logging() -> Iterator[None]:
    """Log nothing in this block."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
