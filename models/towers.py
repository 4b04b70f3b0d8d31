"""The two towers: users and items embedded apart, near each other where the user will like the item.

The user tower reads what the sequence model does not: the profile and the decayed histogram, beside a pooled history.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import TowersConfig
from models.features import TokenTable
from models.item_net import ItemNet
from models.prior import TrendPrior
from models.users import UserBatch

_POOLING_HALF_LIFE = 10.0


class TwoTowers(nn.Module):
    """Both towers; their vectors have unit length."""

    def __init__(self, n_items: int, buckets: int, half_lives: int, config: TowersConfig) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.prior = TrendPrior(half_lives)
        self.items = ItemNet(n_items, buckets, dim, config.item_dropout)
        self.profile = nn.EmbeddingBag(buckets, dim, mode="mean", padding_idx=0)
        self.histogram = nn.EmbeddingBag(buckets, dim, mode="sum", padding_idx=0)
        for table in (self.profile, self.histogram):
            nn.init.normal_(table.weight, std=0.05)
        self.user = nn.Sequential(
            nn.LayerNorm(3 * dim + 2),
            nn.Linear(3 * dim + 2, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, dim),
        )
        self.item = nn.Sequential(nn.Linear(dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, dim))

    def of_items(self, rows: Tensor, content: TokenTable) -> Tensor:
        """The vectors (k, dim) of items `rows` int64 (k,) with their content in the same order."""
        return self._finished(self.items(rows, content))

    def of_content(self, content: TokenTable) -> Tensor:
        """The vectors (n, dim) of items known by content alone."""
        return self._finished(self.items.of_content(content))

    def of_users(self, users: UserBatch, history: Tensor) -> Tensor:
        """The users' vectors (B, dim); `history` (B, L, dim) holds the vectors of `users.items`."""
        real = users.items >= 0
        backwards = np.arange(users.items.shape[1])[::-1]
        weights = real * users.strengths * 2.0 ** (-backwards / _POOLING_HALF_LIFE)
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
        pooled = torch.einsum("bl,bld->bd", torch.from_numpy(weights.astype(np.float32)), history)
        known = np.stack([np.log1p(real.sum(axis=1)), users.profile.any(axis=1)], axis=1).astype(np.float32)
        taste = self.histogram(
            torch.from_numpy(users.histogram.astype(np.int64)),
            per_sample_weights=torch.from_numpy(users.histogram_weights),
        )
        profile = self.profile(torch.from_numpy(users.profile.astype(np.int64)))
        joined = torch.cat([profile, taste, pooled, torch.from_numpy(known)], dim=1)
        return F.normalize(self.user(joined), dim=1)

    @torch.inference_mode()
    def queries(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The users' queries (B, dim), with the items' vectors (rows, dim) as they are in the index.

        They are scaled so that their inner products with items are the scores of the softmax.
        """
        if self.training:  # setting it is slow
            self.eval()
        scaled: npt.NDArray[np.float32] = (
            self.of_users(users, torch.from_numpy(vectors[np.maximum(users.items, 0)])) / self.config.temperature
        ).numpy()
        return scaled

    def _finished(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors + self.item(vectors), dim=1)
