"""Item statistics: how often each item is acted on, decayed at several half-lives and counted in sliding windows.

The numbers of one item are one flat float64 record, so that a store can keep it as bytes and apply the same
arithmetic to it. The decay is the exponential forgetting of landmark-free streams: a weight halves each half-life
of event time, so the *shares* of a column do not change while nothing happens, whatever the clock does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_PER_WINDOW = 5  # bucket index, events in it, events in the one before, positives in it, positives in the one before


@dataclass(frozen=True)
class PopularityConfig:
    """Which half-lives and windows are kept, both in seconds of event time."""

    half_lives_s: tuple[float, ...] = (21_600.0, 259_200.0, 2_592_000.0, 31_536_000.0)
    windows_s: tuple[int, ...] = (3_600, 86_400, 604_800)

    def __post_init__(self) -> None:
        if not self.half_lives_s or min(self.half_lives_s) <= 0:
            raise ValueError("popularity: half_lives_s needs at least one value, all above 0")
        if self.windows_s and min(self.windows_s) <= 0:
            raise ValueError("popularity: windows_s must all be above 0")

    @property
    def width(self) -> int:
        """The numbers in one record: time of the last event, then the decayed counts, then five for each window."""
        return 1 + len(self.half_lives_s) + _PER_WINDOW * len(self.windows_s)


class Popularity:
    """The statistics of many items, by row.

    Attributes:
        config: the half-lives (H of them) and windows (W).
        records: float64 (n, width), in a record: `last_ts_ms`; H decayed counts of positives, as of that time; for
            each window `bucket, events, events before, positives, positives before`, where bucket is
            `floor(ts / window)` of the newest event. An item without events has zeros throughout.
    """

    def __init__(self, config: PopularityConfig, n_items: int = 0) -> None:
        self.config = config
        self.records: Floats = np.zeros((n_items, config.width))
        self._half_lives = np.array(config.half_lives_s) * 1000.0
        self._windows = np.array(config.windows_s, dtype=np.float64) * 1000.0
        # log2 of the decayed counts carried to time 0, which orders items as of any time and can neither overflow
        # nor go stale: the price of an exponential forgetting kept without a rebase.
        self._logs: Floats = np.full((n_items, len(config.half_lives_s)), -np.inf)
        # what is asked for again and again until something changes
        self._shares: npt.NDArray[np.float32] | None = None
        self._newest: int | None = None
        self._tops: dict[int, tuple[int, npt.NDArray[np.intp]]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def grow(self, n_items: int) -> None:
        """Make room for `n_items` rows; existing rows keep their place, and it never shrinks."""
        more = n_items - len(self.records)
        if more > 0:
            self.records = np.vstack([self.records, np.zeros((more, self.config.width))])
            self._logs = np.vstack([self._logs, np.full((more, self._logs.shape[1]), -np.inf)])
            self._changed()

    def add(
        self,
        items: npt.NDArray[np.integer] | Sequence[int],
        ts_ms: npt.NDArray[np.integer] | Sequence[int],
        positive: npt.NDArray[np.bool_] | Sequence[bool],
    ) -> None:
        """Count events, (k,) each. An item may come several times, and late events are decayed into their place.

        The outcome does not depend on the order of the events nor on how they are cut into calls: a decayed count is
        a sum over events, and a window's two buckets are always the newest one seen and the one before it.
        """
        touched, of = np.unique(np.asarray(items, dtype=np.intp), return_inverse=True)
        if not len(touched):
            return
        ts = np.asarray(ts_ms, dtype=np.float64)
        liked = np.asarray(positive, dtype=np.float64)
        records = self.records[touched]
        newest = records[:, 0].copy()
        np.maximum.at(newest, of, ts)

        n_decayed = len(self._half_lives)
        decayed = records[:, 1 : 1 + n_decayed] * np.exp2((records[:, :1] - newest[:, None]) / self._half_lives)
        np.add.at(decayed, of, np.exp2((ts - newest[of])[:, None] / self._half_lives) * liked[:, None])
        records[:, 0] = newest
        records[:, 1 : 1 + n_decayed] = decayed
        for index, window in enumerate(self._windows):
            at = 1 + n_decayed + _PER_WINDOW * index
            _count(records[:, at : at + _PER_WINDOW], of, np.floor(ts / window), liked)
        self.put(touched, records)

    def put(self, items: npt.NDArray[np.integer] | Sequence[int], records: Floats) -> None:
        """Replace the records (k, width) of `items` (k,), as another process wrote them."""
        rows = np.asarray(items, dtype=np.intp)
        self.records[rows] = records
        with np.errstate(divide="ignore"):
            self._logs[rows] = np.log2(records[:, 1 : 1 + len(self._half_lives)]) + records[:, :1] / self._half_lives
        self._changed()

    def _changed(self) -> None:
        self._shares = self._newest = None
        self._tops.clear()

    def shares(self) -> npt.NDArray[np.float32]:
        """Each item's share of all decayed positives, float32 (n, H): columns sum to 1, or are 0 when all is empty."""
        if self._shares is None:
            peak = self._logs.max(axis=0, initial=-np.inf)
            weights = np.exp2(self._logs - np.where(np.isfinite(peak), peak, 0.0))
            total = weights.sum(axis=0)
            self._shares = (weights / np.where(total > 0, total, 1.0)).astype(np.float32)
        return self._shares

    def newest(self) -> int:
        """The time in ms of the newest event on any item, 0 before the first: the stream's own clock."""
        if self._newest is None:
            self._newest = int(self.records[:, 0].max(initial=0.0))
        return self._newest

    def windows(self, now_ms: int, rows: npt.NDArray[np.integer] | slice = slice(None)) -> npt.NDArray[np.float32]:
        """Events, then positives, of each sliding window that ends at `now_ms`: float32 (n, 2 * W).

        A sliding count is estimated from two fixed buckets, as rate limiters do it: all of the current bucket, and
        of the one before it the part that the window still covers. An item whose last event is after `now_ms` is
        taken as of that event.

        Args:
            rows: the items (n,) that are asked about.
        """
        n_windows = len(self._windows)
        records = self.records[rows]
        counts = np.zeros((len(records), 2 * n_windows), dtype=np.float32)
        now = np.maximum(records[:, 0], float(now_ms))
        for index, window in enumerate(self._windows):
            at = 1 + len(self._half_lives) + _PER_WINDOW * index
            bucket, events, events_before, liked, liked_before = records[:, at : at + _PER_WINDOW].T
            current, elapsed = np.divmod(now / window, 1.0)
            covered = 1.0 - elapsed
            age = current - bucket
            for column, newer, older in (
                (index, events, events_before),
                (n_windows + index, liked, liked_before),
            ):
                counts[:, column] = np.where(
                    age == 0, newer + older * covered, np.where(age == 1, newer * covered, 0.0)
                )
        return counts

    def top(self, half_life: int, k: int) -> npt.NDArray[np.intp]:
        """The rows of the `k` most popular items by the half-life of that index, best first, (<= k,).

        Items without a share are left out; equal ones come in the order of their rows.
        """
        known, best = self._tops.get(half_life, (0, np.zeros(0, np.intp)))
        if k > known:
            best = self._ranked(half_life, k)
            self._tops[half_life] = k, best
        return best[: max(k, 0)]

    def _ranked(self, half_life: int, k: int) -> npt.NDArray[np.intp]:
        rows = np.flatnonzero(self.shares()[:, half_life])
        logs = self._logs[rows, half_life]
        if len(rows) > k:
            kept = logs >= np.partition(logs, len(rows) - k)[len(rows) - k]
            rows, logs = rows[kept], logs[kept]
        return rows[np.argsort(-logs, kind="stable")]


