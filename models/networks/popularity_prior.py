"""The prior of popularity: what everybody turned to at the time, which the networks need not learn again.

A network's score of an item is added to the logarithm of the item's popularity at the moment of each example. So the
network learns by how much more than others this user would like the item, and does not go stale with the trends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import POSITIVE
from models.data.popularity import Popularity, PopularityConfig
from models.networks.compute import tensor

Floats = npt.NDArray[np.float32]

#: Added to shares before the logarithm: what an item without a positive counts as, for a wide and a narrow catalogue.
SHARE_FLOORS = (1e-6, 1e-4)
_TABLE_BYTES = 96 << 20
_MOMENTS = 256


def log_shares(shares: Floats) -> Floats:
    """Shares (…, H) of all positives as logarithms above each floor: (…, 2 * H)."""
    return np.concatenate([np.log(shares + np.float32(floor)) for floor in SHARE_FLOORS], axis=-1)


@dataclass(frozen=True)
class TrendTable:
    """The items' popularity at moments spread over a log.

    Attributes:
        shares: float32 (S, rows, H) the logarithms of the shares.
        moment: int64 (len(log),) of each log row the newest moment that is not after it.
    """

    shares: Floats
    moment: npt.NDArray[np.int64]

    @classmethod
    def over(cls, log: Interactions, config: PopularityConfig, n_items: int, *, start: int = 0) -> TrendTable:
        """As many moments as fit into memory, by equal numbers of events, from log row `start` on."""
        width = len(config.half_lives_s)
        most = max(1, min(_MOMENTS, _TABLE_BYTES // max(4 * n_items * width, 1)))
        stride = max(64, -(-(len(log) - start) // most))
        popularity = Popularity(config, n_items)
        moments = np.maximum(np.arange(len(log)) - start, 0) // stride
        tables = []
        at = 0
        for moment in range(int(moments[-1]) + 1 if len(log) else 1):
            until = start + moment * stride
            items = log.item[at:until]
            on_item = items != NO_ITEM
            popularity.add(items[on_item], log.ts[at:until][on_item], log.label[at:until][on_item] == POSITIVE)
            tables.append(_logs(popularity))
            at = until
        return cls(np.stack(tables), moments.astype(np.int64))


class TrendPrior(nn.Module):
    """A learnt weight for each half-life of popularity."""

    def __init__(self, half_lives: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((half_lives,), 1.0 / half_lives))

    def forward(
        self, table: TrendTable, rows: npt.NDArray[np.integer], items: npt.NDArray[np.integer] | None
    ) -> Tensor:
        """The log-prior of the items (k,), or of all, at the moment of each log row (m,): (m, k)."""
        moments, of = np.unique(table.moment[rows], return_inverse=True)
        shares = table.shares[moments] if items is None else table.shares[moments[:, None], items]
        device = self.weights.device
        return (tensor(shares, device) @ self.weights)[tensor(of, device)]

    def of_unknown(self) -> float:
        """The log-prior of an item without a positive."""
        return float(self.weights.detach().sum()) * math.log(SHARE_FLOORS[1])

    @torch.no_grad()
    def now(self, popularity: Popularity) -> Floats:
        """The log-prior of every item as of now, (rows,)."""
        shares = torch.from_numpy(_logs(popularity))
        prior: Floats = (shares @ self.weights).numpy()
        return prior


def _logs(popularity: Popularity) -> Floats:
    logs: Floats = np.log(popularity.shares() + np.float32(SHARE_FLOORS[1]))
    return logs
