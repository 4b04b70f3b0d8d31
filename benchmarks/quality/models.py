"""The tables of what models are worth: fine-tuning against retraining, new items, rankers, and all against classics.

`python -m benchmarks.quality.models --data DIR [--set NAME]… [--events N] [--report FILE] [CLAIM …]`, where DIR holds a
folder for each data set and a claim is one of `fine-tune`, `new-items`, `rankers` and `models`.

Offline: trained on the older part of a log, asked about the newest tenth, with popularity and histories as of each
moment. Times are the processor's, with one thread, so other work on the machine weighs little.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.tables import table
from models.config import RankerConfig
from models.data.tokens import BareItem
from models.evaluation.baselines import Contender, of_model
from models.evaluation.classics import DecayedTrending
from models.evaluation.evaluate import MODELS, Answers, answers, evaluate
from models.evaluation.splits import Fold
from models.evaluation.streaming_baselines import Trending, best_half_life
from models.metrics import list_metrics
from models.metrics.retrieval_metrics import bootstrap_interval, gains, hits
from models.networks.threads import use_threads
from models.ranking.blend import Blend
from models.recommender import Recommender
from models.training.context import Course, TrainingData
from models.training.gate import LIST
from models.training.replay_examples import ranks_of_choices, study
from models.training.train import Kind, train
from streams.datasets import READERS, open_dataset
from streams.datasets.offline import training_data
from streams.settings.settings import Settings

SETS: Final = ("kuairand-pure", "movietweetings-100k", "ml-latest-small")
KINDS: Final = get_args(get_type_hints(RankerConfig)["kind"])
NETWORKS: Final = ("sequence", "two_tower")
Ranks = npt.NDArray[np.intp]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Log:
    """A data set and where it is cut: at `newest` begins what is asked about, at `older` the tenth before it."""

    def __init__(self, name: str, folder: Path, settings: Settings, events: int | None) -> None:
        self.name = name
        self.settings = settings
        self.data = training_data(open_dataset(name, folder / name), settings.labels)
        self.size = min(events or len(self.data.interactions), len(self.data.interactions))
        self.newest = int(self.size * 0.9)
        self.older = int(self.newest * 0.9)
        self.left_out = np.zeros(len(self.data.interactions), dtype=bool)

    def until(self, row: int) -> TrainingData:
        """What is known before a row of the log."""
        return replace(self.data, interactions=self.data.interactions.rows(slice(0, row)))

    def learnt(self, row: int) -> TrainingData:
        """What is learnt of it."""
        before = np.arange(len(self.left_out)) < row
        return replace(self.data, interactions=self.data.interactions.rows(before & ~self.left_out))

    def course(self, model: Recommender) -> Course:
        """All of the log in the model's rows."""
        return Course.over(self.until(self.size), self.settings.model, self.settings.popularity, model.item_ids)

    def trained(self, row: int, out: Path, *, kind: Kind = "retrain", start: Path | None = None) -> float:
        """Train on what is before a row; returns the processor's seconds."""
        out.mkdir()
        begun = time.process_time()
        train(
            self.learnt(row),
            self.settings.model,
            kind=kind,
            incumbent=start,
            out=out,
            version=out.name,
            offsets={},
            popularity=self.settings.popularity,
            progress=lambda stage, done: tell(f"{self.name}, {out.name}: {stage} {done:.0%}"),
        )
        return time.process_time() - begun


