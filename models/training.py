"""Training: from interactions to a staged artefact, gated on the newest events that no model was trained on.

The newest slice is held out. The networks learn from what is before it. What the blend has to know of popularity and
neighbours it learns from choices all over that past, as both can be had as of any moment; what the networks are worth
it learns from the slice, which they have not seen. By the lists that each would have shown in the slice the candidate
is compared with the incumbent, in each half with the blend that learnt from the other. Then the candidate catches up on
the slice itself, for in a stream the newest events say the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from models.artefact import Manifest, read_manifest, write_manifest
from models.blend import Blend
from models.compute import Compute
from models.config import TrainingConfig
from models.features import BareItem, ItemContent, TokenTable, buckets_of, histogram_keys
from models.fitting import Lesson
from models.gate import MIN_EVENTS, scores, verdict
from models.incumbent import loaded, reads_alike, same_models, same_ranking
from models.index import IndexRefused, VectorIndex
from models.inference.skew import Spread
from models.interactions import NO_ITEM, Interactions
from models.item_vectors import item_vectors
from models.likes import Likes
from models.neighbours import Neighbours
from models.popularity import PopularityConfig
from models.positives import require_positives
from models.prequential import popularity_before, targets_of
from models.prior import TrendTable
from models.ranking.examples import Examples
from models.ranking.facts import ItemFacts
from models.ranking.features import names
from models.ranking.ranker import Ranker, within_reach
from models.recommender import Networks, Recommender, with_prior
from models.rehearsal import Studied, ranks_of_choices, study
from models.related import RelatedItems
from models.sequence import SequenceModel
from models.slist import Slist
from models.towers import TwoTowers
from models.users import Histories

Kind = Literal["retrain", "fine-tune"]
Floats = npt.NDArray[np.float32]

_HELD_OUT_OF_NEW: Final = 0.4


@dataclass(frozen=True)
class TrainingData:
    """What is trained on: the interactions, the catalogue, and profile tokens by user id."""

    interactions: Interactions
    items: Sequence[ItemContent]
    profiles: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        kind: what was done; a fine-tune without a usable incumbent is a retrain.
        metrics: `ndcg_at_10` and `recall_at_10` of the candidate, and with `incumbent_` and `trending_` before the name
            of these, on the same `gate_events`; `index_recall`; `seconds`; `events`.
        why: the decision in words, with the numbers.
        losses: of each network, by name, the mean loss of each epoch before the comparison.
    """

    kind: Kind
    metrics: dict[str, float]
    promoted: bool
    why: str
    losses: dict[str, list[float]]


