"""The items' vectors as they are searched: by id and content of those that were met, by what is known of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from models.data.item_facts import CREATORS, ItemFacts
from models.data.tokens import ItemContent, TokenTable
from models.networks.network import Network

_AT_ONCE: Final = 65_536

Floats = npt.NDArray[np.float32]
Creators = npt.NDArray[np.int32]


@torch.no_grad()
def item_vectors(
    network: Network,
    items: Sequence[ItemContent],
    content: TokenTable,
    facts: ItemFacts,
    met: npt.NDArray[np.bool_],
) -> Floats:
    """The vectors (n, dim) of all items, of which some (n,) were met in what was learnt from.

    The id of one that was not has learnt nothing, and would add noise: it is known by its content, or by its creators.
    """
    vectors = np.zeros((len(items), network.config.dim), dtype=np.float32)
    old, new = np.flatnonzero(met), np.flatnonzero(~met)
    for start in range(0, len(items), _AT_ONCE):
        some = old[start : start + _AT_ONCE]
        vectors[some] = network.of_items(torch.from_numpy(some), content.take(some)).numpy()
        some = new[start : start + _AT_ONCE]
        vectors[some] = network.of_content(content.take(some)).numpy()
    described, creators = [items[row] for row in new.tolist()], facts.creators[: len(items)]
    vectors[new] = by_creators(vectors[new], described, creators[new], vectors, np.where(met[:, None], creators, 0))
    return vectors


def by_creators(
    vectors: Floats, items: Sequence[ItemContent], creators: Creators, of: Floats, made: Creators
) -> Floats:
    """Vectors (k, d) of new items; where nothing but its creators is told of one, the mean of what they have made.

    Args:
        creators: (k, c) the new items' hashed creators, padded with 0.
        of: (n, d) the vectors of all items; the means are as long as those they are of, on average.
        made: (n, c) the creators of those that were met, 0 for the others.
    """
    asking = np.flatnonzero([_tells_creators_alone(item) for item in items])
    if not len(asking) or not made.any():
        return vectors
    buckets = int(max(creators.max(), made.max())) + 1
    shared = _incidence(creators[asking], buckets) @ _incidence(made, buckets).T
    sums, lengths = shared @ of, shared @ np.linalg.norm(of, axis=1)
    counts = shared.sum(axis=1)
    found = counts > 0
    scale = lengths[found] / counts[found] / np.maximum(np.linalg.norm(sums[found], axis=1), 1e-12)
    leant = vectors.copy()
    leant[asking[found]] = sums[found] * scale[:, None]
    return leant


def centre_of(vectors: Floats, met: npt.NDArray[np.bool_]) -> Floats:
    """The mean (d,) of the vectors (n, d) of the items that were met; 0 where none was.

    Those of the others lie together elsewhere, as they have no ids that set them apart.
    """
    mean: Floats = vectors[met].sum(axis=0) / np.float32(max(int(met.sum()), 1))
    return mean


def _tells_creators_alone(item: ItemContent) -> bool:
    """Titles and times aside, which hardly tell what an item is like."""
    told = {name for name, values in item.categorical.items() if values}
    return bool(told) and told <= set(CREATORS) and not item.numeric and not item.text


def _incidence(tokens: Creators, buckets: int) -> csr_array:
    """1 where a row (n, c) has the bucket's token, (n, buckets); 0 is none."""
    rows, columns = np.nonzero(tokens)
    ones = np.ones(len(rows), np.float32)
    return csr_array((ones, (rows, tokens[rows, columns])), shape=(len(tokens), buckets))
