"""Features of candidates: what is known of a user, an item and the moment, in bulk; one code trains and serves.

Everything is computed from the state as it is: the user's actions, the item statistics, the catalogue's facts and what
the sources said. So a training that has the state of a moment in the past has the very values that serving had.
What is not known is nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from models.data.calendar import CALENDAR, calendar
from models.data.holidays import days_to_and_from
from models.data.interactions import DEVICES
from models.data.item_facts import KEYS, ItemFacts
from models.data.popularity import Popularity, PopularityConfig
from models.data.users import UserBatch
from models.ranking.blend import MODELS, feature_names
from models.ranking.ordering import Layout, best_first, distinct
from models.ranking.token_weights import TokenWeights, highest, summed

if TYPE_CHECKING:
    from models.retrieval.candidates import Candidates

Floats = npt.NDArray[np.float32]

_USER: Final = (
    "actions",
    "liked_share",
    "mean_strength",
    "idle",
    "session_actions",
    "session_minutes",
    "mean_session_minutes",
    "histogram_entropy",
    "histogram_top",
    "profile_tokens",
    "liked_popularity",
    "liked_age",
    "liked_duration",
    *(f"device_{name}" for name in DEVICES),
)
#: What the moment alone decides.
MOMENTS: Final = (*CALENDAR, "holiday_ahead", "holiday_past")
_CROSSES: Final = (
    "taste",
    "taste_best",
    "recent_keys",
    "last_keys",
    "same_creator",
    "same_language",
    "profile_match",
    "searched",
    "shown",
    "liking",
    "near_last",
    "near_best",
    "popularity_gap",
    "age_gap",
    "duration_gap",
)
_SOURCES: Final = (
    *(f"rank_{name}" for name in MODELS),
    *(f"gap_{name}" for name in MODELS),
    "rank_trending",
)

_SESSION_GAP_MS: Final = 1_800_000
#: Liked this much, an action tells of taste.
_LIKED: Final = 0.75
_RECENT: Final = 10
_NEAREST: Final = 5
_DAY_MS: Final = 86_400_000.0
_POSITIVE_RATE: Final = 0.5
_LEAST_EVENTS: Final = 5.0
_FLOOR: Final = 1e-6
_USERS_AT_ONCE: Final = 64


@lru_cache(maxsize=8)
def names(popularity: PopularityConfig, numbers: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The features in their order; those of the blend come first.

    Args:
        numbers: the numeric features of items, `ItemFacts.number_names`.
    """
    items = _item_names(popularity, numbers)
    return (*feature_names(popularity), *_SOURCES, *items, *_CROSSES, *_USER, *MOMENTS)


def _item_names(popularity: PopularityConfig, numbers: Sequence[str]) -> tuple[str, ...]:
    half_lives, windows = popularity.half_lives_s, popularity.windows_s
    return (
        "age",
        "met",
        "duration",
        "quiet",
        *(f"rise_{short:g}s_{long:g}s" for short, long in pairwise(half_lives)),
        *(f"events_{window}s" for window in windows),
        *(f"liked_{window}s" for window in windows),
        *(f"number_{name}" for name in numbers),
        *(f"number_gap_{name}" for name in numbers),
    )


@dataclass(frozen=True)
class State:
    """What is known at one moment of all items, to describe candidates by.

    Attributes:
        popularity, facts: by row.
        vectors: float32 (rows, d), whose inner products are greater the more alike; None before there are any.
        holidays: as `TrainingConfig` has them.
    """

    popularity: Popularity
    facts: ItemFacts
    vectors: Floats | None
    holidays: tuple[str, ...]


