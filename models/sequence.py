"""The sequence model: a causal transformer over what a user did, which foretells the next thing the user will like.

After SASRec (Kang and McAuley, 2018), with what a stream has beside the items: the action, its strength and the time
between actions. Positions are told apart by their distance alone, so a window cut anywhere means the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's users name it
from torch import Tensor, nn

from models.config import SequenceConfig
from models.item_net import ItemNet
from models.labels import N_ACTIONS
from models.prior import TrendPrior
from models.users import UserBatch

GAPS = 34


class SequenceModel(nn.Module):
    """The encoder and its item net.

    Args:
        n_items, buckets: see `ItemNet`.
    """

    def __init__(self, n_items: int, buckets: int, half_lives: int, config: SequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.prior = TrendPrior(half_lives)
        self.items = ItemNet(n_items, buckets, dim, config.item_dropout)
        self.begin = nn.Parameter(torch.zeros(dim))
        self.actions = nn.Embedding(N_ACTIONS, dim)
        self.strength = nn.Parameter(torch.zeros(dim))
        self.gaps = nn.Embedding(GAPS, dim)
        self.waits = nn.Embedding(GAPS, dim)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(dim)
        for table in (self.actions, self.gaps, self.waits):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, vectors: Tensor, actions: Tensor, strengths: Tensor, gaps: Tensor, waits: Tensor) -> Tensor:
        """What the user is open to after each action and before all of them.

        Args:
            vectors: (batch, length, dim) of the items acted on, padded on the right.
            actions, gaps: int64 (batch, length); a gap is the bucket of the time since the action before.
            strengths: (batch, length).
            waits: int64 (batch, length + 1), bucket of the time from each action to the moment that is asked about.

        Returns:
            (batch, length + 1, dim): queries whose inner product with an item's vector is its score; place 0 knows
            no action, place t knows the first t.
        """
        states = self._steps(vectors, actions, strengths, gaps)
        for block in self.blocks:
            states = block(states)
        queries: Tensor = self.norm(states + self.waits(waits))
        return queries

    def _steps(self, vectors: Tensor, actions: Tensor, strengths: Tensor, gaps: Tensor) -> Tensor:
        steps = vectors + self.actions(actions) + strengths[..., None] * self.strength + self.gaps(gaps)
        begin = self.begin.expand(len(vectors), 1, -1)
        states: Tensor = self.dropout(torch.cat([begin, steps], dim=1))
        return states

    @torch.inference_mode()
    def queries(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The users' queries (B, dim), with the items' vectors (rows, dim) as they are in the index."""
        if self.training:  # setting it is slow
            self.eval()
        real = users.items >= 0
        lengths = real.sum(axis=1)
        longest = int(lengths.max(initial=0))
        # from left padding to right padding, so that causality alone hides the padding
        total = users.items.shape[1]
        places = np.minimum(np.arange(longest)[None, :] + (total - lengths)[:, None], total - 1)
        inside = np.arange(longest)[None, :] < lengths[:, None]
        items, actions, strengths, ts = (
            np.where(inside, np.take_along_axis(column, places, axis=1), 0)
            for column in (users.items, users.actions, users.strengths, users.ts)
        )
        gaps = np.zeros(ts.shape, dtype=np.int64)
        gaps[:, 1:] = time_buckets(np.diff(ts, axis=1))
        last = users.ts[:, -1] if total else np.zeros(len(users), np.int64)
        waits = np.where(lengths > 0, time_buckets(users.now - last), 0)
        states = self._steps(
            torch.from_numpy(vectors[items.astype(np.int64)]),
            torch.from_numpy(actions.astype(np.int64)),
            torch.from_numpy(strengths.astype(np.float32)),
            torch.from_numpy(gaps),
        )
        asked = torch.from_numpy(lengths)
        for block in self.blocks[:-1]:
            states = block(states)
        last_block = self.blocks[-1]
        assert isinstance(last_block, _Block)
        of_users = last_block.at(states, asked)  # only the state that is asked for is wanted
        chosen: npt.NDArray[np.float32] = self.norm(of_users + self.waits(torch.from_numpy(waits))).numpy()
        return chosen


def time_buckets(ms: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Octaves of a time span: 1 below a second, then one more with each doubling; 0 is left for "there is none"."""
    seconds = np.maximum(ms, 0) / 1000.0
    buckets: npt.NDArray[np.int64] = np.minimum(1 + np.log2(1.0 + seconds), GAPS - 1).astype(np.int64)
    return buckets


class _Block(nn.Module):
    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(dim)
        self.mixed = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        # by distance; the last entry stands for all that is further away
        self.distance = nn.Parameter(torch.zeros(config.heads, config.length + 1))
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * dim, dim)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """The states (batch, length, dim) after the block."""
        length = states.shape[1]
        q, k, v = self.mixed(self.attention_norm(states)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        places = torch.arange(length)
        bias = self._bias(places[:, None] - places[None, :])[None]
        return self._mixed_in(states, F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2))

    def at(self, states: Tensor, places: Tensor) -> Tensor:
        """What `forward` gives at one place (batch,) of each, (batch, dim)."""
        batch, length, dim = states.shape
        chosen, normed = torch.arange(batch), self.attention_norm(states)
        q = F.linear(normed[chosen, places], self.mixed.weight[:dim], self.mixed.bias[:dim])
        k, v = F.linear(normed, self.mixed.weight[dim:], self.mixed.bias[dim:]).chunk(2, dim=2)
        of_heads = (batch, length, self.heads, dim // self.heads)
        likeness = (k * q[:, None]).view(of_heads).sum(3) / of_heads[3] ** 0.5
        bias = self._bias(places[:, None] - torch.arange(length)).permute(1, 2, 0)
        weights = torch.softmax(likeness + bias, dim=1)
        attended = (v.view(of_heads) * weights[..., None]).sum(1)
        return self._mixed_in(states[chosen, places], attended)

    def _bias(self, distances: Tensor) -> Tensor:
        """What attention adds at distances (…), (heads, …): what lies ahead is not looked at."""
        bias = self.distance[:, distances.clamp(0, self.distance.shape[1] - 1)]
        return bias.masked_fill(distances < 0, -torch.inf)

    def _mixed_in(self, states: Tensor, attended: Tensor) -> Tensor:
        states = states + self.dropout(self.out(attended.flatten(-2)))
        fed: Tensor = states + self.dropout(self.feed(self.feed_norm(states)))
        return fed
