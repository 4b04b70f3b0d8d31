"""Any log in the wire contract: a folder with `events.jsonl` and, optionally, `items.jsonl` and `users.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streams.contract.events import BadRecord, ItemRecord, UserRecord, decode_item, decode_user
from streams.datasets.dataset import Dataset, DatasetError, LoggedEvent
from streams.datasets.rows import Line, in_order_of_time

Record = TypeVar("Record")


class _Head(msgspec.Struct):
    user_id: Any = None
    ts: Any = None


_decoder = msgspec.json.Decoder(_Head)


class Jsonl(Dataset):
    """One JSON object a line. Events pass through as they are, so that a bad one reaches the system and becomes a
    dead letter there; a line without a usable `ts` keeps its place behind the line before it. Blank lines are no
    rows. A bad item or user is an error, since the catalogue is the reader's to have right.
    """

    title = "a log of one's own in the wire contract"
    licence = "its owner's"
    citation = ""
    homepage = "the AsyncAPI document under docs/"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._events = self._file("events.jsonl")

    def items(self) -> Iterator[ItemRecord]:
        """The catalogue, empty without `items.jsonl`."""
        return self._records("items.jsonl", decode_item)

    def users(self) -> Iterator[UserRecord]:
        """The profiles, empty without `users.jsonl`."""
        return self._records("users.jsonl", decode_user)

    def events(self) -> Iterator[LoggedEvent]:
        """Every line that is not blank, byte for byte."""
        last = 0

        def ts_of(line: Line) -> int:
            nonlocal last
            ts = _head(line.content).ts
            if type(ts) is int and 0 <= ts < 1 << 63:
                last = ts
            return last

        for ts, line in in_order_of_time([self._events], ts_of):
            user_id = _head(line.content).user_id
            yield LoggedEvent(ts, user_id if isinstance(user_id, str) else "", line.content)

    def _records(self, name: str, decode: Callable[[bytes], Record]) -> Iterator[Record]:
        path = self.folder / name
        if not path.is_file():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                try:
                    yield decode(line)
                except BadRecord as error:
                    raise DatasetError(f"{path}:{number}: malformed; {error}") from None


def _head(content: bytes) -> _Head:
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Head()
