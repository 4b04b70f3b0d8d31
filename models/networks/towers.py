"""The two towers: users and items embedded apart, near each other where the user will like the item.

The user tower reads what the sequence model does not: the profile and the decayed histogram, and as its configuration
says the user's id, the words of the last searches and the context, beside a pooled history.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import TowersConfig
from models.data.calendar import HOURS, SEASON, calendar
from models.data.interactions import DEVICES
from models.data.users import UserBatch
from models.networks import losses
from models.networks.compute import tensor
from models.networks.network import Network
from models.networks.training_loop import Exercises, Lesson, Negatives
from models.networks.user_ids import UserIds

_POOLING_HALF_LIFE = 10.0
#: The parts of the context that may be read, and how many numbers each is.
_CONTEXT: Final = {"hours": len(HOURS), "season": len(SEASON), "device": len(DEVICES)}


class TwoTowers(Network):
    """Both towers; compared by cosine, their vectors have unit length."""

    config: TowersConfig

    def __init__(self, n_items: int, buckets: int, half_lives: int, config: TowersConfig) -> None:
        super().__init__(n_items, buckets, half_lives, config)
        dim, reads = config.dim, config.reads
        self.profile = nn.EmbeddingBag(buckets, dim, mode="mean", padding_idx=0)
        self.histogram = nn.EmbeddingBag(buckets, dim, mode="sum", padding_idx=0)
        self.ids = UserIds(buckets, dim, config.user_dropout) if "user" in reads else None
        numbers = sum(size for name, size in _CONTEXT.items() if name in reads)
        self.context = nn.Linear(numbers, dim, bias=False) if numbers else None
        for table in (self.profile, self.histogram):
            nn.init.normal_(table.weight, std=0.05)
        if self.context is not None:
            nn.init.normal_(self.context.weight, std=0.05)
        width = (3 + ("user" in reads) + ("searches" in reads) + (numbers > 0)) * dim + 2
        self.user = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, dim),
        )
        self.item = nn.Sequential(nn.Linear(dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, dim))

    @property
    def temperature(self) -> float:
        """What inner products are divided by."""
        return self.config.temperature if self.config.similarity == "cosine" else 1.0

    def exercises(self, lesson: Lesson) -> Exercises:
        """To tell each example from its user as of just before it."""
        config = self.config
        rows = np.flatnonzero(lesson.weights > 0)
        users = lesson.histories.before(rows)
        targets = lesson.histories.log.item[rows].astype(np.int64)
        weights = lesson.weights[rows]
        negatives = Negatives(lesson, config.negatives, config.popular_negatives)
        here = partial(tensor, device=lesson.compute.device)

        def batches() -> Iterator[tuple[npt.NDArray[np.intp]]]:
            shuffled = lesson.rng.permutation(len(rows))
            for start in range(0, len(rows), config.batch):
                yield (np.sort(shuffled[start : start + config.batch]),)

        def loss(batch: npt.NDArray[np.intp]) -> Tensor:
            some = users.take(batch)
            chosen = np.unique(np.concatenate([targets[batch], negatives.drawn()]))
            history = np.maximum(some.items, 0).astype(np.int64)
            needed, of = np.unique(np.concatenate([history.ravel(), chosen]), return_inverse=True)
            with lesson.compute.autocast():
                vectors = self.of_items(here(needed), lesson.content.take(needed))
                queries = self.of_users(some, vectors[here(of[: history.size].reshape(history.shape))])
            logits = queries @ vectors[here(of[history.size :])].T / self.temperature
            logits = logits + self.prior(lesson.trends, rows[batch], chosen)
            expected = negatives.expected(chosen, len(batch))
            places = here(np.searchsorted(chosen, targets[batch]))
            return losses.softmax(logits + here(losses.sampling_offset(expected)), places, here(weights[batch]))

        return Exercises(batches, loss)

    def of_users(self, users: UserBatch, history: Tensor) -> Tensor:
        """The users' vectors (B, dim); `history` (B, L, dim) holds the vectors of `users.items`."""
        real = users.items >= 0
        backwards = np.arange(users.items.shape[1])[::-1]
        weights = real * users.strengths * 2.0 ** (-backwards / _POOLING_HALF_LIFE)
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
        device = self.profile.weight.device
        pooled = torch.einsum("bl,bld->bd", tensor(weights.astype(np.float32), device), history)
        known = np.stack([np.log1p(real.sum(axis=1)), users.profile.any(axis=1)], axis=1).astype(np.float32)
        taste = self.histogram(
            tensor(users.histogram.astype(np.int64), device),
            per_sample_weights=tensor(users.histogram_weights, device),
        )
        profile = self.profile(tensor(users.profile.astype(np.int64), device))
        joined = torch.cat([profile, taste, pooled, *self._read(users, device), tensor(known, device)], dim=1)
        return self._comparable(self.user(joined).float())

    def _read(self, users: UserBatch, device: torch.device) -> Iterator[Tensor]:
        """What the configuration has it read beside: (B, dim) each."""
        if self.ids is not None:
            yield self.ids(tensor(users.user.astype(np.int64), device))
        if "searches" in self.config.reads:
            yield self.items.of_tokens(users.searched, users.searched_weights)
        if self.context is not None:
            hours, season = np.split(calendar(users.now), [len(HOURS)], axis=1)
            parts = {
                "hours": hours,
                "season": season,
                "device": users.device[:, None] == np.arange(1, len(DEVICES) + 1),
            }
            told = [parts[name] for name in _CONTEXT if name in self.config.reads]
            yield self.context(tensor(np.concatenate(told, axis=1, dtype=np.float32), device))

    def queries_of(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> Tensor:
        """See `Network.queries`."""
        history = torch.from_numpy(vectors[np.maximum(users.items, 0)])
        return self.of_users(users, history) / self.temperature

    def finished(self, vectors: Tensor) -> Tensor:
        """Items' vectors (k, dim), as the item tower has them."""
        return self._comparable(vectors + self.item(vectors))

    def _comparable(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=1) if self.config.similarity == "cosine" else vectors
