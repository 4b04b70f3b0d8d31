"""The ablation table: what each source and each stage of the pipeline is worth, on the same events.

    python -m benchmarks.quality.ablation --data DIR [--limit N] [--diversity] [--report FILE] [NAME …]

DIR holds a folder for each data set.

Offline and prequential: at each cut of the log a model is trained on what is before it; up to the next cut every
variant of the pipeline makes the list of users who are about to like something new, with popularity and histories as
of that moment: of all of them, or of about N spread evenly over the log. All variants meet the same moments with the
same models. No variant learns from another's lists, and the blend's weights are those learnt with all of the model's
sources.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.tables import table
from models.data.popularity import Popularity
from models.metrics.retrieval_metrics import bootstrap_interval, gains, hits, ranks_of
from models.networks.threads import use_threads
from models.recommender import Recommender
from models.training.context import Course, TrainingData
from models.training.prequential_walk import popularity_before, strides
from models.training.train import train
from serving.pipeline.items import ItemTable
from serving.pipeline.pipeline import Pipeline
from serving.pipeline.query import Query
from serving.pipeline.selection import cosines
from streams.contract.events import UserRecord
from streams.datasets import open_dataset
from streams.datasets.offline import training_data
from streams.settings.pipeline import DiversitySettings, ExplorationSettings, PipelineSettings
from streams.settings.settings import Settings
from streams.state.item_catalogue import segments_of

SETS: Final = ("kuairand-pure", "movietweetings-100k")
CUTS: Final = (0.6, 0.8, 1.0)
LIST: Final = 10
FULL, PLAIN = "full pipeline", "without diversity"
_DIVERSITY: Final = "diversity "


def variants(full: PipelineSettings) -> dict[str, PipelineSettings]:
    """The full pipeline, each source alone, each source and stage taken out, and other kinds of diversity."""
    made = {FULL: full}
    for name in full.sources:
        made[f"{name} alone"] = full.model_copy(update={"sources": {name: full.sources[name]}})
    for name in full.sources:
        rest = {other: quota for other, quota in full.sources.items() if other != name}
        made[f"without {name}"] = full.model_copy(update={"sources": rest})
    none = DiversitySettings(kind="none")
    made |= {
        PLAIN: full.model_copy(update={"diversity": none}),
        "without exploration": full.model_copy(update={"exploration": ExplorationSettings(rate=0.0)}),
        "without adjusters": full.model_copy(update={"adjusters": ()}),
        "without filters but seen": full.model_copy(update={"filters": ("withdrawn", "seen")}),
    }
    strengths = {"mmr": (0.1, 0.3, 1.0, 2.0, 5.0), "dpp": (0.2, 0.5, 0.7, 0.9)}
    for kind, strength in ((kind, strength) for kind, some in strengths.items() for strength in some):
        diversity = DiversitySettings.model_validate({"kind": kind, "strength": strength})
        made[f"{_DIVERSITY}{kind} {strength}"] = full.model_copy(update={"diversity": diversity})
    return made


class Scores:
    """The ranks of what users turned to in one variant's lists, and how much like each other and how wide these are."""

    def __init__(self) -> None:
        self.ranks: list[npt.NDArray[np.intp]] = []
        self.likeness: list[npt.NDArray[np.float32]] = []
        self.listed: set[int] = set()

    def add(self, query: Query, items: npt.NDArray[np.int64], targets: npt.NDArray[np.integer]) -> None:
        self.ranks.append(ranks_of(items, targets))
        alike, pairs = cosines(query, items), np.triu_indices(items.shape[1], 1)
        if len(pairs[0]):
            self.likeness.append(alike[:, pairs[0], pairs[1]].mean(axis=1))
        self.listed.update(items[items >= 0].tolist())


def measure(name: str, data: Path, settings: Settings, limit: int | None, diversity: bool) -> dict[str, Any]:
    dataset = open_dataset(name, data)
    read = training_data(dataset, settings.labels)
    profiles = {user.user_id: user for user in dataset.users()}
    pipelines = {
        each: Pipeline(given, seed=1)
        for each, given in variants(settings.pipeline).items()
        if not diversity or each in (FULL, PLAIN) or each.startswith(_DIVERSITY)
    }
    scores = {each: Scores() for each in pipelines}
    users: list[npt.NDArray[np.int32]] = []
    catalogue = 0
    size = len(read.interactions)
    for start, stop in pairwise([int(size * cut) for cut in CUTS]):
        past = TrainingData(read.interactions.rows(slice(0, start)), read.items, read.profiles)
        seen = TrainingData(read.interactions.rows(slice(0, stop)), read.items, read.profiles)
        with tempfile.TemporaryDirectory() as folder:
            train(
                past,
                settings.model,
                kind="retrain",
                incumbent=None,
                out=Path(folder),
                version="ablation",
                offsets={},
                popularity=settings.popularity,
                progress=lambda stage, done, at=start: told(f"{name}, {at:,} events: {stage} {done:.0%}"),  # type: ignore[misc]
            )
            model = Recommender.load(Path(folder))
        course = Course.over(seen, settings.model, settings.popularity, model.item_ids)
        model.admit(course.items)
        catalogue = len(course.items)
        wanted = int(np.count_nonzero(course.targets[start:stop]))
        every = max(1, round(wanted * (len(CUTS) - 1) / limit)) if limit else 1
        for query, targets, of in queries(model, course, profiles, settings, start, stop, every):
            users.append(of)
            for each, pipeline in pipelines.items():
                scores[each].add(query, pipeline.run(query).items, targets)
    told("")
    groups = np.concatenate(users)
    table = {}
    for each, found in scores.items():
        ranks = np.concatenate(found.ranks)
        low, high = bootstrap_interval(hits(ranks, LIST), groups)
        table[each] = {
            "recall_at_10": float(hits(ranks, LIST).mean()),
            "recall_low": low,
            "recall_high": high,
            "ndcg_at_10": float(gains(ranks, LIST).mean()),
            "intra_list_similarity": float(np.concatenate(found.likeness or [np.zeros(1, np.float32)]).mean()),
            "coverage": len(found.listed) / catalogue,
        }
    return {"dataset": name, "events": len(groups), "variants": table}


