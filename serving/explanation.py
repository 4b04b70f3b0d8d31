"""Why an item is on a user's list, or why it is not: what one list was made of, looked at from a single item."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.recommender import SOURCES, Candidates, Recommender

#: `ranked` items were proposed; the others never came to be scored, for the reason that their name tells.
Fate = Literal["ranked", "seen", "withdrawn", "not proposed"]


@dataclass(frozen=True)
class Explanation:
    """What became of an item when a user's list was made.

    Attributes:
        rank: from 1 on, among all candidates; 0 unless the fate is `ranked`.
        candidates: how many there were.
        score: the item's, on the scale of the list's scores.
        sources: who proposed the item.
        parts: by feature, what the item's score owes to being above (or below) the user's mean candidate in it, the
            largest first; they add up to the score's excess over the mean candidate's.
    """

    fate: Fate
    candidates: int
    rank: int = 0
    score: float = 0.0
    sources: tuple[str, ...] = ()
    parts: tuple[tuple[str, float], ...] = ()


def explain_ranked(
    model: Recommender, candidates: Candidates, scores: npt.NDArray[np.float32], row: int
) -> Explanation:
    """The explanation of one row among the candidates of one user, which the model gave these scores (p,)."""
    found = np.flatnonzero(candidates.items == row)
    count = len(candidates.items)
    if not len(found):
        return Explanation("not proposed", count)
    at = int(found[0])
    # equal scores stand in the order of their rows, as in a list
    rank = int(np.count_nonzero(scores > scores[at]) + np.count_nonzero(scores[:at] == scores[at])) + 1
    parts = (candidates.features[at] - candidates.features.mean(axis=0)) * model.blend.weights
    names = model.blend.names
    if model.ranker is not None:
        added = scores - model.blend.score(candidates.features)
        parts, names = np.append(parts, added[at] - added.mean()), (*names, "ranker")
    order = np.argsort(-np.abs(parts), kind="stable")
    return Explanation(
        "ranked",
        count,
        rank,
        float(scores[at]),
        tuple(name for bit, name in enumerate(SOURCES) if candidates.sources[at] >> bit & 1),
        tuple((names[place], float(parts[place])) for place in order.tolist()),
    )
