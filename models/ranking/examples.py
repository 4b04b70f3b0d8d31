"""Examples to rank by: moments at which a user chose, with what could have been chosen then, described as of then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.ranking.blend import Choices
from models.ranking.inputs import Tokens
from models.ranking.ordering import Layout, best_first

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Choices, with a sample of each one's candidates fully described.

    Negatives are downsampled: the chosen candidate is always described, as are those that the user was shown and
    passed over, and of the rest a random part. What is learnt and told is corrected for that.

    Attributes:
        choices: of U users among all their candidates.
        at: int64 (k,) places in the choices of the candidates that are described, ascending.
        features: float32 (k, F) as `models.ranking.features.describe` gives them.
        tokens: of the described candidates and of the users.
        rates: float32 (k,) the chance with which each described candidate came to be described.
        weights: float32 (U,) what each choice counts.
        minutes: float32 (U,) watched of what was chosen; nan where that is not known.
        known: bool (U,) whether the user had done or searched for anything; the lists of others are not ranked anew.
        missed: how many more choices of known users there were, of something that was no candidate.
    """

    choices: Choices
    at: npt.NDArray[np.int64]
    features: Floats
    tokens: Tokens
    rates: Floats
    weights: Floats
    minutes: Floats
    known: npt.NDArray[np.bool_]
    missed: int

    def __len__(self) -> int:
        return len(self.choices.chosen)

    @property
    def of(self) -> npt.NDArray[np.int64]:
        """The user (k,) of each described candidate."""
        return self.choices.of[self.at]

    @property
    def chosen(self) -> npt.NDArray[np.int64]:
        """The place (U,) of each choice among the described candidates."""
        return np.searchsorted(self.at, self.choices.chosen)

    @property
    def log_odds_of_drawing(self) -> Floats:
        """What is to be taken from the log-odds of each described candidate (k,) for its being a sample of more."""
        logs: Floats = np.log(self.rates)
        return logs

    @classmethod
    def none(cls, missed: int = 0) -> Examples:
        """No choices."""
        nothing = np.zeros(0, dtype=np.float32)
        rows, flat = np.zeros((0, 0), np.int32), np.zeros(0, np.int64)
        tokens = Tokens(rows, rows, nothing.reshape(0, 0))
        nobody = np.zeros(0, dtype=bool)
        return cls(Choices.together([]), flat, nothing.reshape(0, 0), tokens, nothing, nothing, nothing, nobody, missed)

    @classmethod
    def together(cls, parts: list[Examples]) -> Examples:
        """Several sets as one."""
        missed = sum(part.missed for part in parts)
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.none(missed)
        offsets = np.cumsum([0, *(len(part.choices.of) for part in parts)])
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("features", "rates", "weights", "minutes", "known")
        }
        tokens = {
            name: np.concatenate([getattr(part.tokens, name) for part in parts]) for name in ("item", "user", "weights")
        }
        return cls(
            choices=Choices.together([part.choices for part in parts]),
            at=np.concatenate([part.at + offset for part, offset in zip(parts, offsets[:-1], strict=True)]),
            tokens=Tokens(**tokens),
            missed=missed,
            **columns,
        )

    def kept(self, users: npt.NDArray[np.bool_]) -> Examples:
        """The choices of some of the users (U,); those of others who are known count as missed."""
        if users.all():
            return self
        candidates, described = users[self.choices.of], users[self.of]
        renumbered, moved = np.cumsum(users) - 1, np.cumsum(candidates) - 1
        choices = Choices(
            self.choices.features[candidates],
            renumbered[self.choices.of[candidates]],
            moved[self.choices.chosen[users]],
        )
        tokens = Tokens(self.tokens.item[described], self.tokens.user[users], self.tokens.weights[users])
        return Examples(
            choices,
            moved[self.at[described]],
            self.features[described],
            tokens,
            self.rates[described],
            self.weights[users],
            self.minutes[users],
            self.known[users],
            self.missed + int(np.count_nonzero(self.known & ~users)),
        )


def log_softmax(scores: npt.NDArray[np.floating], of: npt.NDArray[np.int64], n_users: int) -> npt.NDArray[np.float64]:
    """The logarithm of each candidate's share (p,) of its user's, by scores (p,); `of` ascends."""
    if not len(of):
        return np.zeros(0)
    exact = scores.astype(np.float64)
    peaks = np.full(n_users, -np.inf)
    np.maximum.at(peaks, of, exact)
    shifted = exact - peaks[of]
    with np.errstate(divide="ignore"):
        totals = np.log(np.bincount(of, np.exp(shifted), minlength=n_users))
    logs: npt.NDArray[np.float64] = shifted - totals[of]
    return logs


def shortlist(
    scores: npt.NDArray[np.floating], of: npt.NDArray[np.int64], n_users: int, depth: int
) -> npt.NDArray[np.int64]:
    """The places (k,), ascending, of each user's `depth` best candidates by scores (p,); of equals the first."""
    layout = Layout.over(of, n_users)
    best = best_first(layout.table(scores, -np.inf))[:, :depth]
    chosen = np.zeros(len(of), dtype=bool)
    chosen[layout.places(best)] = True
    return np.flatnonzero(chosen)
