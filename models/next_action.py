"""The next action: what a user does with an item once it is met, beside which item it will be.

The networks are taught by what was liked; what was met and not liked is left to this head of the sequence model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's users name it
from torch import Tensor, nn

from models.labels import N_ACTIONS, NEGATIVE, POSITIVE

_LABELS: Final = POSITIVE - NEGATIVE + 1
_FITS: Final = 0.25


class NextAction(nn.Module):
    """Log-probabilities of the action on an item and its label, out of the user's query and the item's vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.of_pair = nn.Linear(dim, N_ACTIONS * _LABELS)
        self.of_user = nn.Linear(dim, N_ACTIONS * _LABELS, bias=False)
        self.of_item = nn.Linear(dim, N_ACTIONS * _LABELS, bias=False)
        # to begin with, what fits better is liked more
        with torch.no_grad():
            self.of_pair.weight.view(N_ACTIONS, _LABELS, dim).add_(
                _FITS * torch.arange(NEGATIVE, POSITIVE + 1)[:, None]
            )

    def forward(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """Queries (m, dim) and the vectors (m, dim) of the items met: (m, actions * labels)."""
        return F.log_softmax(self.of_pair(queries * vectors) + self.of_user(queries) + self.of_item(vectors), dim=1)

    def loss(self, queries: Tensor, vectors: Tensor, outcomes: npt.NDArray[np.int64], weights: Tensor) -> Tensor:
        """Cross-entropy of the `outcomes` (m,), a mean by weights (m,)."""
        told = self(queries, vectors).gather(1, torch.from_numpy(outcomes)[:, None])[:, 0]
        loss: Tensor = -(told * (weights / weights.sum())).sum()
        return loss

    @torch.inference_mode()
    def log_odds(
        self,
        queries: npt.NDArray[np.float32],
        vectors: npt.NDArray[np.float32],
        of: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Those of liking the item when it is met, for pairs (p,) of a query (B, dim) and a vector (rows, dim)."""
        told = self(torch.from_numpy(queries[of]), torch.from_numpy(vectors[items])).view(-1, N_ACTIONS, _LABELS)
        liked = torch.logsumexp(told[:, :, POSITIVE - NEGATIVE], dim=1)
        odds: npt.NDArray[np.float32] = (liked - torch.log(-torch.expm1(liked.clamp(max=-1e-6)))).numpy()
        return odds


def outcomes_of(actions: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The outcome of actions (m,) that were labelled (m,)."""
    return actions.astype(np.int64) * _LABELS + (labels.astype(np.int64) - NEGATIVE)
