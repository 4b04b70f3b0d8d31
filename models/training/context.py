"""The context of one training: the log, the items and what is derived of them, in rows that all its steps share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import TrainingConfig
from models.data.interactions import NO_ITEM, Interactions
from models.data.item_facts import ItemFacts
from models.data.popularity import PopularityConfig
from models.data.tokens import BareItem, ItemContent, TokenTable, buckets_of, histogram_keys
from models.data.users import Histories
from models.networks.compute import Compute
from models.networks.item_vectors import item_vectors
from models.networks.popularity_prior import TrendTable
from models.networks.sequence import SequenceModel
from models.networks.towers import TwoTowers
from models.networks.training_loop import Lesson
from models.ranking.blend import Blend
from models.ranking.ranker import Ranker
from models.recommender import Networks, Recommender, with_prior
from models.retrieval.index import VectorIndex
from models.retrieval.likes import Likes
from models.retrieval.neighbours import Neighbours
from models.retrieval.slist import Slist
from models.training.prequential_walk import popularity_before, targets_of

Floats = npt.NDArray[np.float32]

_HELD_OUT_OF_NEW: Final = 0.4


@dataclass(frozen=True)
class TrainingData:
    """What is trained on: the interactions, the catalogue, and profile tokens by user id."""

    interactions: Interactions
    items: Sequence[ItemContent]
    profiles: Mapping[str, Sequence[str]]


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
            slist: a fitted model to use; without it one is fitted on the rows before `stop`.

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
        """The item-item neighbours as of log row `stop`."""
        return self.likes.counted(stop, self.config.neighbours)

    def slist(self, known: npt.NDArray[np.bool_]) -> Slist:
        """What comes after what, learnt from log rows `known` (len(log),)."""
        return Slist.fitted(self.histories, self.targets, known, self.config.slist)


def _silently(_stage: str, _done: float) -> None:
    return
