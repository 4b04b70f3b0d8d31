"""Reading published tables: rows of a CSV or `::` file with their place, and logs in the order of event time."""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streams.datasets.dataset import DatasetError

_YEAR = re.compile(r"\((\d{4})\)\s*$")


class Line(NamedTuple):
    """One line of a log, without its end, and where it stands; lines are counted from 1."""

    path: Path
    number: int
    content: bytes


def malformed(path: Path, line: int, expected: str) -> DatasetError:
    """The error for a line that is not what its layout promises."""
    return DatasetError(f"{path}:{line}: malformed; expected {expected}")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a UTF-8 CSV file with a header, by column name, each with its line number.

    Raises:
        DatasetError: the header lacks one of `columns`, or a row has more or fewer fields than the header.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        require_columns(path, header, columns)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise malformed(path, reader.line_num, f"{len(header)} fields, got {len(row)}")
            yield reader.line_num, dict(zip(header, row, strict=True))


def require_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Raise a `DatasetError` unless the header has all of `columns`."""
    missing = [name for name in columns if name not in header]
    if missing:
        raise malformed(path, 1, f"a header with {', '.join(columns)}; it lacks {', '.join(missing)}")


def colon_rows(path: Path, columns: Sequence[str], encoding: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a `::` file without a header, each with its line number.

    Lines that are not in `encoding` are read as latin-1, which has a character for every byte.

    Raises:
        DatasetError: a row does not have a field for each of `columns`.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip(b"\r\n")
            if not line:
                continue
            try:
                row = line.decode(encoding).split("::")
            except UnicodeDecodeError:
                row = line.decode("latin-1").split("::")
            if len(row) != len(columns):
                raise malformed(path, number, f"{'::'.join(columns)}, got {len(row)} fields")
            yield number, row


def in_order_of_time(
    paths: Sequence[Path], ts_of: Callable[[Line], int], *, headers: int = 0
) -> Iterator[tuple[int, Line]]:
    """The non-blank lines of logs, sorted stably by the event time in ms that `ts_of` reads off a line.

    Each file is read twice: once for the times, once line by line in their order. So memory holds 24 bytes for a
    line, not the lines: about 1 GB for 25 million with the sorting. Lines of the same time come in the order of
    `paths` and of their files.

    Args:
        headers: how many lines at the top of each file are no rows.
    """
    times, starts, sizes, numbers = array("q"), array("q"), array("i"), array("i")
    ends = []
    for path in paths:
        with path.open("rb") as file:
            at = 0
            for number, content in enumerate(file, start=1):
                start, at = at, at + len(content)
                if number <= headers or content.isspace():
                    continue
                try:
                    times.append(ts_of(Line(path, number, content.rstrip(b"\r\n"))))
                except OverflowError:
                    raise malformed(path, number, "a time within 64 bits of milliseconds") from None
                starts.append(start)
                sizes.append(len(content))
                numbers.append(number)
        ends.append(len(times))
    order = np.argsort(np.frombuffer(times, dtype=np.int64), kind="stable") if times else np.zeros(0, dtype=np.intp)
    file_of = np.searchsorted(ends, order, side="right")
    with ExitStack() as stack:
        descriptors = [stack.enter_context(path.open("rb")).fileno() for path in paths]
        for place, which in zip(order, file_of, strict=True):
            content = os.pread(descriptors[which], sizes[place], starts[place]).rstrip(b"\r\n")
            yield times[place], Line(paths[which], numbers[place], content)


def year_of(title: str) -> int | None:
    """The year in parentheses that ends a film's title, as MovieLens and MovieTweetings write it."""
    found = _YEAR.search(title)
    return int(found[1]) if found else None


def millis_of(date: str, pattern: str, utc_offset_h: int = 0) -> int | None:
    """Midnight of a date in ms, in a zone so many hours east of UTC; None where there is no such date."""
    try:
        day = datetime.strptime(date, pattern).replace(tzinfo=timezone(timedelta(hours=utc_offset_h)))
    except ValueError:
        return None
    return int(day.timestamp() * 1000)
