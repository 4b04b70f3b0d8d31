"""Whether what comes in, and what goes out, is still what it was: stability of shares, and concentration."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", bound=Hashable)


def stability_index(reference: Mapping[Value, float], current: Mapping[Value, float]) -> float:
    """The population stability index of two counts by value: `sum (p - q) ln(p / q)`, 0 for equal shares.

    It is the symmetrised Kullback-Leibler divergence (Jeffreys, 1946). By the rule of thumb of credit scoring below 0.1
    nothing has changed, above 0.25 much has (Siddiqi, "Credit Risk Scorecards", 2006). Each value counts half an event
    more, so that one that is new weighs by how often it comes, not without bound. 0 where either side has nothing.
    """
    names = reference.keys() | current.keys()
    before, now = sum(reference.values()), sum(current.values())
    if not before or not now:
        return 0.0
    room = 0.5 * len(names)
    shares = (
        ((current.get(name, 0.0) + 0.5) / (now + room), (reference.get(name, 0.0) + 0.5) / (before + room))
        for name in names
    )
    return math.fsum((p - q) * math.log(p / q) for p, q in shares)


def gini(counts: npt.ArrayLike) -> float:
    """How unevenly (n,) counts are spread: 0 where all are equal, near 1 where one has all; 0 for none.

    Gini (1912), by the sorted form `sum (2 i - n - 1) x_i / (n sum x)`. Items that never occur belong into the counts.
    """
    ordered = np.sort(np.asarray(counts, np.float64))
    n, total = len(ordered), float(ordered.sum())
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))
