"""What lists at splits could find at most for users of whom nothing is known, and what that leaves to the others.

    python -m benchmarks.quality.newcomers --data DIR [--sets NAME …] [--events N] [--report FILE]

`rolling`, as in `benchmarks/quality/baselines.py`. Users without a history at a split all get the same list, so no
recommender finds more for them than the one list that is best in hindsight, made of what they liked afterwards (where
logs tell nothing else of them; KuaiRand tells profiles). From that follows how many times the best of the others the
lists of known users would have to be worth for the whole to be 1.2 times: if newcomers' lists are no better than those
of the best of the others, and if they are the best in hindsight.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from benchmarks.quality.baselines import METRICS
from benchmarks.quality.claims import TIMES_THE_BEST
from benchmarks.quality.models import SETS, Log, tell
from benchmarks.tables import table
from models.evaluation.baselines import Asks, Contender, Floats, Items, best_of
from models.evaluation.evaluate import LIST, evaluate
from models.evaluation.splits import Fold
from models.metrics import list_metrics
from models.networks.threads import use_threads
from models.training.context import Course
from streams.settings.settings import Settings

#: On these logs the best of the others at splits, by either metric, is one of these.
OTHERS: Final = ("trending", "item_item")
Metric = Callable[[list_metrics.Hits, list_metrics.Counts, int], list_metrics.Floats]
IN_HINDSIGHT: Final[Mapping[str, Metric]] = dict(zip(METRICS, (list_metrics.recall, list_metrics.ndcg), strict=True))


@dataclass(frozen=True)
class OneList(Contender):
    """The same for everybody, less what each has seen: the items of the highest scores (items,)."""

    scores: npt.NDArray[np.float32]

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        return best_of(np.tile(self.scores, (len(asks.codes), 1)), asks, n), None


def in_hindsight(metric: Metric) -> Callable[[Course, Fold, float], OneList]:
    """Makes the list that is best by a metric for those who are met after the split.

    Recall and NDCG of a list are sums over its places of what an item is worth to a user by what the place is worth, so
    the items that are worth the most in all, in this order, are the best list.
    """

    def made(course: Course, fold: Fold, _half_life_s: float) -> OneList:
        log = course.histories.log
        unknown = np.ones(len(log.user_ids), dtype=bool)
        unknown[log.user[: fold.start]] = False
        asked = np.flatnonzero(unknown[log.user[fold.asks]])
        sizes = np.array([len(fold.relevant[ask]) for ask in asked], dtype=np.int64)
        worth = metric(np.ones((len(asked), 1), dtype=bool), sizes, LIST)
        liked = np.concatenate([np.zeros(0, np.int32), *(fold.relevant[ask] for ask in asked)])
        scores = np.bincount(liked, np.repeat(worth, sizes), minlength=len(course.items))
        return OneList(scores.astype(np.float32))

    return made


def bounds(report: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Of a report with the hindsight of that metric: what the best of the others reach, and what would be needed.

    Returns:
        `newcomers`, their share of the asks; `best_of_newcomers` and `best_of_known`, the best other's metric;
        `hindsight`; `needed` and `needed_in_hindsight`, by how many times known users' lists have to be better.
    """
    models = report["models"]
    best = models[max(OTHERS, key=lambda name: float(models[name][metric]))]
    known, new = (best["segments"][name] for name in ("warm_users", "cold_users"))
    share = new["asks"] / report["asks"]
    highest = models[metric]["segments"]["cold_users"][metric]

    def needed(of_newcomers: float) -> float:
        return float((TIMES_THE_BEST * best[metric] - share * of_newcomers) / ((1.0 - share) * known[metric]))

    return {
        "newcomers": share,
        "best_of_newcomers": new[metric],
        "best_of_known": known[metric],
        "hindsight": highest,
        "needed": needed(new[metric]),
        "needed_in_hindsight": needed(highest),
    }


def measured(log: Log) -> dict[str, dict[str, float]]:
    """The bounds of one log, by metric."""
    report = evaluate(
        log.until(log.size),
        log.settings.model,
        popularity=log.settings.popularity,
        protocol="rolling",
        models=OTHERS,
        others={name: in_hindsight(metric) for name, metric in IN_HINDSIGHT.items()},
        progress=lambda stage, done: tell(f"{log.name}: {stage} {done:.0%}"),
    )
    return {metric: bounds(report, metric) for metric in METRICS}


def markdown(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table of all logs."""
    head = (
        "log",
        "of all asks, newcomers'",
        "metric",
        "theirs, by the best of the others",
        "by the best list in hindsight",
        "known users' lists would have to be better",
        "were newcomers' the best in hindsight",
    )
    rows = [
        (
            name,
            f"{of['newcomers']:.0%}",
            metric.replace("_at_", "@"),
            f"{of['best_of_newcomers']:.4f}",
            f"{of['hindsight']:.4f} ({of['hindsight'] / of['best_of_newcomers']:.2f} times)",
            f"{of['needed']:.2f} times",
            f"{of['needed_in_hindsight']:.2f} times",
        )
        for name, told in results.items()
        for metric, of in told.items()
    ]
    return table(head, rows)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--sets", multiple=True, default=SETS, show_default=True, help="A data set; may be repeated.")
@click.option("--events", type=click.IntRange(1), help="Take the first so many events of each.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(data: Path, sets: tuple[str, ...], events: int | None, report: Path | None) -> None:
    use_threads(1)
    results = {name: measured(Log(name, data, Settings(), events)) for name in sets}
    tell("")
    print(markdown(results))
    if report:
        report.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