def describe(users: UserBatch, candidates: Candidates, at: npt.NDArray[np.int64], state: State) -> Floats:
    """The features (k, F), see `names`, of those candidates of the users that stand at places `at` (k,), ascending.

    What is chosen to be described does not change the values: a rank is among all candidates of the user. A feature's
    values lie beside each other in memory.
    """
    popularity, facts = state.popularity, state.facts
    out = np.empty((len(names(popularity.config, facts.number_names)), len(at)), dtype=np.float32)
    moments = calendar(users.now), days_to_and_from(users.now, state.holidays)
    about_users = np.concatenate([_of_users(users, popularity, facts), *moments], axis=1, dtype=np.float32).T
    rows, place = distinct(candidates.items[at], len(popularity))
    about_items = _of_items(rows, popularity, facts)
    for start in range(0, len(users), _USERS_AT_ONCE):  # few enough that the tables stay in the processor's cache
        stop = start + _USERS_AT_ONCE
        first, end = np.searchsorted(candidates.users, [start, stop])
        low, high = np.searchsorted(at, [first, end])
        own = candidates.part(first, end, start)
        described = about_users[:, start:stop], about_items.take(place[low:high], axis=1)
        _fill(out[:, low:high], users.take(slice(start, stop)), own, at[low:high] - first, state, *described)
    return out.T


def _fill(
    out: Floats,
    users: UserBatch,
    candidates: Candidates,
    at: npt.NDArray[np.int64],
    state: State,
    about_users: Floats,
    about_items: Floats,
) -> None:
    popularity, facts = state.popularity, state.facts
    of, items = candidates.users[at], candidates.items[at]
    filled = 0
    for block in (
        candidates.features.T.take(at, axis=1),
        _of_sources(candidates, at, len(users)),
        _log_days(users.now[of] - facts.times[items].T),
        about_items,
        _of_numbers(users, of, items, facts),
        _of_pairs(users, of, items, state, candidates.liking[at]),
        about_users.take(of, axis=1),
    ):
        out[filled : filled + len(block)] = block
        filled += len(block)
    column = _columns(popularity.config, facts.number_names)
    if state.vectors is None:  # nothing is known of what trained models would have said
        out[[column[f"{kind}{model}"] for model in MODELS[:-1] for kind in ("", "rank_", "gap_")]] = np.nan
    slowest = feature_names(popularity.config)[-1]
    for gap, own in (("popularity", slowest), ("age", "age"), ("duration", "duration")):
        out[column[f"{gap}_gap"]] = np.abs(out[column[own]] - out[column[f"liked_{gap}"]])


@lru_cache(maxsize=8)
def _columns(popularity: PopularityConfig, numbers: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names(popularity, numbers))}


def _of_items(rows: npt.NDArray[np.int64], popularity: Popularity, facts: ItemFacts) -> Floats:
    """What does not depend on who asks and when, (…, k): `_item_names` from `duration` to what windows count."""
    newest = popularity.newest()
    windows = popularity.windows(newest, rows).T
    events, liked = np.split(windows, 2)
    rate = (liked + _POSITIVE_RATE * _LEAST_EVENTS) / (events + _LEAST_EVENTS)
    last = popularity.records[rows, 0]
    shares = np.log(popularity.shares()[rows].T + np.float32(_FLOOR))
    return np.concatenate(
        [
            np.log1p(facts.duration[rows])[None],
            np.where(last > 0, np.log1p((newest - last) / 60_000.0), np.nan)[None],
            shares[:-1] - shares[1:],
            np.log1p(events),
            rate,
        ],
        dtype=np.float32,
    )


def _of_numbers(
    users: UserBatch, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64], facts: ItemFacts
) -> npt.NDArray[np.float64]:
    """The items' numeric features (N, k), and how far each is from what the user liked on average, (2 * N, k)."""
    own = facts.numbers[items].T
    if not len(own):
        return own
    rows = np.maximum(users.items, 0)
    liked = (users.items >= 0) & (users.strengths >= _LIKED)
    wanted = np.stack([_mean_of(facts.numbers[rows, place], liked) for place in range(len(own))])
    return np.concatenate([own, np.abs(own - wanted[:, of])])


