"""The layers of the sequence model, each of which mixes what a user did before into the state of every place.

All are causal, and tell places apart by their distance, and by the time between them where it is read; so a window cut
anywhere means the same. `at` is `forward` for one place alone: of the last layer, serving wants no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from models.config import SequenceConfig
from models.networks.dropout import Dropout

#: Buckets of the time from an action to the moment that is asked about; 0 is left for "there is none".
SPANS: Final = 68
SPANS_PER_OCTAVE: Final = 2

#: Added to the score of what lies ahead: far enough down for both softmax and SiLU to make nothing of it.
_HIDDEN: Final = -1e4


class Layer(nn.Module, ABC):
    """One layer."""

    @abstractmethod
    def forward(self, states: Tensor, spans: Tensor | None) -> Tensor:
        """The states (batch, length, dim) after the layer.

        Args:
            spans: int64 (batch, length, length), at [_, t, s] the bucket of the time from place s to the moment that is
                asked about at place t; None where times are not read.
        """

    @abstractmethod
    def at(self, states: Tensor, places: Tensor, spans: Tensor | None) -> Tensor:
        """What `forward` gives at one place (batch,) of each, (batch, dim); so `spans` are (batch, length)."""


def layer(config: SequenceConfig) -> Layer:
    """A layer of the kind that the configuration names."""
    return _KINDS[config.layers](config)


class _Attention(Layer):
    """What the attending layers share: how alike query and key are, and what distance and time add to that."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(dim)
        self.mixed = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        # by distance; the last entry stands for all that is further away
        self.distance = nn.Parameter(torch.zeros(config.heads, config.length + 1))
        self.times = nn.Parameter(torch.zeros(config.heads, SPANS)) if "times" in config.reads else None
        self.dropout = Dropout(config.dropout)
        self._scale = (dim // config.heads) ** -0.5

    def forward(self, states: Tensor, spans: Tensor | None) -> Tensor:
        batch, length, dim = states.shape
        normed = self.attention_norm(states)
        shape = (batch, length, 3, self.heads, dim // self.heads)
        q, k, v = self.active(self.mixed(normed)).view(shape).permute(2, 3, 0, 1, 4).contiguous()
        places = torch.arange(length, device=states.device)
        by_distance = self._by_distance(places[:, None] - places)[:, None]
        by_time = None
        if self.times is not None:
            assert spans is not None
            by_time = _Lookup.apply(self.times, spans)  # type: ignore[no-untyped-call]
        attended = self.attend(q, k, v, by_distance, by_time)
        return self.finish(states, normed, attended.permute(1, 2, 0, 3).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, by_distance: Tensor, by_time: Tensor | None) -> Tensor:
        """The values that each place attends to, weighed: (heads, batch, length, dim / heads).

        Args:
            q, k, v: (heads, batch, length, dim / heads).
            by_distance: (heads, 1, length, length), added to how alike a query and a key are.
            by_time: (heads, batch, length, length), likewise; None where times are not read.
        """
        queries, keys = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
        if by_time is None:
            likeness = torch.bmm(queries * self._scale, keys)
        else:
            likeness = torch.baddbmm(by_time.flatten(0, 1), queries, keys, alpha=self._scale)
        scores = likeness.view(*q.shape[:3], q.shape[2])
        scores += by_distance
        return torch.bmm(self.weigh(scores).flatten(0, 1), v.flatten(0, 1)).view_as(v)

    def at(self, states: Tensor, places: Tensor, spans: Tensor | None) -> Tensor:
        batch, length, dim = states.shape
        chosen, normed = torch.arange(batch, device=states.device), self.attention_norm(states)
        q = self.active(linear(normed[chosen, places], self.mixed.weight[:dim], self.mixed.bias[:dim]))
        k, v = self.active(linear(normed, self.mixed.weight[dim:], self.mixed.bias[dim:])).chunk(2, dim=2)
        of_heads = (batch, length, self.heads, dim // self.heads)
        likeness = (k * q[:, None]).view(of_heads).sum(3).permute(2, 0, 1) * self._scale
        bias = self._by_distance(places[:, None] - torch.arange(length, device=states.device))
        if self.times is not None:
            assert spans is not None
            bias = bias + self.times[:, spans]
        weights = self.weigh(likeness + bias).permute(1, 2, 0)
        attended = (v.view(of_heads) * weights[..., None]).sum(1)
        return self.finish(states[chosen, places], normed[chosen, places], attended.flatten(1))

    def _by_distance(self, distances: Tensor) -> Tensor:
        """What is added at distances (…), (heads, …)."""
        bias = self.distance[:, distances.clamp(0, self.distance.shape[1] - 1)]
        return bias.masked_fill(distances < 0, _HIDDEN)

    def active(self, mixed: Tensor) -> Tensor:
        """Queries, keys and values out of their linear maps."""
        return mixed

    def weigh(self, scores: Tensor) -> Tensor:
        """The weights of what is attended to, its places being the last dimension."""
        return torch.softmax(scores, dim=-1, dtype=torch.float32)

    @abstractmethod
    def finish(self, states: Tensor, normed: Tensor, attended: Tensor) -> Tensor:
        """The states after the layer out of those before, these normed, and what was attended to, (…, dim) each."""


class SASRec(_Attention):
    """A transformer's block, normed first (Kang and McAuley, 2018)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.feed_norm = nn.LayerNorm(config.dim)
        self.feed = _feed(config)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, by_distance: Tensor, by_time: Tensor | None) -> Tensor:
        # a CPU has no fused kernel that learns biases
        if q.device.type == "cpu":
            return super().attend(q, k, v, by_distance, by_time)
        return self.fused(q, k, v, by_distance, by_time)

    def fused(self, q: Tensor, k: Tensor, v: Tensor, by_distance: Tensor, by_time: Tensor | None) -> Tensor:
        """What `attend` makes, by one kernel that never writes the scores where it has one for the device."""
        bias = by_distance if by_time is None else by_distance + by_time
        return scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self._scale)

    def finish(self, states: Tensor, normed: Tensor, attended: Tensor) -> Tensor:
        states = states + self.dropout(self.out(attended))
        fed: Tensor = states + self.dropout(self.feed(self.feed_norm(states)))
        return fed


class LiGR(SASRec):
    """The same with learnt gates on what is added to the states (Borisyuk et al., 2025)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.gate = nn.Linear(config.dim, config.dim)
        self.feed_gate = nn.Linear(config.dim, config.dim)

    def finish(self, states: Tensor, normed: Tensor, attended: Tensor) -> Tensor:
        states = states + self.dropout(self.out(attended)) * torch.sigmoid(self.gate(states))
        fed: Tensor = self.dropout(self.feed(self.feed_norm(states)))
        return states + fed * torch.sigmoid(self.feed_gate(states))


class HSTU(_Attention):
    """Pointwise attention: SiLU in place of the softmax, so that how much is attended to counts (Zhai et al., 2024)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.gate = nn.Linear(config.dim, config.dim)
        self.attended_norm = nn.LayerNorm(config.dim)

    def active(self, mixed: Tensor) -> Tensor:
        return silu(mixed)

    def weigh(self, scores: Tensor) -> Tensor:
        return silu(scores)  # not divided by the length as in the paper: what is attended to is normed anyway

    def finish(self, states: Tensor, normed: Tensor, attended: Tensor) -> Tensor:
        gated = self.attended_norm(attended) * silu(self.gate(normed))
        added: Tensor = self.out(self.dropout(gated))
        return states + added


class _Recurrent(Layer):
    """A recurrent unit in place of attention; it reads no times."""

    def __init__(self, config: SequenceConfig, unit: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.recurrent = unit(config.dim, config.dim, batch_first=True)
        self.feed_norm = nn.LayerNorm(config.dim)
        self.feed = _feed(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, spans: Tensor | None) -> Tensor:
        states = states + self.dropout(self.recurrent(self.norm(states))[0])
        fed: Tensor = states + self.dropout(self.feed(self.feed_norm(states)))
        return fed

    def at(self, states: Tensor, places: Tensor, spans: Tensor | None) -> Tensor:
        return self(states, spans)[torch.arange(len(states), device=states.device), places]  # type: ignore[no-any-return]


class GRU(_Recurrent):
    """A gated recurrent unit (GRU4Rec; Hidasi et al., 2016)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config, nn.GRU)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config, nn.LSTM)


class Pooled(Layer):
    """The mean of the last states in any order, fed forward (Covington et al., 2016); it reads no times."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.length = config.length
        self.norm = nn.LayerNorm(config.dim)
        self.feed_norm = nn.LayerNorm(config.dim)
        self.feed = _feed(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, spans: Tensor | None) -> Tensor:
        return self._fed(self._shares(torch.arange(states.shape[1], device=states.device), states) @ self.norm(states))

    def at(self, states: Tensor, places: Tensor, spans: Tensor | None) -> Tensor:
        return self._fed((self._shares(places, states)[:, None] @ self.norm(states))[:, 0])

    def _shares(self, places: Tensor, states: Tensor) -> Tensor:
        """What each of the states counts at places (m,), (m, length): those of the last actions, alike."""
        back = places[:, None] - torch.arange(states.shape[1], device=states.device)
        pooled = ((back >= 0) & (back < self.length)).to(states.dtype)
        return pooled / pooled.sum(dim=1, keepdim=True)

    def _fed(self, pooled: Tensor) -> Tensor:
        fed: Tensor = pooled + self.dropout(self.feed(self.feed_norm(pooled)))
        return fed


def _feed(config: SequenceConfig) -> nn.Sequential:
    dim, width = config.dim, config.feed * config.dim
    return nn.Sequential(nn.Linear(dim, width), nn.GELU(), Dropout(config.dropout), nn.Linear(width, dim))


_KINDS: Final[dict[str, Callable[[SequenceConfig], Layer]]] = {
    "sasrec": SASRec,
    "ligr": LiGR,
    "hstu": HSTU,
    "gru": GRU,
    "lstm": LSTM,
    "pooled": Pooled,
}


class _Lookup(torch.autograd.Function):
    """`table[:, index]`, (heads, …), whose gradient is a histogram: many times faster than the one of indexing."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.size = table.shape[1]
        ctx.save_for_backward(index)
        return table.index_select(1, index.flatten()).view(-1, *index.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        places = index.flatten()
        rows = [
            of_head.new_zeros(ctx.size, dtype=torch.float64).index_add_(0, places, of_head.flatten().double())
            for of_head in gradients[0]
        ]
        return torch.stack(rows).float(), None
