"""The losses of the networks: what their scores have to say of the items that users chose.

Each is a mean over examples, weighted; `targets` are the columns of what was chosen.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Floats = npt.NDArray[np.float32]

#: So many queries are compared with all items at once: their scores stay in the cache.
_AT_ONCE: Final = 256
_WIDTH: Final = 64


def softmax(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the softmax over logits (m, k)."""
    share = weights / weights.sum()
    return (F.cross_entropy(logits, targets, reduction="none") * share).sum()


def softmax_of_products(queries: Tensor, vectors: Tensor, offset: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """`softmax` of `queries @ vectors.T + offset`, which is made, used both ways and forgotten some rows at a time.

    Args:
        offset: (k,), nothing is learnt of it.
    """
    loss: Tensor = _OfProducts.apply(queries, vectors, offset, targets, weights / weights.sum())  # type: ignore[no-untyped-call]
    return loss


def sampling_offset(expected: Floats) -> Floats:
    """What takes the bias of sampling off the logits of sampled items, (k,) (logQ; Yi et al., 2019).

    Args:
        expected: (k,) how often each of the items was expected among them; once is certainty.
    """
    offset: Floats = -np.log(np.minimum(expected, 1.0)).astype(np.float32)
    return offset


def gbce(logits: Tensor, targets: Tensor, weights: Tensor, drawn: Tensor, items: int, calibration: float) -> Tensor:
    """Generalised binary cross-entropy (gSASRec; Petrov and Macdonald, 2023).

    The chance of what was chosen is taken to a power, which undoes the overconfidence that sampled negatives bring.

    Args:
        logits: (m, k), of which the columns `drawn` (n,) are the negatives, drawn uniformly from `items`.
        calibration: 0 leaves the binary cross-entropy, 1 makes the scores those of a softmax.
    """
    sampled = min(len(drawn) / max(items - 1, 1), 1.0)
    power = sampled * (calibration * (1.0 - 1.0 / sampled) + 1.0 / sampled)
    positive = power * F.logsigmoid(logits.gather(1, targets[:, None])[:, 0])
    negative = F.logsigmoid(-logits[:, drawn]).masked_fill(drawn == targets[:, None], 0.0)
    losses = -(positive + negative.sum(1)) / (1 + len(drawn))
    return (losses * (weights / weights.sum())).sum()


class _OfProducts(torch.autograd.Function):
    """Its gradients are made on the way forward, as the scores are then at hand."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, offset: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        # rows of scores that begin at the width of the processor's registers are multiplied faster
        more = -len(vectors) % _WIDTH
        every, added = F.pad(vectors, (0, 0, 0, more)), F.pad(offset, (0, more), value=-torch.inf)
        of_queries, of_every = torch.empty_like(queries), torch.zeros_like(every)
        losses = torch.empty_like(shares)
        scores, chances = queries.new_empty(2, min(_AT_ONCE, len(queries)), len(every))
        for start in range(0, len(queries), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows, chosen = torch.arange(len(targets[part]), device=targets.device), targets[part]
            torch.addmm(added, queries[part], every.T, out=scores[: len(rows)])
            p = torch.softmax(scores[: len(rows)], 1, out=chances[: len(rows)])
            losses[part] = p[rows, chosen].clamp(min=torch.finfo(p.dtype).tiny).log()
            p[rows, chosen] -= 1.0
            p *= shares[part, None]
            torch.mm(p, every, out=of_queries[part])
            of_every.addmm_(p.T, queries[part])
        ctx.save_for_backward(of_queries, of_every[: len(vectors)])
        return -(losses * shares).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_queries, of_vectors = ctx.saved_tensors
        return of_queries * gradients[0], of_vectors * gradients[0], None, None, None
