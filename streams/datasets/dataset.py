"""What every data set offers, whoever published it: items, users, and events in the order of event time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from streams.contract.events import ItemRecord, UserRecord


class DatasetError(Exception):
    """A data set that cannot be read or fetched: the message says which file and line, and what is expected there."""


class LoggedEvent(NamedTuple):
    """One row of a published log as an event on the wire.

    Attributes:
        ts: event time in ms, which the rows are ordered by.
        user_id: whose event it is, the record's key; empty where the row does not say.
        raw: the event as JSON.
    """

    ts: int
    user_id: str
    raw: bytes


class Dataset(ABC):
    """A data set in a folder, in the layout its publisher gives it.

    Every row of the published log is exactly one event. No event carries an id: the wire contract derives one from
    the content, so rows that are exact copies of each other are the same event.

    Raises:
        DatasetError: a file is missing; while reading: a row is malformed.
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    homepage: ClassVar[str]

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    @abstractmethod
    def items(self) -> Iterator[ItemRecord]:
        """The catalogue; empty where the publisher has none."""

    @abstractmethod
    def users(self) -> Iterator[UserRecord]:
        """The users' profiles; empty where the publisher says nothing of the users but their ids."""

    @abstractmethod
    def events(self) -> Iterator[LoggedEvent]:
        """Every row of the log, in the order of event time, rows of the same time in the order of the log."""

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise DatasetError(f"{path} is missing: {self.name} needs it, as {self.homepage} publishes it")
        return path