def _of_users(users: UserBatch, popularity: Popularity, facts: ItemFacts) -> Floats:
    real = users.items >= 0
    count = real.sum(axis=1)
    some = np.maximum(count, 1)
    liked = real & (users.strengths >= _LIKED)
    none = count == 0
    # on the left are the paddings, so a gap before the first action reads as a new session
    gaps = np.diff(users.ts, axis=1, prepend=0)
    begins = real & ((gaps > _SESSION_GAP_MS) | ~_shifted(real))
    inside = np.where(real & ~begins, gaps, 0)
    sessions = np.maximum(begins.sum(axis=1), 1)
    idle = users.now - users.ts[:, -1]
    current: npt.NDArray[np.bool_] = np.cumsum(begins[:, ::-1], axis=1) - begins[:, ::-1] == 0
    current = (current & real[:, ::-1])[:, ::-1] & (idle <= _SESSION_GAP_MS)[:, None]
    shares = users.histogram_weights
    entropy = -(shares * np.log(np.maximum(shares, 1e-9))).sum(axis=1)
    rows = np.maximum(users.items, 0)
    shares_of = popularity.shares()[:, -1]
    known = rows < len(shares_of)
    slow = np.log(shares_of[np.where(known, rows, 0)] + np.float32(_FLOOR * 100)) if len(shares_of) else np.nan
    wanted = [
        np.where(known, slow, np.nan),
        _log_days(users.ts - facts.times[rows, 0]) if len(facts) else np.full(rows.shape, np.nan),
        np.log1p(facts.duration[rows]) if len(facts) else np.full(rows.shape, np.nan),
    ]
    columns = [
        np.log1p(count),
        np.where(none, np.nan, liked.sum(axis=1) / some),
        np.where(none, np.nan, np.where(real, users.strengths, 0).sum(axis=1) / some),
        np.where(none, np.nan, np.log1p(np.maximum(idle, 0) / 60_000.0)),
        np.log1p(current.sum(axis=1)),
        np.log1p(np.where(current & ~begins, gaps, 0).sum(axis=1) / 60_000.0),
        np.log1p(inside.sum(axis=1) / sessions / 60_000.0),
        entropy,
        shares[:, 0] if shares.shape[1] else np.zeros(len(users)),
        np.count_nonzero(users.profile, axis=1),
        *(_mean_of(values, liked) for values in wanted),
        *(users.device == code for code in range(1, len(DEVICES) + 1)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _of_sources(candidates: Candidates, at: npt.NDArray[np.int64], n_users: int) -> Floats:
    """The ranks by each model of candidates at places `at` (k,), and how far they are behind its best, (…, k)."""
    layout = Layout.over(candidates.users, n_users)
    of, logs = layout.of[at], np.log1p(np.arange(layout.width))
    out = np.empty((len(_SOURCES), len(at)), dtype=np.float32)
    trend = candidates.features.T[len(MODELS) + 1 :].mean(axis=0)
    for index, values in enumerate([*candidates.features.T[: len(MODELS)], trend]):
        table = layout.table(values, -np.inf)
        ranks = logs.take(layout.ranks(best_first(table), at))
        if index < len(MODELS):
            out[index] = ranks
            out[len(MODELS) + index] = table.max(axis=1, initial=-np.inf)[of] - values[at]
        else:
            out[2 * len(MODELS)] = ranks
    return out


def _of_pairs(
    users: UserBatch, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64], state: State, liking: Floats
) -> Floats:
    """The crosses, (…, k); the gaps are left to be filled in by who knows both sides."""
    facts = state.facts
    recent = users.items[:, -_RECENT:]
    liked = (recent >= 0) & (users.strengths[:, -_RECENT:] >= _LIKED)
    rows = np.maximum(recent, 0)
    weights = liked / np.maximum(liked.sum(axis=1, keepdims=True), 1)
    last = np.repeat((recent[:, -1:] >= 0).astype(np.float64), KEYS, axis=1)
    of_recent = facts.keys[rows]
    of_all, of_last = of_recent.reshape(len(users), -1), of_recent[:, -1]
    made_by, spoken = facts.creators[rows].reshape(len(users), -1), facts.language[rows]
    told = TokenWeights([users.histogram, of_all, users.profile, made_by, spoken, users.searched])

    keys, creators, language = facts.keys[items], facts.creators[items], facts.language[items]
    many = np.count_nonzero(keys, axis=1)
    cells = told.cells(of, keys[:, : int(many.max(initial=1))])  # few have as many as there is room for
    table = told.table(
        (users.histogram, users.histogram_weights),
        (of_all, np.repeat(weights, KEYS, axis=1)),
        (of_last, last),
        (users.profile, np.ones(users.profile.shape)),
    )
    total = summed(table, cells).T
    of_creators = told.table((made_by, np.repeat(weights, creators.shape[1], axis=1)))[:, 0]
    out = np.zeros((len(_CROSSES), len(of)), dtype=np.float32)
    out[:4] = total[0], highest(table[:, 0], cells), total[1] / np.maximum(many, 1), total[2] / np.maximum(many, 1)
    out[:4, many == 0] = np.nan
    out[4] = np.where(creators.any(axis=1), highest(of_creators, told.cells(of, creators)), np.nan)
    of_language = told.table((spoken, weights))[:, 0]
    out[5] = np.where(language > 0, of_language.take(told.cells(of, language[:, None])[:, 0]), np.nan)
    out[6] = total[3]
    if users.searched.any():
        of_words = told.table((users.searched, users.searched_weights))
        out[7] = summed(of_words, told.cells(of, facts.words[items]))[:, 0]
    out[8] = np.log1p(times_shown(users.shown, of, items))
    out[9] = liking
    out[10:12] = _nearness(users, of, items, state.vectors)
    return out


def times_shown(
    shown: npt.NDArray[np.int32], of: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How often each candidate (k,) of users `of` stands among what its user was shown, rows (B, S), padded with -1."""
    whose, places = np.nonzero(shown >= 0)
    width = int(max(shown.max(initial=0), items.max(initial=0))) + 1
    there = np.sort(whose * width + shown[whose, places])
    wanted = of * width + items
    return np.searchsorted(there, wanted, side="right") - np.searchsorted(there, wanted)


def _nearness(
    users: UserBatch, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64], vectors: Floats | None
) -> Floats:
    """How near the candidate is to what was liked last, and to the nearest of the last few: (2, p)."""
    if vectors is None:
        return np.full((2, len(of)), np.nan, dtype=np.float32)
    recent = users.items[:, -_NEAREST:]
    liked: npt.NDArray[np.bool_] = (recent >= 0) & (users.strengths[:, -_NEAREST:] >= _LIKED)
    layout = Layout.over(of, len(users))
    of_items, of_recent = (vectors[rows] for rows in (layout.table(items, 0), np.maximum(recent, 0)))
    near = (of_items @ of_recent.transpose(0, 2, 1)).reshape(-1, recent.shape[1]).take(layout.cells, axis=0)
    near[~liked[of]] = -np.inf
    lacks = np.asarray(~liked.any(axis=1))
    newest = recent.shape[1] - 1 - np.argmax(liked[:, ::-1], axis=1)
    told = np.stack([near[np.arange(len(of)), newest[of]], near.max(axis=1)])
    told[:, lacks[of]] = np.nan
    return told


def _shifted(real: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    before = np.zeros_like(real)
    before[:, 1:] = real[:, :-1]
    return before


def _log_days(ms: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """A time span in ms as the logarithm of 1 + days; below 0 counts as 0."""
    days: npt.NDArray[np.float64] = np.log1p(np.maximum(ms, 0.0) / _DAY_MS)
    return days


def _mean_of(values: npt.NDArray[np.floating], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The mean of each row of `values` where it is meant and known; nan where there is none."""
    counted = where & ~np.isnan(values)
    total = np.where(counted, values, 0.0).sum(axis=1)
    size = counted.sum(axis=1)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)