def fine_tune(log: Log) -> dict[str, Any]:
    """The newest tenth of what may be learnt: gone on with from the model of what is before it, or begun anew.

    Of the whole training, with all that it learns and compares; and of each network, taught and asked alone. Half of
    the tenth before the newest is never learnt: by it is told what a model still knows, and not what it has by heart.
    """
    log = copy(log)
    log.left_out = log.left_out.copy()
    half = np.random.default_rng(log.settings.model.seed).random(log.newest - log.older) < 0.5
    log.left_out[log.older - len(half) : log.older] = half
    with tempfile.TemporaryDirectory() as folder:
        before, tuned, anew = (Path(folder) / name for name in ("before", "tuned", "anew"))
        log.trained(log.older, before)
        seconds = log.trained(log.newest, tuned, kind="fine-tune", start=before), log.trained(log.newest, anew)
        models = [Recommender.load(path) for path in (before, tuned, anew)]
    found = {"system": _tuned(log, models, seconds, _gained)}
    first, _ = _taught(log, log.older, None)
    (second, of_second), (third, of_third) = (_taught(log, log.newest, start) for start in (first, None))
    for name in NETWORKS:
        seconds = of_second[name], of_third[name]
        found[name] = _tuned(log, [first, second, third], seconds, partial(_gained_alone, name))
    return found


def _tuned(
    log: Log,
    models: Sequence[Recommender],
    seconds: tuple[float, float],
    gained: Callable[[Course, Recommender, int, int], Floats],
) -> dict[str, Any]:
    """What is told of a model before, fine-tuned and retrained, the latter two in so many seconds."""
    later, older = [], []
    for model in models:
        course = log.course(model)
        later.append(gained(course, model, log.newest, log.size))
        course = replace(course, targets=course.targets & log.left_out[: log.size])
        older.append(gained(course, model, log.older - (log.newest - log.older), log.older))
    known = float(older[0].mean())
    lost = bootstrap_interval(older[0] - older[1], course.histories.log.user[course.targets])
    return {
        "ndcg": [float(each.mean()) for each in later],
        "of_retrain": float(later[1].mean() / later[2].mean()),
        "seconds": seconds,
        "of_time": seconds[0] / seconds[1],
        "older_ndcg": [float(each.mean()) for each in older],
        "forgotten": 1.0 - float(older[1].mean()) / known,
        "forgotten_interval": [bound / known for bound in lost],
    }


def _taught(log: Log, row: int, start: Recommender | None) -> tuple[Recommender, dict[str, float]]:
    """Networks that know what is before a row, new ones or those of `start`, and the processor's seconds of each."""
    config = log.settings.model
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    course = Course.over(log.learnt(row), config, log.settings.popularity, start.item_ids if start else [])
    stop = len(course.histories.log)
    networks = course.networks(start)
    counted = course.counted(stop, int(log.data.interactions.ts[log.older - 1]) if start else None, rng)
    begun, ended = time.process_time(), {}

    def tell_of(stage: str, done: float) -> None:
        ended[stage] = time.process_time()
        tell(f"{log.name}: {stage} {done:.0%}")

    course.fit(networks, counted, fine=start is not None, budget_s=3600.0, rng=rng, progress=tell_of)
    times = np.diff([begun, *ended.values()]).tolist()
    model = course.recommender("alone", networks, Blend.prior(log.settings.popularity), stop)
    return model, dict(zip(NETWORKS, times, strict=True))


def new_items(log: Log) -> dict[str, Any]:
    """Recall of items that nobody had met before the split, by models that read content and that know ids alone.

    Of the stack, in lists out of the whole catalogue; of the networks alone, in lists out of such items.
    """
    bare = copy(log)
    bare.data = replace(log.data, items=[BareItem(item.item_id, available=item.available) for item in log.data.items])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for each, name in ((log, "content"), (bare, "ids")):
            each.trained(log.newest, Path(folder) / name)
            model = Recommender.load(Path(folder) / name)
            found |= {f"{asked} {name}": told for asked, told in _of_new(each, model, ("system", *NETWORKS)).items()}
    return found | _of_new(log, Recommender.trending_only(log.settings.popularity, log.settings.model), ("trending",))


def _of_new(log: Log, model: Recommender, names: Sequence[str]) -> dict[str, Any]:
    """What contenders find of the items that nobody had met; those that are not the stack know no others."""
    course = log.course(model)
    model.admit(course.items)
    of_log = course.histories.log
    met = np.zeros(len(course.items) + 1, dtype=bool)  # the last one is no item
    met[of_log.item[: log.newest]] = True
    rows = np.arange(log.size)
    asks = np.flatnonzero(course.targets & ~met[of_log.item] & (rows >= log.newest))
    told = {}
    for name in names:
        known = course if name == "system" else replace(course, allowed=course.allowed & ~met[:-1])
        hits = _answers(name, known, model, asks, log.newest, log.size).hits[:, :LIST].any(axis=1).astype(float)
        told[name] = {
            "asks": len(asks),
            "recall_at_10": float(hits.mean()),
            "recall_at_10_interval": bootstrap_interval(hits, of_log.user[asks]),
        }
    return told


