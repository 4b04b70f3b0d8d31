"""RecTools' metrics of lists: run by a Python that has RecTools and need not have what millstream needs.

`benchmarks.quality.metrics` gives it the lists and what was relevant, and takes each user's values.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
from rectools import Columns  # type: ignore[import-not-found]
from rectools.metrics import (  # type: ignore[import-not-found]
    MAP,
    MRR,
    NDCG,
    CatalogCoverage,
    F1Beta,
    HitRate,
    PartialAUC,
    Precision,
    Recall,
)


def main(given: Path, taken: Path) -> None:
    with np.load(given) as arrays:
        told = dict(arrays)
    lists, users, items, k = told["lists"], told["users"], told["items"], int(told["k"])
    catalogue = lists.shape[1]
    recommended = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(lists)), catalogue),
            Columns.Item: lists.ravel(),
            Columns.Rank: np.tile(np.arange(1, catalogue + 1), len(lists)),
        }
    )
    relevant = pd.DataFrame({Columns.User: users, Columns.Item: items})
    of_users = {
        "recall": Recall(k),
        "precision": Precision(k),
        "f1": F1Beta(k),
        "hit_rate": HitRate(k),
        "ndcg": NDCG(k, divide_by_achievable=True),
        "average_precision": MAP(k),
        "reciprocal_rank": MRR(catalogue),
    }
    values = {name: metric.calc_per_user(recommended, relevant).sort_index() for name, metric in of_users.items()}
    # among the first so many items that were not relevant: all of them, which is another number for each count
    counts = relevant.groupby(Columns.User)[Columns.Item].transform("size")
    parts = [
        PartialAUC(catalogue - count).calc_per_user(
            recommended[recommended[Columns.User].isin(some[Columns.User])], some
        )
        for count, some in relevant.groupby(counts)
    ]
    values["auc"] = pd.concat(parts).sort_index()
    few = recommended[recommended[Columns.User] < told["covering"]]
    coverage = CatalogCoverage(k, normalize=True).calc(few, np.arange(catalogue))
    np.savez(taken, coverage=coverage, **{name: each.to_numpy() for name, each in values.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
