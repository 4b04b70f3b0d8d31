"""The blend: a linear softmax over the candidates of all sources, which weighs the models against recent popularity.

A multinomial logistic (conditional logit; McFadden, 1974): each candidate has features, the score is their weighted
sum, and the weights maximise the probability of what the user turned to among what could have been shown. Popularity
enters as the logarithm of shares, so the weights do not depend on the size of the data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.data.popularity import PopularityConfig
from models.networks.optimisers import LBFGS
from models.networks.popularity_prior import SHARE_FLOORS

Floats = npt.NDArray[np.float32]

#: A feature that spreads less than this (the likes on a young stream are few) must not make up for it by a huge weight.
_LEAST_SPREAD = 0.3

#: The models whose scores are features; all but the last are as of the training.
MODELS = ("sequence", "two_tower", "slist", "neighbours")


def feature_names(popularity: PopularityConfig) -> tuple[str, ...]:
    """The features of a candidate.

    `sequence` and `two_tower` are the networks' scores, `slist` is SLIST's lift and `neighbours` the logarithm of the
    summed similarities, each as the excess over what the popular candidates have; a network's times the trust in the
    item: it cannot tell good from bad of what it has hardly met. `fresh` is what the trust lacks to 1;
    `share_…` is the logarithm of the item's share of all positives, decayed at that half-life, above that floor.
    """
    shares = (f"share_{half_life:g}s_{floor:g}" for floor in SHARE_FLOORS for half_life in popularity.half_lives_s)
    return (*MODELS, "fresh", *shares)


@dataclass(frozen=True)
class Choices:
    """What users chose among their candidates.

    Attributes:
        features: float32 (p, F) of every candidate of every user.
        of: int64 (p,) the user, ascending in 0 … U - 1.
        chosen: int64 (U,) the place in 0 … p - 1 of each user's choice.
    """

    features: Floats
    of: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]

    @classmethod
    def together(cls, parts: list[Choices]) -> Choices:
        """Several sets as one."""
        parts = [part for part in parts if len(part.chosen)]
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return cls(np.zeros((0, 0), dtype=np.float32), none, none)
        users = np.cumsum([0, *(len(part.chosen) for part in parts)])
        pairs = np.cumsum([0, *(len(part.of) for part in parts)])
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.of + start for part, start in zip(parts, users[:-1], strict=True)]),
            np.concatenate([part.chosen + start for part, start in zip(parts, pairs[:-1], strict=True)]),
        )


class Blend:
    """Weights of named features.

    Attributes:
        weights: float32 (F,) in the features' own units.
        least: float32 (F,) the least of each share that the weights were learnt from, -inf for what is no share. A
            share below it counts as that: where every item has been liked, nothing is known of one that has not, and
            the weights of the two floors, nearly one feature until there, would send it anywhere.
    """

    def __init__(self, names: tuple[str, ...], weights: Floats, least: Floats | None = None) -> None:
        self.names = names
        self.weights = weights
        self.least = np.full(len(names), -np.inf, dtype=np.float32) if least is None else least

    @classmethod
    def prior(cls, popularity: PopularityConfig) -> Blend:
        """Weights for when nothing has been learnt: more for a longer half-life, as its shares rest on more events."""
        names = feature_names(popularity)
        given = {"sequence": 0.3, "two_tower": 0.3, "neighbours": 6.0, "slist": 0.3, "fresh": 0.5}
        shares = [name for name in names if name.endswith(f"s_{SHARE_FLOORS[-1]:g}")]
        firmness = (np.argsort(np.argsort(popularity.half_lives_s)) + 1.0) ** 2
        given |= dict(zip(shares, (firmness / firmness.sum()).tolist(), strict=True))
        return cls(names, np.array([given.get(name, 0.0) for name in names], dtype=np.float32))

    def score(self, features: Floats) -> Floats:
        """The scores (p,) of features (p, F)."""
        return np.maximum(features, self.least) @ self.weights

    def fitted(self, choices: Choices, *, strength: float, steps: int) -> Blend:
        """The weights that best explain the choices, drawn towards the present ones where these say little.

        Args:
            strength: how firmly; in the units of choices that tell a weight apart as well as a choice can.
            steps: the most steps of the optimiser (L-BFGS).
        """
        users = len(choices.chosen)
        if len(choices.features) < 2:  # of one candidate no spread can be taken, and there was nothing to choose
            return self
        features = torch.from_numpy(choices.features)
        of = torch.from_numpy(choices.of)
        chosen = torch.from_numpy(choices.chosen)
        # only differences between a user's candidates matter, so that is what the scale is taken of
        means = torch.zeros(users, features.shape[1]).index_add_(0, of, features) / torch.bincount(of)[:, None]
        features = features - means[of]
        scale = features.std(dim=0).clamp_min(_LEAST_SPREAD)
        features = features / scale
        prior = torch.from_numpy(self.weights) * scale
        weights = prior.clone().requires_grad_()
        optimiser = LBFGS(
            [weights], max_iter=steps, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
        )

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            scores = features @ weights
            with torch.no_grad():
                peaks = torch.full((users,), -torch.inf).scatter_reduce_(0, of, scores, "amax")
            sums = torch.zeros(users).index_add_(0, of, torch.exp(scores - peaks[of]))
            misfit = (torch.log(sums) + peaks - scores[chosen]).mean()
            total = misfit + strength / users * ((weights - prior) ** 2).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        fitted = (weights.detach() / scale).numpy()
        if not np.isfinite(fitted).all():
            return self
        met = np.where([name.startswith("share_") for name in self.names], choices.features.min(axis=0), -np.inf)
        least = np.where(np.isfinite(self.least), np.minimum(self.least, met), met).astype(np.float32)
        return Blend(self.names, fitted, least)
