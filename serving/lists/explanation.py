"""Why an item is on a user's list, or why it is not: a trace of the list, looked at from a single item."""

from dataclasses import dataclass

import numpy as np

from serving.pipeline.pipeline import Lists, Pipeline, Trace
from serving.pipeline.query import Query

#: Fates beside the names of the filters that may have left an item out.
RANKED, NOT_PROPOSED = "ranked", "not proposed"


@dataclass(frozen=True)
class Explanation:
    """What became of an item when a user's list was made.

    Attributes:
        fate: `ranked` when it was scored, `not proposed` when no source named it, else the filter that left it out.
        candidates: how many there were.
        place: in the list, from 1 on; 0 when it is not on it.
        rank: by score among all candidates, from 1 on; 0 unless the fate is `ranked`.
        score: the item's, on the scale of the list's scores.
        sources: who proposed the item.
        parts: by feature of the scorer and by adjuster, what the item's score owes to being above (or below) the
            user's mean candidate in it, the largest first; they add up to its excess over the mean candidate's score.
    """

    fate: str
    candidates: int
    place: int = 0
    rank: int = 0
    score: float = 0.0
    sources: tuple[str, ...] = ()
    parts: tuple[tuple[str, float], ...] = ()


def explained(pipeline: Pipeline, query: Query, lists: Lists, trace: Trace, row: int) -> Explanation:
    """The explanation of one row in the trace of one user's list."""
    assert trace.candidates is not None and trace.scores is not None, "the pipeline has run"
    candidates = trace.candidates
    count = len(candidates.items)
    one, item = np.zeros(1, np.int64), np.array([row], np.int64)
    listed = np.flatnonzero(lists.items[0] == row)
    place = int(listed[0]) + 1 if len(listed) else 0
    found = np.flatnonzero(candidates.items == row)
    if not len(found):
        for each in pipeline.filters:
            if each.removes(query, one, item)[0]:
                return Explanation(each.name, count)
        return Explanation(NOT_PROPOSED, count, place)
    at = int(found[0])
    scores = trace.scores + sum(trace.added.values(), np.zeros(count, np.float32))
    # equal scores stand in the order of their rows, as in a list
    rank = int(np.count_nonzero(scores > scores[at]) + np.count_nonzero(scores[:at] == scores[at])) + 1
    blend = query.model.blend
    of_features = (candidates.features[at] - candidates.features.mean(axis=0)) * blend.weights
    parts = dict(zip(blend.names, of_features.tolist(), strict=True))
    parts |= {name: float(added[at] - added.mean()) for name, added in trace.added.items()}
    return Explanation(
        RANKED,
        count,
        place,
        rank,
        float(scores[at]),
        tuple(name for bit, name in enumerate(pipeline.source_names) if candidates.sources[at] >> bit & 1),
        tuple(sorted(parts.items(), key=lambda part: -abs(part[1]))),
    )
