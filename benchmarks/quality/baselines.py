"""The whole stack against other recommenders, RecTools' SASRec among them, on the same asks.

    python -m benchmarks.quality.baselines --data DIR [--rectools PYTHON] [--protocol rolling] [--sets NAME …]
        [--report FILE]

`rolling`: at each of three splits every model is made anew of what lies before it, and each user who later likes
something new is asked for it once, as known at the split. `prequential`: the newest tenth, in which every like of
something new is asked for as of the moment before it, users' histories and popularity as of then; every model is made
anew before it, or `--trainings` times, evenly over it. Always out of the whole catalogue. The stack is the shipped
default, the same for all sets. `benchmarks/rectools/sasrec.py` says how to install RecTools; it learns the likes that
the factorizations learn, in order of time, reads those of who asks as of the ask, and what it cannot list is filled up
with trending items, as item-item's lists are.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from benchmarks.quality.models import SETS, Log, interval, tell
from benchmarks.rectools.sasrec import Fit, Fitted, Likes, fitted
from benchmarks.tables import table
from models.evaluation.classics import DecayedTrending
from models.evaluation.evaluate import DEPTH, evaluate
from models.evaluation.splits import Fold, Protocol
from models.evaluation.streaming_baselines import Trending
from models.networks.threads import use_threads
from models.training.context import Course
from streams.settings.settings import Settings

MODELS: Final = ("system", "trending", "item_item", "als")
SASREC: Final = "rectools_sasrec"
METRICS: Final = ("recall_at_10", "ndcg_at_10")
LENGTH: Final = 50
#: The shape of our own sequence model; the rest is RecTools' default but for the batch. These logs have few users: by
#: 32 of them an epoch learns four times as often as by RecTools' 128.
SHAPE: Final = {
    "n_factors": 64,
    "n_blocks": 2,
    "n_heads": 2,
    "session_max_len": LENGTH,
    "loss": "softmax",
    "batch_size": 32,
}
#: Most are never reached: the log decides how many epochs it needs.
EPOCHS: Final = 100
PATIENCE: Final = 3


class Lists:
    """Lists made beforehand, to be taken in the order of the asks, as a baseline to be filled up."""

    def __init__(self, lists: npt.NDArray[np.integer]) -> None:
        self._lists = iter(lists)

    def learn(self, user: int, item: int, ts: int, positive: bool, /) -> None:
        """They are as old as the fit."""

    def top(self, user: int, k: int, seen: Set[int], /) -> list[int]:
        listed = next(self._lists)
        return [item for item in listed[listed >= 0].tolist() if item not in seen][:k]


class Sasrec:
    """Makes RecTools' SASRec of what a fold lets it know; `fits` is what came of each."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self.fits: list[Fitted] = []

    def __call__(self, course: Course, fold: Fold, half_life_s: float) -> Trending:
        log = course.histories.log
        liked = np.flatnonzero(course.targets & fold.training)
        # RecTools leaves out what it reads, we what the user dealt with: so many more have to be in its lists
        hidden = max(len(seen) for seen in course.histories.seen_before(fold.asks)) + int((~course.allowed).sum())
        fit = Fit(SHAPE, EPOCHS, DEPTH + hidden, patience=PATIENCE)
        learnt = Likes(log.user[liked], log.item[liked])
        self.fits.append(fitted(self._python, learnt, histories(course, fold), len(fold.asks), fit))
        return Trending(DecayedTrending(half_life_s), Lists(self.fits[-1].lists)).caught_up(log, fold)


def histories(course: Course, fold: Fold) -> Likes:
    """What who asks had liked last, by the number of the ask."""
    log, liked = course.histories.log, np.flatnonzero(course.targets)
    by_user = liked[np.argsort(log.user[liked], kind="stable")]
    of_users = np.split(by_user, np.searchsorted(log.user[by_user], np.arange(1, len(log.user_ids))))
    rows = []
    for ask in fold.asks.tolist():
        own = of_users[log.user[ask]]
        rows.append(own[: np.searchsorted(own, ask if fold.moving else fold.start)][-LENGTH:])
    numbers = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return Likes(numbers, log.item[np.concatenate(rows)])


