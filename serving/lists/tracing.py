"""A trace told: what each stage of the pipeline did to one user's list, in names and figures for people to read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serving.pipeline.pipeline import Lists, Trace
from serving.pipeline.query import Query

#: Of what a stage proposed or dropped, so many are named.
_NAMED = 10


@dataclass(frozen=True)
class Step:
    """What one component did.

    Attributes:
        count: of so many items.
        items: some of them.
    """

    stage: str
    component: str
    says: str
    count: int
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """A trace: its steps in the order of the pipeline, and the list that came out."""

    model: str
    steps: tuple[Step, ...]
    items: tuple[str, ...]


def tell(query: Query, lists: Lists, trace: Trace, id_of: Callable[[int], str]) -> Told:
    """Tell the trace of one user's list; `id_of` names a row."""

    def named(rows: object) -> tuple[str, ...]:
        distinct = dict.fromkeys(np.asarray(rows).tolist())
        return tuple(id_of(row) for row in list(distinct)[:_NAMED])

    steps = []
    for name, rows in trace.barred.items():
        steps.append(
            Step("filters", name, "barred before sources were asked", len(set(rows[0].tolist())), named(rows[0]))
        )
    for name, proposed in trace.proposed.items():
        steps.append(Step("sources", name, "proposed", len(proposed.items), named(proposed.items)))
    for name, removed in trace.removed.items():
        steps.append(Step("filters", name, "dropped", len(removed.items), named(removed.items)))
    assert trace.candidates is not None and trace.scores is not None, "the pipeline has run"
    best = np.argsort(-trace.scores, kind="stable")
    steps.append(
        Step("scorer", "blend", "scored, best first", len(best), named(trace.candidates.items[best[: 2 * _NAMED]]))
    )
    for name, added in trace.added.items():
        changed = np.flatnonzero(added)
        most = changed[np.argsort(-np.abs(added[changed]), kind="stable")]
        steps.append(Step("adjusters", name, "changed the score of", len(changed), named(trace.candidates.items[most])))
    final = [row for row in lists.items[0].tolist() if row >= 0]
    total = trace.scores + sum(trace.added.values(), np.zeros(len(best), np.float32))
    by_score = trace.candidates.items[np.argsort(-total, kind="stable")][: len(final)].tolist()
    moved = [row for row in final if row not in set(by_score)]
    says = "brought in what the order of scores would not have"
    steps.append(Step("selection", "selection and exploration", says, len(moved), named(moved)))
    return Told(query.model.version, tuple(steps), tuple(id_of(row) for row in final))