def _count(window: Floats, of: npt.NDArray[np.intp], buckets: Floats, liked: Floats) -> None:
    """Count events into the window columns (items, 5) in place; event i is item `of[i]`'s, in bucket `buckets[i]`."""
    newest = window[:, 0].copy()
    np.maximum.at(newest, of, buckets)
    ahead = newest - window[:, 0]
    for now, before, weight in ((1, 2, np.ones_like(liked)), (3, 4, liked)):
        stale = np.where(ahead == 0, window[:, before], np.where(ahead == 1, window[:, now], 0.0))
        window[:, before] = stale + np.bincount(of, weight * (buckets == newest[of] - 1), len(window))
        kept = np.where(ahead == 0, window[:, now], 0.0)
        window[:, now] = kept + np.bincount(of, weight * (buckets == newest[of]), len(window))
    window[:, 0] = newest


def merged(parts: Floats, config: PopularityConfig) -> Floats:
    """The records (k, width) of one count of all events, out of those of P counts of parts of them, (P, k, width)."""
    out = np.zeros(parts.shape[1:])
    half_lives = np.array(config.half_lives_s) * 1000.0
    n_decayed = len(half_lives)
    last = parts[:, :, 0]
    out[:, 0] = last.max(axis=0)
    carried = np.exp2((last - out[None, :, 0])[:, :, None] / half_lives)
    out[:, 1 : 1 + n_decayed] = (parts[:, :, 1 : 1 + n_decayed] * carried).sum(axis=0)
    for index in range(len(config.windows_s)):
        at = 1 + n_decayed + _PER_WINDOW * index
        bucket = parts[:, :, at]
        newest = bucket.max(axis=0)
        current, before = bucket == newest, bucket == newest - 1
        out[:, at] = newest
        for now in (at + 1, at + 3):
            out[:, now] = (parts[:, :, now] * current).sum(axis=0)
            out[:, now + 1] = (parts[:, :, now + 1] * current + parts[:, :, now] * before).sum(axis=0)
    return out
