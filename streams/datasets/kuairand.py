"""KuaiRand: impressions of short videos with watch times and explicit feedback (Gao et al., CIKM 2022).

The layout is the same for its three sizes, KuaiRand-Pure, -1K and -27K: `log_*.csv`, `user_features_*.csv` and
`video_features_basic_*.csv`, in the folder or in its `data/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from streams.contract.events import Event, ItemRecord, UserRecord, encode
from streams.datasets.dataset import Dataset, DatasetError, LoggedEvent
from streams.datasets.rows import Line, csv_rows, in_order_of_time, malformed, millis_of, require_columns

_LOG_COLUMNS = (
    "user_id", "video_id", "time_ms", "is_like", "is_forward", "is_hate", "play_time_ms", "duration_ms",
)  # fmt: skip
_IN_THE_EVENT = frozenset({"user_id", "video_id", "time_ms", "play_time_ms", "duration_ms"})
_VIDEO_COLUMNS = (
    "video_id", "author_id", "video_type", "upload_dt", "upload_type", "video_duration", "music_id", "tag",
)  # fmt: skip
_PROFILE = (
    "user_active_degree", "is_live_streamer", "is_video_author", "follow_user_num_range", "fans_user_num_range",
    "friend_user_num_range", "register_days_range", *(f"onehot_feat{index}" for index in range(18)),
)  # fmt: skip
_UNKNOWN = frozenset({"", "-124", "UNKNOWN", "nan"})
_CHINA_UTC_OFFSET_H = 8


class KuaiRand(Dataset):
    """A row is one watch of one video; with explicit feedback it is a `like`, `share` or `dislike` that carries the
    watch time as well. All other columns of the row go into the event's context, so two rows are the same event
    exactly when they are copies of each other.

    Event time is `time_ms`; the columns `date` and `hourmin` are not reliable.
    """

    title = "KuaiRand, short-video impressions with watch times"
    licence = "CC BY-SA 4.0"
    citation = (
        "C. Gao, S. Li, Y. Zhang, J. Chen, B. Li, W. Lei, P. Jiang, X. He. KuaiRand: An Unbiased Sequential "
        "Recommendation Dataset with Randomly Exposed Videos. CIKM 2022. https://doi.org/10.1145/3511808.3557624"
    )
    homepage = "https://kuairand.com"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder / "data" if (folder / "data").is_dir() else folder)
        self.logs = self._files("log_*.csv")
        self._user_files = self._files("user_features_*.csv")
        self._video_files = self._files("video_features_basic_*.csv")

    def items(self) -> Iterator[ItemRecord]:
        """The videos; the day of upload is a date in China."""
        for path in self._video_files:
            for line, row in csv_rows(path, _VIDEO_COLUMNS):
                duration_ms = _number(path, line, "video_duration", row["video_duration"])
                music = "" if row["music_id"] == "0" else row["music_id"]
                yield ItemRecord(
                    item_id=row["video_id"],
                    published_at=millis_of(row["upload_dt"], "%Y-%m-%d", _CHINA_UTC_OFFSET_H),
                    duration_s=None if duration_ms is None else duration_ms / 1000,
                    categorical=_known(
                        tag=row["tag"].split(","),
                        author=[row["author_id"]],
                        music=[music],
                        video_type=[row["video_type"]],
                        upload_type=[row["upload_type"]],
                    ),
                )

    def users(self) -> Iterator[UserRecord]:
        """The users, with the ranges that the publisher sorted their numbers into and its encrypted features."""
        for path in self._user_files:
            for _, row in csv_rows(path, ("user_id", "user_active_degree")):
                profile = {name: [row[name].removesuffix(".0")] for name in _PROFILE if name in row}
                yield UserRecord(user_id=row["user_id"], categorical=_known(**profile))

    def events(self) -> Iterator[LoggedEvent]:
        """Every row of every log."""
        headers = {path: _header(path) for path in self.logs}
        time_at = {path: header.index("time_ms") for path, header in headers.items()}

        def ts_of(line: Line) -> int:
            try:
                return int(line.content.split(b",")[time_at[line.path]])
            except (ValueError, IndexError):
                raise malformed(line.path, line.number, "time_ms in ms") from None

        for ts, line in in_order_of_time(self.logs, ts_of, headers=1):
            header = headers[line.path]
            values = line.content.split(b",")
            if len(values) != len(header):
                raise malformed(line.path, line.number, f"{len(header)} fields, got {len(values)}")
            try:
                row = dict(zip(header, map(int, values), strict=True))
            except ValueError:
                raise malformed(line.path, line.number, "whole numbers in every column") from None
            user_id = str(row["user_id"])
            event = Event(
                type=_type(row),
                user_id=user_id,
                item_id=str(row["video_id"]),
                ts=ts,
                watch_s=row["play_time_ms"] / 1000,
                duration_s=row["duration_ms"] / 1000,
                context={name: value for name, value in row.items() if name not in _IN_THE_EVENT},
            )
            yield LoggedEvent(ts, user_id, encode(event))

    def _files(self, pattern: str) -> list[Path]:
        paths = sorted(self.folder.glob(pattern))
        if not paths:
            raise DatasetError(f"{self.folder}: no {pattern}; {self.name} needs it, as {self.homepage} publishes it")
        return paths


def _type(row: dict[str, int]) -> Literal["watch", "like", "share", "dislike"]:
    if row["is_hate"]:
        return "dislike"
    if row["is_forward"]:
        return "share"
    return "like" if row["is_like"] else "watch"


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n").split(",")
    require_columns(path, header, _LOG_COLUMNS)
    return header


def _known(**features: list[str]) -> dict[str, list[str]]:
    """The features that have a value, without the publisher's marks for "not known"."""
    kept = {name: [value for value in values if value not in _UNKNOWN] for name, values in features.items()}
    return {name: values for name, values in kept.items() if values}


def _number(path: Path, line: int, column: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise malformed(path, line, f"a number in {column}, got {text!r}") from None
