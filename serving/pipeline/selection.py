"""Selection: the places of a list, filled one after another so that what is chosen fits together.

Works on slates: of each user the best candidates by score, (B, R), padded with -1 at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.retrieval.index import of_unit_length
from serving.pipeline.items import ABSENT
from serving.pipeline.query import Query
from streams.settings.pipeline import PipelineSettings

Floats = npt.NDArray[np.float32]


@dataclass
class Slates:
    """The best candidates of B users, best first.

    Attributes:
        items: int64 (B, R) rows, -1 where there are no more.
        scores: float32 (B, R), -inf where there are no more.
        sources: uint32 (B, R) bits.
        probabilities, minutes: float32 (B, R), see `models.ranking.ranker.Scored`; nan where not known.
    """

    items: npt.NDArray[np.int64]
    scores: Floats
    sources: npt.NDArray[np.uint32]
    probabilities: Floats
    minutes: Floats

    def ordered(self, order: npt.NDArray[np.int64]) -> Slates:
        """The columns (B, k) of each user, in that order."""
        return Slates(
            np.take_along_axis(self.items, order, axis=1),
            np.take_along_axis(self.scores, order, axis=1),
            np.take_along_axis(self.sources, order, axis=1),
            np.take_along_axis(self.probabilities, order, axis=1),
            np.take_along_axis(self.minutes, order, axis=1),
        )

    def first(self, places: int) -> Slates:
        """The first columns of each user."""
        return Slates(*(getattr(self, each.name)[:, :places] for each in fields(self)))


class Penalty(Protocol):
    """What choosing an item takes from the others, while a list is filled."""

    def begin(self, query: Query, slates: Slates) -> None: ...

    def values(self) -> Floats:
        """What each candidate's score loses (B, R) if it is chosen next; `inf` for one that may not be."""
        ...

    def chose(self, columns: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> None:
        """Column (B,) was chosen for the users of the mask (B,)."""
        ...


class Similarity:
    """Maximal marginal relevance (Carbonell & Goldstein, 1998): likeness to the nearest item chosen so far.

    The likeness is the cosine of the item tower's vectors, so that it knows content and use alike; 0 without a model.
    """

    def __init__(self, strength: float) -> None:
        self._strength = np.float32(strength)

    def begin(self, query: Query, slates: Slates) -> None:
        self._cosines = cosines(query, slates.items)
        self._nearest = np.zeros(slates.items.shape, np.float32)

    def values(self) -> Floats:
        return self._strength * self._nearest

    def chose(self, columns: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> None:
        like = self._cosines[np.arange(len(columns)), columns]
        np.maximum(self._nearest, like, out=self._nearest, where=filled[:, None])


class Cap:
    """At most so many items with the same value of a feature; those without one are not counted."""

    def __init__(self, feature: str, most: int) -> None:
        self._feature = feature
        self._most = most

    def begin(self, query: Query, slates: Slates) -> None:
        codes = query.items.groups[self._feature].codes[np.maximum(slates.items, 0)]
        self._codes = np.where(slates.items >= 0, codes, ABSENT)
        self._same = np.zeros(slates.items.shape, np.int32)

    def values(self) -> Floats:
        return np.where(self._same >= self._most, np.float32(np.inf), np.float32(0))

    def chose(self, columns: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> None:
        chosen = self._codes[np.arange(len(columns)), columns]
        self._same += (self._codes == chosen[:, None]) & (chosen != ABSENT)[:, None] & filled[:, None]


class Calibration:
    """Calibrated recommendations (Steck, 2018): the list's shares of a feature's values near those of the history.

    What a candidate loses is the Kullback-Leibler divergence of the list's shares, with it, from the user's.
    """

    _MIXED = 0.01  # of the user's own shares in the list's, so that no logarithm is of zero

    def __init__(self, feature: str, strength: float) -> None:
        self._feature = feature
        self._strength = np.float32(strength)

    def begin(self, query: Query, slates: Slates) -> None:
        column = query.items.groups[self._feature]
        codes = np.where(slates.items >= 0, column.codes[np.maximum(slates.items, 0)], ABSENT)
        history = query.users.items
        known = np.where(history >= 0, column.codes[np.maximum(history, 0)], ABSENT)
        groups = len(column.values)
        wanted = np.zeros((len(slates.items), groups), np.float32)
        of, places = np.nonzero(known != ABSENT)
        np.add.at(wanted, (of, known[of, places]), query.users.strengths[of, places])
        total = wanted.sum(axis=1, keepdims=True)
        self._wanted = np.divide(wanted, total, out=np.zeros_like(wanted), where=total > 0)
        self._codes = codes
        self._counts = np.zeros_like(wanted)
        self._places = 0

    def values(self) -> Floats:
        share = self._wanted
        counts = self._counts + 1e-9
        # adding one of group g changes only the share of g: the divergence of each candidate from the sums
        total = np.float32(self._places + 1)
        mixed = (1 - self._MIXED) * counts / total + self._MIXED * share
        base = (share * np.log(np.where(share > 0, share, 1) / np.maximum(mixed, 1e-12))).sum(axis=1)
        more = (1 - self._MIXED) * (counts + 1) / total + self._MIXED * share
        saved = share * (np.log(np.maximum(more, 1e-12)) - np.log(np.maximum(mixed, 1e-12)))
        of = np.arange(len(share))[:, None]
        gained = np.where(self._codes != ABSENT, saved[of, np.maximum(self._codes, 0)] if share.shape[1] else 0, 0)
        has_history = (share.sum(axis=1) > 0)[:, None]
        return np.where(has_history, self._strength * (base[:, None] - gained), 0).astype(np.float32)

    def chose(self, columns: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> None:
        codes = self._codes[np.arange(len(columns)), columns]
        counted = filled & (codes != ABSENT)
        self._counts[np.flatnonzero(counted), codes[counted]] += 1
        self._places += 1


class Greedy:
    """Fills each place with the candidate whose score less its penalties is highest."""

    def __init__(self, penalties: list[Penalty]) -> None:
        self._penalties = penalties

    def order(self, query: Query, slates: Slates, places: int) -> npt.NDArray[np.int64]:
        """The columns chosen, in the order of places, (B, places); -1 where none may be."""
        left = slates.scores.copy()
        order = np.full((len(left), min(places, left.shape[1])), -1, np.int64)
        for penalty in self._penalties:
            penalty.begin(query, slates)
        users = np.arange(len(left))
        for place in range(order.shape[1]):
            values = left.copy()
            for penalty in self._penalties:
                values -= penalty.values()
            columns = values.argmax(axis=1)
            filled = np.isfinite(values[users, columns])
            order[filled, place] = columns[filled]
            left[users[filled], columns[filled]] = -np.inf
            for penalty in self._penalties:
                penalty.chose(columns, filled)
        return order


class Determinantal:
    """The most probable list of a determinantal point process, found greedily (Chen et al., 2018).

    The kernel is `exp(theta * (s_i + s_j)) * cosine_ij`, so that a list is probable whose items score high and point
    into different directions; the lower `strength`, the more the scores weigh: theta = (1 - strength) / (2 strength).
    """

    def __init__(self, strength: float) -> None:
        self._theta = np.float32((1 - strength) / (2 * strength))

    def order(self, query: Query, slates: Slates, places: int) -> npt.NDArray[np.int64]:
        """As `Greedy.order`."""
        real = slates.items >= 0
        best = slates.scores.max(axis=1, initial=-np.inf, where=real, keepdims=True)
        quality = np.where(real, np.exp(self._theta * (slates.scores - np.where(np.isfinite(best), best, 0))), 0)
        alike = cosines(query, slates.items)
        size = min(places, real.shape[1])
        order = np.full((len(real), size), -1, np.int64)
        users = np.arange(len(real))
        parts = np.zeros((len(real), size, real.shape[1]), np.float32)
        gains = np.where(real, quality**2, -np.inf).astype(np.float32)
        for place in range(size):
            columns = gains.argmax(axis=1)
            filled = np.isfinite(gains[users, columns])
            order[filled, place] = columns[filled]
            gain = np.maximum(np.where(filled, gains[users, columns], 1), 1e-12)
            row = quality[users, columns, None] * alike[users, columns] * quality
            row -= np.einsum("bp,bpr->br", parts[users, :, columns], parts)
            parts[:, place] = row / np.sqrt(gain)[:, None]
            gains -= parts[:, place] ** 2
            gains[real & np.isfinite(gains)] = np.maximum(gains[real & np.isfinite(gains)], 1e-12)
            gains[users[filled], columns[filled]] = -np.inf
        return order


def cosines(query: Query, items: npt.NDArray[np.int64]) -> Floats:
    """The cosines between the items (B, R) of each user's slate, (B, R, R), by the item tower; 0 without a model.

    They are those of the vectors less their mean (Mu and Viswanath, 2018): the tower's lie in a narrow cone, in
    which any two items are alike by 0.75 to 0.8, give or take 0.05.
    """
    users, columns = items.shape
    networks = query.model.networks
    if networks is None:
        return np.zeros((users, columns, columns), np.float32)
    index = networks.towers_index
    # without the prior, which is no likeness
    vectors = of_unit_length(index.vectors[np.maximum(items, 0), :-1] - query.model.centre)
    vectors[items < 0] = 0
    found: Floats = vectors @ vectors.transpose(0, 2, 1)
    return found


def selector_of(settings: PipelineSettings) -> Greedy | Determinantal | None:
    """What the settings ask for; None when the order of scores is the order of places."""
    diversity = settings.diversity
    if diversity.kind == "dpp" and diversity.strength > 0:
        return Determinantal(diversity.strength)
    penalties: list[Penalty] = [Cap(feature, most) for feature, most in settings.caps.items()]
    if diversity.kind == "mmr" and diversity.strength > 0:
        penalties.append(Similarity(diversity.strength))
    if settings.calibration.strength > 0:
        penalties.append(Calibration(settings.calibration.feature, settings.calibration.strength))
    return Greedy(penalties) if penalties else None