def measured(log: Log, protocol: Protocol, trainings: int, rectools: Path | None) -> dict[str, Any]:
    """Every model on the same asks of a log, and what RecTools' fits took."""
    sasrec = Sasrec(rectools) if rectools else None
    report = evaluate(
        log.until(log.size),
        log.settings.model,
        popularity=log.settings.popularity,
        protocol=protocol,
        trainings=trainings,
        models=MODELS,
        others={SASREC: sasrec} if sasrec else {},
        progress=lambda stage, done: tell(f"{log.name}: {stage} {done:.0%}"),
    )
    fits = sasrec.fits if sasrec else []
    return report | {"fits": [{"epochs": fit.epochs, "processor_seconds": fit.of_processor} for fit in fits]}


def markdown(name: str, report: Mapping[str, Any]) -> str:
    """The table of one log; its last line says how the system does against the best of the others."""
    models = report["models"]
    rows = [(model, *(interval(told, metric) for metric in METRICS)) for model, told in models.items()]
    rows.append(("**system / best of the others**", *(verdict(report, metric) for metric in METRICS)))
    head = (name, "recall@10 (95 %)", "ndcg@10 (95 %)")
    epochs = ", ".join(str(fit["epochs"]) for fit in report["fits"])
    of_rectools = f"RecTools' SASRec stopped after {epochs} epochs" if epochs else "RecTools' SASRec was left out"
    splits = len(report["trending_half_life_s"])
    asks = f"{report['asks']:,} asks at {splits} split{'s' if splits > 1 else ''}"
    return f"{table(head, rows)}\n\n{asks}; {of_rectools}."


@dataclass(frozen=True)
class Against:
    """The system against the best of the others in one metric.

    Attributes:
        ratio: how many times its metric the system's is.
        apart: the intervals of the two are.
        gain: the bounds of the difference on the same asks.
    """

    best: str
    ratio: float
    apart: bool
    gain: tuple[float, float]


def against(report: Mapping[str, Any], metric: str) -> Against:
    """How the system does against the best of the others."""
    models = report["models"]
    best = max((name for name in models if name != "system"), key=lambda name: float(models[name][metric]))
    ours, theirs = models["system"], models[best]
    ratio = ours[metric] / theirs[metric] if theirs[metric] else float("inf")
    (low, high), (other_low, other_high) = ours[f"{metric}_interval"], theirs[f"{metric}_interval"]
    first, last = report["gains"][best][f"{metric}_interval"]
    return Against(best, ratio, low > other_high or high < other_low, (first, last))


def verdict(report: Mapping[str, Any], metric: str) -> str:
    """The same in words."""
    found = against(report, metric)
    short = f", **short by {1 - found.ratio:.1%}**" if found.ratio < 1 else ""
    low, high = found.gain
    return (
        f"{found.ratio:.2f} times {found.best}{short}; intervals {'apart' if found.apart else 'overlap'}; "
        f"on the same asks {low:+.4f} to {high:+.4f}"
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--rectools", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Python that has it.")
@click.option("--protocol", type=click.Choice(["rolling", "prequential"]), default="rolling", show_default=True)
@click.option(
    "--trainings", type=click.IntRange(1, 50), default=1, show_default=True, help="Of every model, for prequential."
)
@click.option("--sets", multiple=True, default=SETS, show_default=True, help="A data set; may be repeated.")
@click.option("--events", type=click.IntRange(1), help="Take the first so many events of each.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(
    data: Path,
    rectools: Path | None,
    protocol: Protocol,
    trainings: int,
    sets: tuple[str, ...],
    events: int | None,
    report: Path | None,
) -> None:
    if trainings > 1 and protocol != "prequential":
        raise click.BadParameter(f"only prequential takes several, not {protocol}", param_hint="--trainings")
    use_threads(1)
    results = {}
    for name in sets:
        results[name] = measured(Log(name, data, Settings(), events), protocol, trainings, rectools)
        if report:
            report.write_text(json.dumps(results, indent=2) + "\n")
        tell("")
        print(markdown(name, results[name]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