def rankers(log: Log) -> dict[str, Any]:
    """What each kind of ranker adds to the blend of one and the same training.

    On two slices: `choosing`, the newest of what is learnt from, each half by one that did not learn from it; and
    `telling`, the newest tenth of the log.
    """
    config = log.settings.model
    course = Course.over(log.until(log.newest), config, log.settings.popularity, [])
    held_out = course.held_out_from(None)
    networks = course.networks(None)
    rng = np.random.default_rng(config.seed)
    counted = course.counted(held_out, None, rng)
    tell(f"{log.name}: teaching the networks")
    course.fit(networks, counted, fine=False, budget_s=3600.0, rng=rng, progress=lambda *_: None)
    model = course.recommender("", networks, Blend.prior(log.settings.popularity), held_out)
    studied = study(course, model, held_out)
    later = log.course(model)
    found: dict[str, Any] = {}
    for kind in KINDS:
        tell(f"{log.name}: {kind}")
        begun = time.process_time()
        judges, ranker = studied.rankers(replace(config.ranker, kind=kind))
        seconds = time.process_time() - begun
        choosing = []
        for half, model.blend, model.ranker in zip(studied.halves, studied.crossed, judges, strict=True):
            choosing.append(ranks_of_choices(course, model, *half))
        model.blend, model.ranker = studied.blend, ranker
        rows = later.targets & (np.arange(log.size) >= log.newest)
        found[kind] = {
            "choosing": float(gains(np.concatenate(choosing), LIST).mean()),
            "telling": _told(ranks_of_choices(later, model, log.newest, log.size), later.histories.log.user[rows]),
            "share": ranker.share,
            "seconds": seconds,
        }
    return found


def every_model(log: Log) -> dict[str, Any]:
    """The stack and every other model, on the same asks."""
    table: dict[str, Any] = evaluate(
        log.until(log.size),
        log.settings.model,
        popularity=log.settings.popularity,
        models=MODELS,
        progress=lambda stage, done: tell(f"{log.name}: {stage} {done:.0%}"),
    )["models"]
    return table


CLAIMS: Final[Mapping[str, Callable[[Log], dict[str, Any]]]] = {
    "fine-tune": fine_tune,
    "new-items": new_items,
    "rankers": rankers,
    "models": every_model,
}


def _gained(course: Course, model: Recommender, start: int, stop: int) -> Floats:
    """The gain (k,) of each of the course's targets from row `start` to `stop`, in the list made before it."""
    return gains(ranks_of_choices(course, model, start, stop), LIST)


def _gained_alone(name: str, course: Course, model: Recommender, start: int, stop: int) -> Floats:
    """The same, in the lists of one of its networks."""
    model.admit(course.items)
    rows = np.arange(len(course.targets))
    asks = np.flatnonzero(course.targets & (rows >= start) & (rows < stop))
    found = _answers(name, course, model, asks, start, stop)
    return list_metrics.ndcg(found.hits, found.relevant, LIST)


def _answers(name: str, course: Course, model: Recommender, asks: Rows, start: int, stop: int) -> Answers:
    """What a contender answers to asks, rows between `start`, before which all is learnt, and `stop`."""
    log = course.histories.log
    fold = Fold(start, stop, np.arange(len(log)) < start, asks, [log.item[[row]] for row in asks], moving=True)
    asked: Contender
    if name == "trending":
        asked = Trending(DecayedTrending(best_half_life(course, fold))).caught_up(log, fold)
    else:
        asked = of_model(name, course, fold, model)
    return answers(asked, name, course, fold, course.popularity)


