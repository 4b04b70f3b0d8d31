"""The next action: what a user does with an item once it is met, beside which item it will be.

The networks are taught by what was liked; what was met and not liked is left to this head of the sequence model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's users name it
from torch import Tensor, nn

from models.data.labels import N_ACTIONS

#: To begin with, what fits better is liked more.
_FITS = 0.5


class NextAction(nn.Module):
    """Which action it will be, and whether it will be labelled positive, by the user's query and the item's vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.action = nn.Linear(2 * dim, N_ACTIONS)
        self.of_pair = nn.Parameter(torch.full((dim,), _FITS))
        self.of_user = nn.Linear(dim, 1)
        self.of_item = nn.Parameter(torch.zeros(dim))

    def loss(self, queries: Tensor, vectors: Tensor, actions: Tensor, liked: Tensor, weights: Tensor) -> Tensor:
        """The cross-entropies of actions int64 (m,) and of being `liked` (m,), by weights (m,).

        Args:
            queries, vectors: (m, dim) each, of the users and of the items that they met.
        """
        odds = ((queries * self.of_pair + self.of_item) * vectors).sum(1) + self.of_user(queries)[:, 0]
        told = F.binary_cross_entropy_with_logits(odds, liked, reduction="none")
        told = told + F.cross_entropy(self.action(torch.cat([queries, vectors], 1)), actions, reduction="none")
        loss: Tensor = (told * (weights / weights.sum())).sum()
        return loss

    @torch.inference_mode()
    def towards(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Vectors and a number each, (B, dim + 1), out of queries (B, dim).

        The vector's product with an item's, and the number, make the log-odds of liking the item when it is met.
        """
        given = torch.from_numpy(queries)
        made: npt.NDArray[np.float32] = torch.cat(
            [given * self.of_pair + self.of_item, self.of_user(given)], dim=1
        ).numpy()
        return made
