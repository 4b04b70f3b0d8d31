"""Token weights: what tokens weigh with each user of a batch, looked up for the tokens of many candidates at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's users name it

Floats = npt.NDArray[np.float32]
Cells = npt.NDArray[np.int64]


class TokenWeights:
    """Tables with a row for each of B users and a column for each token that any of them has; token 0 is padding.

    Args:
        told: tokens (B, …) of the users.
    """

    def __init__(self, told: Sequence[npt.NDArray[np.int32]]) -> None:
        met = np.zeros(max(int(tokens.max(initial=0)) for tokens in told) + 2, dtype=bool)
        for tokens in told:
            met[tokens.ravel()] = True
        met[0] = False
        self._column = np.cumsum(met) * met  # of what nobody has, 0
        width = int(self._column.max()) + 1
        self._begins = np.arange(len(told[0])) * width
        self._size = len(told[0]) * width

    def cells(self, of: npt.NDArray[np.int64], tokens: npt.NDArray[np.int32]) -> Cells:
        """Where the weights of tokens (k, m) with users `of` (k,) stand in a table, (k, m)."""
        cells = self._column.take(tokens, mode="clip")  # what is beyond the last column nobody has
        cells += self._begins.take(of)[:, None]
        return cells

    def table(self, *told: tuple[npt.NDArray[np.int32], npt.NDArray[np.floating]]) -> Floats:
        """T tables side by side, (cells, T), of pairs of tokens (B, …) and what each of them weighs with the user."""
        table = np.zeros((self._size, len(told)), dtype=np.float32)
        flat = table.reshape(-1)
        for way, (tokens, weights) in enumerate(told):
            cells = self.cells(np.arange(len(tokens)), tokens)
            # of one type, as it takes several times as long where each weight is converted
            np.add.at(flat, (cells * len(told) + way).ravel(), weights.astype(np.float32).ravel())
        table[self._begins] = 0.0
        return table


def summed(table: Floats, cells: Cells) -> Floats:
    """The sums (k, T) of a table's rows over cells (k, m)."""
    found: Floats = F.embedding_bag(torch.from_numpy(cells), torch.from_numpy(table), mode="sum").numpy()
    return found


def highest(weights: Floats, cells: Cells) -> Floats:
    """The highest (k,) of a table's column (cells,) over cells (k, m), at least 0."""
    best = np.zeros(len(cells), dtype=np.float32)
    for own in cells.T:
        np.maximum(best, weights.take(own), out=best)
    return best
