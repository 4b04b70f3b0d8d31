"""The sample log: every usable event as Parquet segments, with the Kafka positions it reaches in the same manifest.

An event is in the log exactly once: the manifest that names its segment also holds the position after it, and records
below that position are passed over. A segment is written, then named; what no manifest names is removed on opening.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.data.interactions import NO_ITEM, Impressions, Interactions, device_code
from models.data.labels import LabelRules, grade
from models.data.searches import Searches
from streams.contract.events import ACTIONS, Event, unknown_fields

_SCHEMA: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("type", pa.dictionary(pa.int8(), pa.string())),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("target_user_id", pa.string()),
        ("ts", pa.int64()),
        ("watch_s", pa.float32()),
        ("duration_s", pa.float32()),
        ("value", pa.float32()),
        ("scale", pa.float32()),
        ("query", pa.string()),
        ("session_id", pa.string()),
        ("rec_id", pa.string()),
        ("position", pa.int32()),
        ("context", pa.string()),
        ("unknown", pa.string()),
        ("arrived_at", pa.int64()),
    ]
)
_FROM_EVENT: Final = [name for name in _SCHEMA.names if name not in ("context", "unknown", "arrived_at")]


class _Context(msgspec.Struct):
    """What is read of an event's context."""

    device: Any = None


_CONTEXT: Final = msgspec.json.Decoder(_Context)


@dataclass
class LogManifest:
    """What the log holds: segment file names with their rows, and per `log:partition` the position it reaches."""

    segments: list[tuple[str, int]] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    next_segment: int = 0

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.segments)


class SampleLog:
    """Appends events; one writer at a time.

    Raises:
        ValueError: the manifest names a segment that is not there.
    """

    def __init__(self, root: Path, *, segment_events: int = 50_000) -> None:
        self._root = root
        self._segment_events = segment_events
        self._buffer: list[dict[str, Any]] = []
        self._pending: dict[str, int] = {}
        root.mkdir(parents=True, exist_ok=True)
        self.manifest = self._load_manifest()
        self._remove_unnamed()

    @property
    def rows(self) -> int:
        """Events logged, those not yet flushed included."""
        return self.manifest.rows + len(self._buffer)

    def position(self, log: str, partition: int) -> int:
        """The offset that the log wants next of a partition, flushed or not."""
        key = f"{log}:{partition}"
        return self._pending.get(key, self.manifest.positions.get(key, 0))

    @property
    def reached(self) -> dict[str, int]:
        """Per `log:partition` the offset wanted next."""
        return self.manifest.positions | self._pending

    def append(self, log: str, partition: int, next_offset: int, rows: Iterable[tuple[Event, bytes, int]]) -> None:
        """Buffer the events, each with its original bytes and time of arrival, of the records below `next_offset`."""
        for event, raw, arrived_at in rows:
            row: dict[str, Any] = {name: getattr(event, name) for name in _FROM_EVENT}
            row["context"] = msgspec.json.encode(event.context).decode() if event.context else None
            unknown = unknown_fields(raw)
            row["unknown"] = msgspec.json.encode(unknown).decode() if unknown else None
            row["arrived_at"] = arrived_at
            self._buffer.append(row)
        self._pending[f"{log}:{partition}"] = next_offset

    def flush(self) -> None:
        """Make everything appended durable: after this the positions may be committed."""
        if self._buffer:
            self._add_segment(pa.Table.from_pylist(self._buffer, schema=_SCHEMA))
        self.manifest.positions.update(self._pending)
        self._buffer = []
        self._pending = {}
        self._save_manifest()

    def merge_small(self, at_least: int = 16) -> None:
        """Merge the newest run of small segments into larger ones, once there are `at_least` of them."""
        small: list[tuple[str, int]] = []
        for name, rows in reversed(self.manifest.segments):
            if rows >= self._segment_events:
                break
            small.insert(0, (name, rows))
        if len(small) < at_least:
            return
        table = pa.concat_tables([self._read(name) for name, _ in small])
        del self.manifest.segments[-len(small) :]
        for start in range(0, len(table), self._segment_events):
            self._add_segment(table.slice(start, self._segment_events))
        self._save_manifest()
        self._remove_unnamed()

    def erase(self, user_ids: Sequence[str]) -> int:
        """Remove every event of the users from every segment; returns how many events went."""
        self.flush()
        gone = pa.array(user_ids, pa.string())
        erased = 0
        for at, (name, rows) in enumerate(self.manifest.segments):
            table = self._read(name)
            kept = table.filter(pc.invert(pc.is_in(table["user_id"], value_set=gone)))
            if len(kept) < rows:
                erased += rows - len(kept)
                fresh = self._next_name()
                self._write(fresh, kept)
                self.manifest.segments[at] = (fresh, len(kept))
        self._save_manifest()
        self._remove_unnamed()
        return erased

    def newest_segments(self, events: int) -> list[Path]:
        """The files, oldest first, that hold at least the newest `events` events, or all there are."""
        files: list[Path] = []
        rows = 0
        for name, count in reversed(self.manifest.segments):
            files.insert(0, self._root / name)
            rows += count
            if rows >= events:
                break
        return files

    # -- files

    def _read(self, name: str) -> pa.Table:
        return _read_table(self._root / name)

    def _next_name(self) -> str:
        name = f"segment-{self.manifest.next_segment:08d}.parquet"
        self.manifest.next_segment += 1
        return name

    def _add_segment(self, table: pa.Table) -> None:
        name = self._next_name()
        self._write(name, table)
        self.manifest.segments.append((name, len(table)))

    def _write(self, name: str, table: pa.Table) -> None:
        path = self._root / name
        with open(path, "wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())

    @property
    def _manifest_path(self) -> Path:
        return self._root / "manifest.json"

    def _load_manifest(self) -> LogManifest:
        if not self._manifest_path.exists():
            return LogManifest()
        manifest = msgspec.json.decode(self._manifest_path.read_bytes(), type=LogManifest)
        missing = [name for name, _ in manifest.segments if not (self._root / name).is_file()]
        if missing:
            raise ValueError(f"sample log {self._root}: the manifest names segments that are gone: {missing}")
        return manifest

    def _save_manifest(self) -> None:
        staged = self._manifest_path.with_suffix(".tmp")
        with open(staged, "wb") as file:
            file.write(msgspec.json.encode(self.manifest))
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, self._manifest_path)

    def _remove_unnamed(self) -> None:
        named = {name for name, _ in self.manifest.segments}
        for path in self._root.glob("segment-*"):
            if path.name not in named:
                path.unlink()


