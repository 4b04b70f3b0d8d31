"""What is learnt of one user alone: an embedding of the user's hashed id."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UserIds(nn.Module):
    """Embeddings of hashed user ids, which are 0 until something is learnt of them.

    Args:
        buckets: hash buckets of ids; bucket 0 is of no user, and stays 0.
        dropout: share of the users hidden in each training step, so that the rest of the network does not lean on
            knowing them: most of those whom it meets later are new.
    """

    def __init__(self, buckets: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.ids = nn.Embedding(buckets, dim, padding_idx=0)
        self.dropout = dropout
        nn.init.zeros_(self.ids.weight)

    def forward(self, users: Tensor) -> Tensor:
        """The embeddings (B, dim) of users int64 (B,)."""
        ids: Tensor = self.ids(users)
        if self.training and self.dropout > 0:
            ids = ids * (torch.rand(len(users), 1, device=ids.device) >= self.dropout)
        return ids