def _told(ranks: Ranks, users: npt.NDArray[np.int32]) -> dict[str, Any]:
    found, gained = hits(ranks, LIST), gains(ranks, LIST)
    return {
        "recall_at_10": float(found.mean()),
        "recall_at_10_interval": bootstrap_interval(found, users),
        "ndcg_at_10": float(gained.mean()),
        "ndcg_at_10_interval": bootstrap_interval(gained, users),
    }


def markdown(claim: str, results: Mapping[str, Any]) -> str:
    """The table of one claim, of the results of each data set."""
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if claim == "fine-tune":
        head = ("log", "of", "ndcg@10: before", "fine-tuned", "retrained", "of the retrain's", "seconds")
        head = (*head, "of the retrain's", "older half-tenth: before", "fine-tuned", "retrained", "lost (95 %)")
        rows = [
            (
                name,
                asked,
                *(f"{ndcg:.4f}" for ndcg in r["ndcg"]),
                f"{r['of_retrain']:.1%}",
                "{:.1f} of {:.1f}".format(*r["seconds"]),
                f"{r['of_time']:.1%}",
                *(f"{ndcg:.4f}" for ndcg in r["older_ndcg"]),
                "{:.1%} ({:.1%} to {:.1%})".format(r["forgotten"], *r["forgotten_interval"]),
            )
            for name, told in results.items()
            for asked, r in told.items()
        ]
    elif claim == "new-items":
        head = ("log", "asks", "of", "recall@10: with content", "with ids alone", "trending among new items")
        rows = [
            (
                name,
                f"{r['trending']['asks']:,}",
                asked,
                *(interval(r[key], "recall_at_10") for key in (f"{asked} content", f"{asked} ids", "trending")),
            )
            for name, r in results.items()
            for asked in ("system", *NETWORKS)
        ]
    elif claim == "rankers":
        head = ("log", "ranker", "ndcg@10: choosing", "telling (95 %)", "gain over the blend", "share", "seconds")
        rows = [
            (
                name,
                kind,
                f"{r['choosing']:.4f}",
                interval(r["telling"], "ndcg_at_10"),
                f"{r['telling']['ndcg_at_10'] / kinds['blend']['telling']['ndcg_at_10'] - 1.0:+.1%}",
                f"{r['share']:g}",
                f"{r['seconds']:.1f}",
            )
            for name, kinds in results.items()
            for kind, r in kinds.items()
        ]
    else:
        head = ("log", "model", "recall@10 (95 %)", "ndcg@10 (95 %)")
        rows = [
            (name, model, interval(r, "recall_at_10"), interval(r, "ndcg_at_10"))
            for name, models in results.items()
            for model, r in models.items()
        ]
    return table(head, rows)


def interval(told: Mapping[str, Any], metric: str) -> str:
    """A metric with its bounds."""
    low, high = told[f"{metric}_interval"]
    return f"{told[metric]:.4f} ({low:.4f} to {high:.4f})"


def tell(text: str) -> None:
    """Show progress on one line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds a folder for each data set")
    parser.add_argument("--set", dest="sets", action="append", choices=READERS, help="a data set; may be repeated")
    parser.add_argument("--events", type=int, help="take the first so many events of each")
    parser.add_argument("--report", type=Path, help="write the figures here (JSON)")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=", ".join(CLAIMS))
    given = parser.parse_args()
    if unknown := set(given.claims) - set(CLAIMS):
        parser.error(f"no claim {', '.join(sorted(unknown))}: there are {', '.join(CLAIMS)}")
    use_threads(1)
    results: dict[str, dict[str, Any]] = {}
    for name in given.sets or SETS:
        log = Log(name, given.data, Settings(), given.events)
        for claim in given.claims or CLAIMS:
            results.setdefault(claim, {})[name] = CLAIMS[claim](log)
            if given.report:
                given.report.write_text(json.dumps(results, indent=2) + "\n")
    tell("")
    print("\n\n".join(markdown(claim, found) for claim, found in results.items()))


if __name__ == "__main__":
    main()