def read_interactions(files: Sequence[Path], rules: LabelRules, *, most: int | None = None) -> Interactions:
    """The events of the segments in the order of event time, the newest `most` of them, each exact copy once.

    Impressions stand apart: those since the first of the events, of users and items that have events.
    """
    table = pa.concat_tables([_read_table(path) for path in files]) if files else _SCHEMA.empty_table()
    impressions = table.filter(pc.field("type") == "impression")
    table = _first_of_copies(table.filter(pc.field("type") != "impression"))
    order = np.argsort(table["ts"].to_numpy(), kind="stable")
    if most is not None:
        order = order[-most:]
    table = table.take(pa.array(order))
    users = table["user_id"].combine_chunks().dictionary_encode()
    items = table["item_id"].combine_chunks().dictionary_encode()
    shown = _impressions(_first_of_copies(impressions), users.dictionary, items.dictionary, table["ts"])
    grades = [
        grade(ACTIONS[row["type"]], rules, **{name: row[name] for name in ("watch_s", "duration_s", "value", "scale")})
        for row in table.select(["type", "watch_s", "duration_s", "value", "scale"]).to_pylist()
    ]
    return Interactions(
        user=users.indices.to_numpy().astype(np.int32),
        item=pc.fill_null(items.indices, NO_ITEM).to_numpy(zero_copy_only=False).astype(np.int32),
        ts=table["ts"].to_numpy(),
        action=np.array([g.action for g in grades], np.uint8),
        strength=np.array([g.strength for g in grades], np.float32),
        label=np.array([g.label for g in grades], np.int8),
        weight=np.array([g.weight for g in grades], np.float32),
        device=np.array([_device(context) for context in table["context"].to_pylist()], np.uint8),
        user_ids=users.dictionary.to_pylist(),
        item_ids=items.dictionary.to_pylist(),
        shown=shown,
        searches=_searches(table, users.indices.to_numpy()),
    )


def _impressions(table: pa.Table, users: pa.Array, items: pa.Array, ts: pa.ChunkedArray) -> Impressions:
    if len(ts):
        table = table.filter(pc.field("ts") >= ts[0])
    known = pc.and_(pc.is_in(table["user_id"], value_set=users), pc.is_in(table["item_id"], value_set=items))
    table = table.filter(known).sort_by("ts")
    whom, what = (
        pc.index_in(table[name], value_set=among).to_numpy().astype(np.int32)
        for name, among in (("user_id", users), ("item_id", items))
    )
    return Impressions(whom, what, table["ts"].to_numpy())


def _searches(table: pa.Table, users: npt.NDArray[np.integer]) -> Searches:
    rows = np.flatnonzero(pc.equal(table["type"], "search").to_numpy())
    ts, queries = (table[name].take(pa.array(rows)).to_pylist() for name in ("ts", "query"))
    return Searches.of(list(zip(users[rows].tolist(), ts, queries, strict=True)))


def _device(context: str | None) -> int:
    return device_code(_CONTEXT.decode(context).device) if context else 0


def _read_table(path: Path) -> pa.Table:
    return pq.read_table(path, schema=_SCHEMA)


def _first_of_copies(table: pa.Table) -> pa.Table:
    rows = pa.array(np.arange(len(table)))
    keyed = table.select(["user_id", "event_id"]).append_column("row", rows)
    first = keyed.group_by(["user_id", "event_id"]).aggregate([("row", "min")])["row_min"]
    return table.take(pa.array(np.sort(first.to_numpy())))