def train(
    data: TrainingData,
    config: TrainingConfig,
    *,
    kind: Kind,
    incumbent: Path | None,
    out: Path,
    version: str,
    offsets: Mapping[str, int],
    popularity: PopularityConfig,
    progress: Callable[[str, float], None],
    gate_min_events: int = MIN_EVENTS,
) -> Outcome:
    """Train, and write the artefact into the staged folder `out`, whether it is promoted or not.

    Args:
        incumbent: the artefact in service, to start from and to beat.
        progress: called with the stage and the share of all work done.
        gate_min_events: with fewer comparable events the model in service stays, see `verdict`.

    Raises:
        NothingToLearn: no interaction is a positive.
        ValueError: the configuration asks for a GPU, and there is none.
    """
    began = time.monotonic()
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    serving = loaded(incumbent)
    before = serving if serving and reads_alike(serving, config, popularity) else None
    trained_through = read_manifest(incumbent).trained_through if incumbent and before else None
    if before is None or not same_models(before.config, config):
        kind = "retrain"

    progress("reading", 0.0)
    course = Course.over(data, config, popularity, before.item_ids if before else [])
    log = course.histories.log
    require_positives(log, course.targets, len(course.items))
    held_out = course.held_out_from(trained_through, gate_min_events if serving else 0)

    networks = course.networks(before if kind == "fine-tune" else None)
    counted = course.counted(held_out, trained_through if kind == "fine-tune" else None, rng)
    fine = kind == "fine-tune"
    losses = course.fit(networks, counted, fine=fine, budget_s=0.8 * config.time_budget_s, rng=rng, progress=progress)

    progress("building the index", 0.7)
    # a fine-tune is compared with the SLIST that it goes on from, and puts one that knows all into service
    known = before.slist if fine and before is not None else None
    candidate = course.recommender(version, networks, Blend.prior(popularity), held_out, slist=known)
    progress("learning the blend", 0.75)
    start = before if fine and before is not None and same_ranking(before, candidate) else None
    studied = study(course, candidate, held_out, start.blend if start else None)
    progress("learning to rank", 0.82)
    rankers, final_ranker = studied.rankers(config.ranker, start.ranker if start else None)

    _spread(studied, course).save(out)

    progress("comparing with what is in service", 0.85)
    mine = []
    for half, its_blend, its_ranker in zip(studied.halves, studied.crossed, rankers, strict=True):
        candidate.blend, candidate.ranker = its_blend, its_ranker
        mine.append(ranks_of_choices(course, candidate, *half))
    # the first model has to beat trending alone: on few likes it may lose a little to the neighbours that stand in for
    # it, but learns what they cannot
    rivals = {"trending_": Recommender.trending_only(popularity, config)}
    if before is not None:
        rivals["incumbent_"] = before
    ranks = {prefix: ranks_of_choices(course, rival, held_out, len(log)) for prefix, rival in rivals.items()}
    ranks[""] = np.concatenate(mine)
    compared, rival = list(rivals.items())[-1]
    promoted, why = verdict(
        *(ranks[""], ranks[compared], rival.version),
        in_service=serving.version if serving else None,
        min_events=gate_min_events,
    )
    metrics = scores(ranks) | {"gate_events": float(len(ranks[""]))}

    progress("catching up", 0.9)
    candidate.blend, candidate.ranker = studied.blend, final_ranker
    course.catch_up(networks, held_out, rng)
    try:
        final = course.recommender(version, networks, studied.blend, len(log), final_ranker)
    except IndexRefused as refused:
        final, promoted, why = candidate, False, str(refused)
    assert final.networks is not None
    metrics["index_recall"] = min(final.networks.sequence_index.recall, final.networks.towers_index.recall)
    metrics["seconds"] = time.monotonic() - began
    metrics["events"] = float(len(log))

    assert final.neighbours is not None
    vectors = final.networks.towers_index.vectors[:, :-1]
    final.related = RelatedItems.over(final.neighbours, vectors, config.index, seed=config.seed)

    progress("writing", 0.97)
    final.save(out)
    write_manifest(
        out,
        Manifest(
            version=version,
            kind=kind,
            created_at=int(time.time() * 1000),
            config=asdict(config),
            events=len(log),
            trained_through=int(log.ts[-1]) if len(log) else 0,
            offsets=dict(offsets),
            metrics=metrics,
        ),
    )
    progress("done", 1.0)
    return Outcome(kind, metrics, promoted, why, losses)


