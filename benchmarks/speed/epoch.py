"""How long an epoch of SASRec's shape takes on MovieLens 1M: ours, then RecTools' on the same threads.

    python -m benchmarks.speed.epoch --data DIR [--rectools PYTHON] [--epochs 1] [--threads 2] [--every 1]
        [--report FILE]

Both: 64 dimensions, 2 blocks, 2 heads, the last 200 actions, sampled softmax with 128 negatives, ids in their order
alone. Each user's last interaction is left out and then asked for among all unseen items.
`benchmarks/rectools/sasrec.py` says how to install RecTools. A time is that of the whole fit, preparation included,
divided by the epochs. Where the machine has other work, compare processor time, of all threads together. `--every 6`
takes one user in six.
"""

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from benchmarks.rectools.sasrec import Fit, Likes, fitted
from models.config import SequenceConfig, TrainingConfig
from models.data.popularity import Popularity, PopularityConfig
from models.data.users import Histories
from models.evaluation.baselines import Asks
from models.evaluation.splits import folds
from models.evaluation.standalone_sequence import Alone, alike
from models.metrics import list_metrics as lm
from models.networks.threads import use_threads
from models.training.context import Course, TrainingData
from streams.datasets import open_dataset
from streams.datasets.offline import training_data
from streams.settings.settings import Settings

DIM, BLOCKS, HEADS, LENGTH, NEGATIVES, LIST, USERS_AT_ONCE = 64, 2, 2, 200, 128, 10, 256


@dataclass(frozen=True)
class Task:
    """What both are given: the rows of training, and who is asked for which item."""

    data: TrainingData
    training: npt.NDArray[np.bool_]
    asks: npt.NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path, every: int) -> "Task":
        log = alike(training_data(open_dataset("ml-1m", folder), Settings().labels).interactions)
        data = TrainingData(log.rows(log.user % every == 0), [], {})
        [fold] = folds("loo", data.interactions, np.ones(len(data.interactions), dtype=bool), 0.0)
        return cls(data, fold.training, fold.asks)

    def score(self, lists: npt.NDArray[np.integer]) -> dict[str, float]:
        wanted = self.data.interactions.item[self.asks]
        hits, one = lists == wanted[:, None], np.ones(len(lists), dtype=np.int64)
        return {
            "hit_rate_at_10": float(lm.hit_rate(hits, LIST).mean()),
            "ndcg_at_10": float(lm.ndcg(hits, one, LIST).mean()),
        }


def ours(task: Task, epochs: int) -> dict[str, float]:
    sequence = SequenceConfig(
        loss="sampled",
        full_softmax_items=0,
        negatives=NEGATIVES,
        reads=(),
        dim=DIM,
        blocks=BLOCKS,
        heads=HEADS,
        feed=1,
        length=LENGTH,
        stretch=1,
        item_dropout=0.0,
        batch_tokens=2048,
        weight_decay=0.0,
        epochs=epochs,
    )
    config, popularity = TrainingConfig(sequence=sequence), PopularityConfig()
    began, worked = time.perf_counter(), time.process_time()
    known = replace(task.data, interactions=task.data.interactions.rows(task.training))
    course = Course.over(known, config, popularity, [])
    model = Alone.taught(course, lambda _done: None)
    seconds, of_processor = time.perf_counter() - began, time.process_time() - worked
    histories = Histories(task.data.interactions, [[]] * len(course.items), {}, config)
    lists = []
    everything = np.ones(len(course.items), dtype=bool)
    for rows in np.array_split(task.asks, max(1, len(task.asks) // USERS_AT_ONCE)):
        users, seen = histories.before(rows), histories.seen_before(rows)
        asks = Asks(histories.log.user[rows], users, seen, Popularity(popularity, len(everything)), everything)
        lists.append(model.lists(asks, LIST)[0])
    return measured(seconds, of_processor, epochs) | task.score(np.concatenate(lists))


def theirs(task: Task, epochs: int, threads: int, python: Path) -> dict[str, float]:
    log = task.data.interactions
    shape = {"n_factors": DIM, "n_blocks": BLOCKS, "n_heads": HEADS, "session_max_len": LENGTH}
    fit = Fit(shape | {"loss": "sampled_softmax", "n_negatives": NEGATIVES}, epochs, LIST, threads)
    known = log.rows(task.training)
    ask_of = np.full(len(log.user_ids), -1)
    ask_of[log.user[task.asks]] = np.arange(len(task.asks))
    asking = ask_of[known.user] >= 0
    histories = Likes(ask_of[known.user[asking]], known.item[asking])
    of = fitted(python, Likes(known.user, known.item), histories, len(task.asks), fit)
    return measured(of.seconds, of.of_processor, epochs) | task.score(of.lists)


def measured(seconds: float, of_processor: float, epochs: int) -> dict[str, float]:
    return {"seconds_an_epoch": seconds / epochs, "processor_seconds_an_epoch": of_processor / epochs}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--rectools", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Python that has it.")
@click.option("--epochs", default=1, type=click.IntRange(1))
@click.option("--threads", default=os.cpu_count() or 1, type=click.IntRange(1))
@click.option("--every", default=1, type=click.IntRange(1), help="Take one user in so many.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False))
def main(data: Path, rectools: Path | None, epochs: int, threads: int, every: int, report: Path | None) -> None:
    use_threads(threads)
    task = Task.read(data, every)
    outcome: dict[str, Any] = {
        "epochs": epochs,
        "threads": threads,
        "users": len(task.asks),
        "load": os.getloadavg()[0],
    }
    outcome["ours"] = ours(task, epochs)
    print(json.dumps(outcome["ours"]), flush=True)
    if rectools is None:
        print("RecTools is left out: see the head of benchmarks/rectools/sasrec.py for how to get it")
    else:
        outcome["rectools"] = theirs(task, epochs, threads, rectools)
        for name in ("seconds_an_epoch", "processor_seconds_an_epoch"):
            outcome[f"times_less_{name}"] = outcome["rectools"][name] / outcome["ours"][name]
    print(json.dumps(outcome, indent=2))
    if report is not None:
        report.write_text(json.dumps(outcome, indent=2) + "\n")


if __name__ == "__main__":
    main()