def queries(
    model: Recommender,
    course: Course,
    profiles: dict[str, UserRecord],
    settings: Settings,
    start: int,
    stop: int,
    every: int,
) -> Iterator[tuple[Query, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """The users about to like something new, one stride of the log in so many; with what it is and who they are."""
    log = course.histories.log
    items = ItemTable([settings.pipeline])
    items.put(range(len(course.items)), course.items)
    popularity = popularity_before(log, start, settings.popularity, len(course.items))
    records = [profiles.get(user) for user in log.user_ids]
    segments = [segments_of(record, settings) if record else [] for record in records]
    trends: dict[str, Popularity] = {}
    counted, followed = 0, start
    assert model.neighbours is not None
    for rows in strides(log, course.targets, start, stop, popularity, every=every):
        count_segments(trends, course, segments, settings, counted, int(rows[0]))
        course.likes.follow(model.neighbours, followed, int(rows[0]))
        counted = followed = int(rows[0])
        users = log.user[rows]
        query = Query(
            model=model,
            items=items,
            users=course.histories.before(rows),
            profiles=[records[user] for user in users],
            seen=course.histories.seen_before(rows),
            shown=[np.zeros(0, np.int64)] * len(rows),
            friends=[np.zeros(0, np.int64)] * len(rows),
            popularity=popularity,
            available=course.allowed,
            size=LIST,
            segments=[segments[user] for user in users],
            trends_of=trends.get,
        )
        yield query, log.item[rows], users


def count_segments(
    trends: dict[str, Popularity],
    course: Course,
    segments: list[list[str]],
    settings: Settings,
    start: int,
    stop: int,
) -> None:
    """Count the events of rows from `start` to `stop` into the trends of their users' segments."""
    log = course.histories.log
    members: dict[str, list[int]] = {}
    for row in range(start, stop):
        if log.item[row] >= 0:
            for segment in segments[log.user[row]]:
                members.setdefault(segment, []).append(row)
    for segment, rows in members.items():
        known = trends.setdefault(segment, Popularity(settings.popularity, len(course.items)))
        known.add(log.item[rows], log.ts[rows], log.label[rows] > 0)


def markdown(result: dict[str, Any]) -> str:
    """One data set's tables."""
    found = result["variants"]
    of_pipelines = [
        (
            name,
            f"{v['recall_at_10']:.4f} ({v['recall_low']:.4f} to {v['recall_high']:.4f})",
            f"{v['ndcg_at_10']:.4f}",
            f"{v['ndcg_at_10'] / found[FULL]['ndcg_at_10']:.1%}",
        )
        for name, v in found.items()
        if not name.startswith(_DIVERSITY)
    ]
    of_diversity = [
        (
            name.removeprefix(_DIVERSITY),
            f"{v['ndcg_at_10']:.4f}",
            f"{v['ndcg_at_10'] / found[PLAIN]['ndcg_at_10']:.1%}",
            f"{v['intra_list_similarity']:.3f}",
            f"{v['coverage']:.1%}",
        )
        for name, v in found.items()
        if name == PLAIN or name.startswith(_DIVERSITY)
    ]
    return "\n\n".join(
        [
            f"{result['dataset']}, {result['events']:,} lists of {LIST} a variant",
            table(("pipeline", "recall@10 (95 %)", "ndcg@10", "of the full one's"), of_pipelines),
            table(
                ("re-ranking for diversity", "ndcg@10", "of that without", "intra-list similarity", "coverage"),
                of_diversity,
            ),
        ]
    )


def told(text: str) -> None:
    """Show progress on one line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds a folder for each data set")
    parser.add_argument("--limit", type=int, help="about so many lists a variant; all, when left out")
    parser.add_argument("--diversity", action="store_true", help="only the variants of re-ranking for diversity")
    parser.add_argument("--report", type=Path, help="write the figures here (JSON)")
    parser.add_argument("names", nargs="*", default=SETS)
    given = parser.parse_args()
    use_threads(1)
    results = [measure(name, given.data / name, Settings(), given.limit, given.diversity) for name in given.names]
    if given.report:
        given.report.write_text(json.dumps(results, indent=2) + "\n")
    print("\n\n".join(markdown(result) for result in results))


if __name__ == "__main__":
    main()
