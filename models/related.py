"""Items like an item: first those that the same users liked, then those that the item tower puts near it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.recommender import Recommender


@dataclass(frozen=True)
class Related:
    """Items like one item, the nearest first.

    Attributes:
        rows: int64 (k,).
        similarities: float32 (k,) damped cosines of co-occurrence for the first `together`, cosines of the tower's
            vectors for the rest.
        together: how many are there because the same users liked them.
    """

    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    together: int


def related(model: Recommender, row: int, allowed: npt.NDArray[np.bool_], n: int) -> Related:
    """At most `n` items like the one of that row; none before there is a model.

    Args:
        allowed: (rows,) whether an item may be shown.
    """
    rows = np.zeros(0, np.int64)
    similarities = np.zeros(0, np.float32)
    if model.neighbours is not None and row < len(model.neighbours.items):
        near = model.neighbours.items[row]
        kept = (near >= 0) & allowed[np.maximum(near, 0)]
        rows, similarities = near[kept][:n].astype(np.int64), model.neighbours.similarities[row][kept][:n]
    together = len(rows)
    if model.networks is not None and together < n:
        vectors = model.networks.towers_index.vectors[:, :-1]  # without the prior, which is no likeness
        lengths = np.linalg.norm(vectors, axis=1) + 1e-12
        cosines = vectors @ vectors[row] / (lengths * lengths[row])
        cosines[~allowed[: len(cosines)]] = -np.inf
        cosines[[row, *rows.tolist()]] = -np.inf
        order = np.argsort(-cosines, kind="stable")[: n - together]
        order = order[np.isfinite(cosines[order])]
        rows = np.concatenate([rows, order])
        similarities = np.concatenate([similarities, cosines[order].astype(np.float32)])
    return Related(rows, similarities, together)
