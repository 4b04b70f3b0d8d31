"""The item net: an item's vector out of its id and its content, so that an item nobody has met yet has one as well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.data.tokens import TokenTable
from models.networks.compute import tensor


class ItemNet(nn.Module):
    """`id embedding + mean of content token embeddings`.

    Args:
        n_items: rows with an embedding of their own.
        buckets: hash buckets of content tokens; 0 where content is not read.
        dim: of the vectors.
        dropout: share of the items whose id embedding is hidden in each training step, so that the content has to
            carry the item (DropoutNet; Volkovs et al., 2017).
    """

    def __init__(self, n_items: int, buckets: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.ids = nn.Embedding(n_items, dim)
        self.content = nn.EmbeddingBag(buckets, dim, mode="mean", padding_idx=0) if buckets else None
        self.any = nn.Parameter(torch.zeros(dim))
        self.dropout = dropout
        nn.init.normal_(self.ids.weight, std=0.05)
        if self.content is not None:
            nn.init.normal_(self.content.weight, std=0.05)

    def forward(self, rows: Tensor, content: TokenTable) -> Tensor:
        """The vectors (k, dim) of items `rows` int64 (k,), whose content is the table's rows in the same order."""
        ids: Tensor = self.ids(rows)
        if self.training and self.dropout > 0:
            ids = ids * (torch.rand(len(rows), 1, device=ids.device) >= self.dropout)
        return ids + self.of_content(content)

    def of_content(self, content: TokenTable) -> Tensor:
        """The vectors (n, dim) of items known by content alone."""
        if self.content is None:
            return self.any.expand(len(content), -1)
        device = self.any.device
        vectors: Tensor = self.content(tensor(content.tokens, device).long(), tensor(content.starts[:-1], device))
        return vectors + self.any

    def of_tokens(self, tokens: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> Tensor:
        """The weighted sums (B, dim) of the embeddings of tokens (B, n), padded with 0, where items have theirs."""
        assert self.content is not None, "tokens are read where content is"
        table = self.content.weight
        sums: Tensor = F.embedding_bag(
            tensor(tokens.astype(np.int64), table.device),
            table,
            mode="sum",
            per_sample_weights=tensor(weights, table.device),
            padding_idx=0,
        )
        return sums

    @torch.no_grad()
    def grow(self, n_items: int) -> None:
        """Make room for `n_items` rows; a new one starts as its content alone."""
        more = n_items - self.ids.num_embeddings
        if more > 0:
            weight = torch.cat([self.ids.weight, torch.zeros(more, self.ids.embedding_dim)])
            self.ids = nn.Embedding(n_items, self.ids.embedding_dim, _weight=weight)