@dataclass(frozen=True)
class Course:
    """The data of one training, in rows that go on from the incumbent's."""

    config: TrainingConfig
    popularity: PopularityConfig
    items: list[ItemContent]
    content: TokenTable
    facts: ItemFacts
    trends: TrendTable
    allowed: npt.NDArray[np.bool_]
    histories: Histories
    targets: npt.NDArray[np.bool_]
    likes: Likes
    compute: Compute

    @classmethod
    def over(
        cls, data: TrainingData, config: TrainingConfig, popularity: PopularityConfig, known: Sequence[str]
    ) -> Course:
        """The course of these data.

        Raises:
            ValueError: the configuration asks for a GPU, and there is none.
        """
        compute = Compute.of(config)
        described = {item.item_id: item for item in data.items}
        item_ids = list(dict.fromkeys([*known, *described, *data.interactions.item_ids]))
        rows = {item_id: row for row, item_id in enumerate(item_ids)}
        items = [described.get(item_id) or BareItem(item_id) for item_id in item_ids]
        row_of = np.array([*(rows[item_id] for item_id in data.interactions.item_ids), NO_ITEM], dtype=np.int32)
        shown = replace(data.interactions.shown, item=row_of[data.interactions.shown.item])
        log = replace(data.interactions, item=row_of[data.interactions.item], item_ids=item_ids, shown=shown)
        keys = [buckets_of(histogram_keys(item), config.token_buckets) for item in items]
        histories = Histories(log, keys, data.profiles, config)
        return cls(
            config,
            popularity,
            items,
            TokenTable.of(items, config.token_buckets),
            ItemFacts.of(items, config.token_buckets),
            TrendTable.over(log, popularity, len(items)),
            np.array([item.available for item in items], dtype=bool),
            histories,
            targets_of(histories),
            Likes(log, len(items)),
            compute,
        )

    def held_out_from(self, trained_through: int | None, min_positives: int = 0) -> int:
        """The first row of the newest slice; the incumbent has not been trained on it either.

        Args:
            min_positives: the slice is longer where it would hold fewer, up to half of the log: else the gate of a log
                with few positives would never let a successor in.
        """
        log = self.histories.log
        least = min(self.config.held_out_least, len(log) // 2)
        start = len(log) - min(max(int(len(log) * self.config.held_out_share), least), self.config.held_out_max)
        if min_positives:
            places = np.flatnonzero(self.targets)[-min_positives:]
            start = min(start, max(int(places[0]), len(log) - len(log) // 2))
        if trained_through is not None:
            new = int(np.searchsorted(log.ts, trained_through, side="right"))
            # most of the new events are learnt from before the comparison, or the incumbent would have the same news
            start = max(start, len(log) - int((len(log) - new) * _HELD_OUT_OF_NEW))
        return start

    def middle_of(self, held_out: int) -> int:
        """The row that halves the positives of the slice."""
        places = held_out + np.flatnonzero(self.targets[held_out:])
        return int(places[len(places) // 2]) if len(places) else len(self.histories.log)

    def networks(self, start: Recommender | None) -> tuple[SequenceModel, TwoTowers]:
        """New networks, or the incumbent's with room for the new items; ready to be asked, taught anything or not."""
        size, known = len(self.items), start.networks if start else None
        sizes = start.trained_items if start else size, self.config.token_buckets, len(self.popularity.half_lives_s)
        made = SequenceModel(*sizes, self.config.sequence), TwoTowers(*sizes, self.config.towers)
        if known is not None:
            for network, old in zip(made, (known.sequence, known.towers), strict=True):
                network.load_state_dict(old.state_dict())
                network.items.grow(size)
        for network in made:
            network.eval()
        return made

    def counted(self, stop: int, after: int | None, rng: np.random.Generator) -> Floats:
        """What each log row before `stop` counts, the newest most; with `after`, of the old ones only some users' do.

        A network that reads sequences takes as long for one of a user's examples as for all of them.
        """
        log = self.histories.log
        age = (log.ts[-1:] - log.ts) / 1000.0
        # an example of long ago still says what goes with what
        counted = np.maximum(2.0 ** -(age / self.config.recency_half_life_s), self.config.least_weight)
        counted[stop:] = 0.0
        if after is not None:
            old = log.ts <= after
            examples = self.targets & (counted > 0)
            share = self.config.replay_share * (examples & ~old).sum() / max(int((examples & old).sum()), 1)
            rehearsed = rng.random(len(log.user_ids)) < share
            counted[old & ~rehearsed[log.user]] = 0.0
        return counted.astype(np.float32)

    def fit(
        self,
        networks: tuple[SequenceModel, TwoTowers],
        counted: Floats,
        *,
        fine: bool,
        budget_s: float,
        rng: np.random.Generator,
        progress: Callable[[str, float], None],
    ) -> dict[str, list[float]]:
        """Teach both networks the examples; returns the loss of each epoch, by the network's name."""
        if not counted[self.targets].any():
            return {}
        sequence, towers = networks
        losses = {}

        def told(stage: str, begun: float, share: float) -> Callable[[float], None]:
            return lambda done: progress(stage, begun + share * done)

        for name, network, of_budget, tell in (
            ("sequence", sequence, 0.7, told("teaching the sequence model", 0.05, 0.4)),
            ("two_tower", towers, 0.3, told("teaching the two towers", 0.45, 0.25)),
        ):
            until = time.monotonic() + of_budget * budget_s
            lesson = Lesson(
                self.histories, self.content, self.trends, counted, self.targets, until, rng, tell, compute=self.compute
            )
            (network.fit_partial if fine else network.fit)(lesson)
            losses[name] = lesson.losses
        return losses

    def catch_up(self, networks: tuple[SequenceModel, TwoTowers], held_out: int, rng: np.random.Generator) -> None:
        """Teach the held-out slice, mixed with as much of what came before."""
        log = self.histories.log
        if held_out < len(log):
            counted = self.counted(len(log), int(log.ts[held_out]) - 1, rng)
            self.fit(
                networks, counted, fine=True, budget_s=0.2 * self.config.time_budget_s, rng=rng, progress=_silently
            )

    def recommender(
        self,
        version: str,
        networks: tuple[SequenceModel, TwoTowers],
        blend: Blend,
        stop: int,
        ranker: Ranker | None = None,
        slist: Slist | None = None,
    ) -> Recommender:
        """The networks with their items' vectors and indexes, and the neighbours, as of log row `stop`.

        Args:
            slist: the one to take, where it is not to be learnt anew.

        Raises:
            IndexRefused: an index stays below its recall floor.
        """
        sequence, towers = networks
        log = self.histories.log
        met = np.zeros(len(self.items) + 1, dtype=bool)  # the last one is no item
        met[log.item[:stop]] = True
        of_sequence, of_towers = (
            item_vectors(network, self.items, self.content, self.facts, met[:-1]) for network in networks
        )
        popularity = popularity_before(log, stop, self.popularity, len(self.items))
        newest = np.arange(max(0, stop - 256), stop)
        users = self.histories.before(newest)
        seed, index = self.config.seed, self.config.index
        together = Networks(
            sequence,
            towers,
            *(
                VectorIndex.build(
                    with_prior(vectors, model.prior.now(popularity)),
                    with_prior(model.queries(users, vectors), 1.0),
                    index,
                    seed=seed,
                )
                for model, vectors in ((sequence, of_sequence), (towers, of_towers))
            ),
        )
        return Recommender(
            version,
            self.config,
            self.popularity,
            log.item_ids,
            together,
            self.neighbours(stop),
            blend,
            self.facts_before(stop),
            ranker,
            slist=slist or self.slist(np.arange(len(log)) < stop),
        )

    def facts_before(self, stop: int) -> ItemFacts:
        """What is known of the items before log row `stop`."""
        return self.facts.met(self.histories.log.item[:stop], self.histories.log.ts[:stop])

    def neighbours(self, stop: int) -> Neighbours:
        """Who goes with whom as of log row `stop`."""
        return self.likes.counted(stop, self.config.neighbours)

    def slist(self, known: npt.NDArray[np.bool_]) -> Slist:
        """What comes after what, learnt from log rows `known` (len(log),)."""
        return Slist.fitted(self.histories, self.targets, known, self.config.slist)


def _spread(studied: Studied, course: Course) -> Spread:
    """How the ranker's features were spread among what it has to rank in the newest slice; each choice counts 1."""
    near = within_reach(Examples.together(studied.examples), studied.blend, course.config.ranker.depth)
    weights = np.exp(-near.log_odds_of_drawing.astype(np.float64))
    totals = np.bincount(near.of, weights, minlength=len(near))
    return Spread.of(names(course.popularity, course.facts.number_names), near.features, weights / totals[near.of])


def _silently(_stage: str, _done: float) -> None:
    return
