"""The recommender: a loaded artefact that ranks users; the same code serves, is gated and is evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.artefact import ArtefactError, read_manifest
from models.artefact import verify as _verify
from models.config import TrainingConfig
from models.data.item_facts import ItemFacts
from models.data.popularity import Popularity, PopularityConfig
from models.data.tokens import ItemContent, TokenTable
from models.data.users import UserBatch
from models.networks.item_vectors import by_creators, centre_of
from models.networks.popularity_prior import SHARE_FLOORS, log_shares
from models.networks.sequence import SequenceModel
from models.networks.towers import TwoTowers
from models.ranking.blend import MODELS, Blend
from models.ranking.examples import shortlist
from models.ranking.features import State, describe, names
from models.ranking.inputs import Tokens
from models.ranking.lists import Ranking
from models.ranking.ordering import distinct
from models.ranking.ranker import Ranker, Scored
from models.reasons import because
from models.retrieval.candidates import Candidates
from models.retrieval.index import VectorIndex, inner_products
from models.retrieval.neighbours import FLOOR, Neighbours
from models.retrieval.related import Related, RelatedItems, search_related
from models.retrieval.slist import Slist
from models.retrieval.sources import SOURCES, Proposals, Request, union

TRENDING_VERSION: Final = "trending"
_SEQUENCE, _TOWERS = "sequence.safetensors", "two_tower.safetensors"

#: Of the models whose scores are features, the networks come first.
_NETWORKS: Final = MODELS.index("slist")
_USERS_AT_ONCE = 64
#: Cells of the users-by-items table that one slice of a batch may take.
_MAX_CELLS = 1 << 25

Floats = npt.NDArray[np.float32]


@dataclass
class Networks:
    """The trained networks and the index of each one's item vectors; the indexes have the same rows.

    The indexed vectors end in the item's prior as of the build, so that the search finds what is both fit and popular;
    the blend's features leave it out and take popularity as it is now.
    """

    sequence: SequenceModel
    towers: TwoTowers
    sequence_index: VectorIndex
    towers_index: VectorIndex


class Recommender:
    """Ranks users. One thread at a time: `admit` changes what `rank` searches.

    Attributes:
        version: the artefact's.
        item_ids: the item of each row; new items get rows at the end.
        related: what is like each item, as of the training; None before it is looked up.
        offsets: by `log:partition`, the offset up to which it was trained; its neighbours follow what comes after.
    """

    def __init__(
        self,
        version: str,
        config: TrainingConfig,
        popularity: PopularityConfig,
        item_ids: Iterable[str],
        networks: Networks | None,
        neighbours: Neighbours | None = None,
        blend: Blend | None = None,
        facts: ItemFacts | None = None,
        ranker: Ranker | None = None,
        related: RelatedItems | None = None,
        slist: Slist | None = None,
    ) -> None:
        self.version = version
        self.config = config
        self.popularity = popularity
        self.item_ids = list(item_ids)
        self.networks = networks
        self.neighbours = neighbours
        self.slist = slist
        self._learnt_from = np.zeros(0, np.float32) if neighbours is None else neighbours.likes.copy()
        self.blend = blend or Blend.prior(popularity)
        self.facts = facts or ItemFacts(config.token_buckets)
        self.ranker = ranker
        self.related = related
        self.offsets: Mapping[str, int] = {}
        self._rows = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._trained = len(self.item_ids)

    @classmethod
    def trending_only(cls, popularity: PopularityConfig, config: TrainingConfig | None = None) -> Recommender:
        """Trending items alone."""
        return cls(TRENDING_VERSION, config or TrainingConfig(), popularity, [], None)

    @classmethod
    def untaught(cls, popularity: PopularityConfig, config: TrainingConfig) -> Recommender:
        """What ranks before the first model: trending items, and neighbours, which learn without a training."""
        return cls(TRENDING_VERSION, config, popularity, [], None, Neighbours.none(config.neighbours))

    @property
    def index_name(self) -> str:
        """Which index is searched, and its build."""
        if self.networks is None:
            return "none"
        return f"{self.networks.sequence_index.kind}-{self.version}"

    @property
    def trained_items(self) -> int:
        """Rows that training has met; those from it on came since."""
        return self._trained

    @cached_property
    def centre(self) -> Floats:
        """See `centre_of`; of the item tower."""
        assert self.networks is not None, "the towers are trained"
        return centre_of(self.networks.towers_index.vectors[: self._trained, :-1], self.facts.is_met[: self._trained])

    def row_of(self, item_id: str) -> int | None:
        """The row of an item; None for one that was not admitted."""
        return self._rows.get(item_id)

    def admit(self, items: Sequence[ItemContent]) -> npt.NDArray[np.int32]:
        """The rows (k,) of items; one not known yet gets a row, and a vector out of its content.

        Of an item that the networks were trained on a changed content is left for the next training.
        """
        rows = np.empty(len(items), dtype=np.int32)
        fresh: dict[int, ItemContent] = {}
        known = len(self.item_ids)
        for place, item in enumerate(items):
            row = self._rows.setdefault(item.item_id, len(self.item_ids))
            if row == len(self.item_ids):
                self.item_ids.append(item.item_id)
            rows[place] = row
            if row >= self._trained:
                fresh[row] = item
        if fresh:
            order = np.array(sorted(fresh), dtype=np.int64)
            described = [fresh[row] for row in order.tolist()]
            if self.networks is not None:
                self.facts.put(order, described)
                self._overlay(order, described, known)
        return rows

    def rank(
        self,
        users: UserBatch,
        popularity: Popularity,
        *,
        allowed: npt.NDArray[np.bool_],
        seen: Sequence[npt.NDArray[np.integer]],
        n: int,
    ) -> Ranking:
        """The `n` best items for each user.

        Args:
            popularity: the item statistics by row, of at least as many rows as there are items.
            allowed: (rows,) whether an item may be shown.
            seen: per user the rows not to show again.
        """
        rankings = [
            self._rank(users.take(part), popularity, allowed, seen[part], n) for part in self._slices(len(users))
        ]
        return Ranking(
            *(
                np.concatenate([getattr(ranking, name) for ranking in rankings])
                for name in (each.name for each in fields(Ranking))
            )
        )

    def candidates(
        self,
        users: UserBatch,
        popularity: Popularity,
        allowed: npt.NDArray[np.bool_],
        seen: Sequence[npt.NDArray[np.integer]],
    ) -> Candidates:
        """The union of what the model's sources propose, with the features of each."""
        request = self.request(users, popularity, allowed, seen)
        count = self.config.blend.candidates
        return self.among(request, [(1 << bit, source.propose(request, count)) for bit, source in enumerate(SOURCES)])

    def request(
        self,
        users: UserBatch,
        popularity: Popularity,
        allowed: npt.NDArray[np.bool_],
        seen: Sequence[npt.NDArray[np.integer]],
    ) -> Request:
        """What the sources are asked, for users and arguments as in `rank`."""
        size = len(self.item_ids)
        table = np.zeros((len(users), size), dtype=bool)
        counts = [len(items) for items in seen]
        if any(counts):
            table[np.repeat(np.arange(len(users)), counts), np.concatenate(seen)] = True
        most_seen = max(counts, default=0)
        queries: list[Floats] = []
        indexes: list[VectorIndex] = []
        networks = self.networks
        if networks is not None:
            for model, index in (
                (networks.sequence, networks.sequence_index),
                (networks.towers, networks.towers_index),
            ):
                queries.append(with_prior(_queries(model.queries, users, index.vectors[:, :-1]), 1.0))
                indexes.append(index)
        near, chances = (None if each is None else each.near(users, size) for each in (self.neighbours, self.slist))
        return Request(users, popularity, size, allowed[:size], table, most_seen, queries, indexes, near, chances)

    def among(self, request: Request, proposals: Sequence[tuple[int, Proposals]]) -> Candidates:
        """The union of proposals, each with the bit of its source, with the features of each."""
        users, items, sources = union(request, proposals)
        features, liking = self._features(request, users, items), self._liking(request, users, items)
        return Candidates(users, items, sources, features, liking)

    def describe(
        self, users: UserBatch, popularity: Popularity, candidates: Candidates, at: npt.NDArray[np.int64]
    ) -> tuple[Floats, Tokens]:
        """All that rankers read of the candidates at places `at` (k,), ascending: features and tokens."""
        vectors = None if self.networks is None else self.networks.towers_index.vectors[:, :-1]
        features = describe(users, candidates, at, State(popularity, self.facts, vectors, self.config.holidays))
        return features, Tokens.of(users, candidates.items[at], self.facts, self.config.token_buckets)

    def score(self, users: UserBatch, popularity: Popularity, candidates: Candidates) -> Scored:
        """What the blend says of all candidates, and of known users the ranker; what is beyond its depth comes last."""
        base = self.blend.score(candidates.features)
        unknown = np.full(len(base), np.nan, dtype=np.float32)
        scored = Scored(base, unknown, unknown.copy())
        if self.ranker is None or not len(base):
            return scored
        of = candidates.users
        at = shortlist(base, of, len(users), self.config.ranker.depth)
        at = at[users.known[of[at]]]
        if not len(at):
            return scored
        near = self.ranker.scored(base[at], *self.describe(users, popularity, candidates, at), of[at], len(users))
        lowest = np.full(len(users), np.inf, dtype=np.float32)
        np.minimum.at(lowest, of[at], near.scores)
        scored = replace(scored, scores=np.minimum(base, np.nextafter(lowest[of], np.float32(-np.inf))))
        for name in (each.name for each in fields(Scored)):
            getattr(scored, name)[at] = getattr(near, name)
        return scored

    # -- persistence

    def save(self, folder: Path) -> None:
        """Write everything but the manifest into `folder`."""
        networks = self.networks
        assert networks is not None, "only trained recommenders become artefacts"
        assert self.neighbours is not None
        assert self.slist is not None
        assert len(self.item_ids) == self._trained, "the overlay is no part of an artefact"
        networks.sequence.save(folder / _SEQUENCE)
        networks.towers.save(folder / _TOWERS)
        indexes = {"sequence": networks.sequence_index, "two_tower": networks.towers_index}
        tables: dict[str, npt.NDArray[Any]] = {name: index.vectors for name, index in indexes.items()}
        tables |= self.neighbours.tables() | self.slist.tables() | self.facts.tables()
        if self.related is not None:
            tables |= self.related.tables()
        save_file(tables, folder / "tables.safetensors")
        for name, index in indexes.items():
            index.save(folder / f"{name}.faiss")
        description: dict[str, Any] = {
            "blend": dict(zip(self.blend.names, self.blend.weights.tolist(), strict=True)),
            "least_shares": [share if np.isfinite(share) else None for share in self.blend.least.tolist()],
            "popularity": {"half_lives_s": self.popularity.half_lives_s, "windows_s": self.popularity.windows_s},
            "indexes": {name: {"kind": index.kind, "recall": index.recall} for name, index in indexes.items()},
        }
        if self.ranker is not None:
            description["ranker"] = self.ranker.save(folder)
            description["features"] = names(self.popularity, self.facts.number_names)
            description["numbers"] = self.facts.number_names
        (folder / "recommender.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (folder / "items.json").write_text(json.dumps(self.item_ids, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, *, verify: bool = True) -> Recommender:
        """The recommender of an artefact.

        Args:
            verify: compare every file with its checksum first.

        Raises:
            ArtefactError: the artefact is damaged, or of another format.
        """
        manifest = _verify(path) if verify else read_manifest(path)
        try:
            config = TrainingConfig.from_json(manifest.config)
            item_ids = json.loads((path / "items.json").read_bytes())
            description = json.loads((path / "recommender.json").read_bytes())
            tables = load_file(path / "tables.safetensors")
            popularity = PopularityConfig(**{name: tuple(v) for name, v in description["popularity"].items()})
            sizes = len(item_ids), config.token_buckets, len(popularity.half_lives_s)
            sequence = SequenceModel.load(path / _SEQUENCE, *sizes, config.sequence)
            towers = TwoTowers.load(path / _TOWERS, *sizes, config.towers)
            indexes = {
                name: VectorIndex.load(path / f"{name}.faiss", about["kind"], tables[name], about["recall"])
                for name, about in description["indexes"].items()
            }
            blended, weights = description["blend"].keys(), description["blend"].values()
            least = [-np.inf if share is None else share for share in description["least_shares"]]
            blend = Blend(tuple(blended), *(np.array(each, dtype=np.float32) for each in (list(weights), least)))
            facts, ranker = ItemFacts(config.token_buckets), None
            if "ranker" in description:  # one of before there were rankers still serves
                facts = ItemFacts.from_tables(tables, config.token_buckets, description["numbers"])
                if list(names(popularity, facts.number_names)) != description["features"]:
                    raise ValueError("its ranker reads other features")
                ranker = Ranker.load(path, description["ranker"], config.token_buckets, config.ranker)
            slist = Slist.from_tables(tables, config.slist)
            neighbours = Neighbours.from_tables(tables, config.neighbours)
            related = RelatedItems.from_tables(tables)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtefactError(f"{path}: not an artefact that this version can read: {error}") from error
        networks = Networks(sequence, towers, indexes["sequence"], indexes["two_tower"])
        made = cls(
            manifest.version, config, popularity, item_ids, networks, neighbours, blend, facts, ranker, related, slist
        )
        made.offsets = manifest.offsets
        return made

    # -- the parts of ranking

    def _slices(self, users: int) -> list[slice]:
        step = max(1, _MAX_CELLS // max(len(self.item_ids), 1))
        return [slice(start, start + step) for start in range(0, users, step)] or [slice(0, 0)]

    def _rank(
        self,
        users: UserBatch,
        popularity: Popularity,
        allowed: npt.NDArray[np.bool_],
        seen: Sequence[npt.NDArray[np.integer]],
        n: int,
    ) -> Ranking:
        candidates = self.candidates(users, popularity, allowed, seen)
        scored = self.score(users, popularity, candidates)
        scores = scored.scores
        order = np.lexsort((candidates.items, -scores, candidates.users))
        starts = np.searchsorted(candidates.users, np.arange(len(users)))
        ranks = np.arange(len(order)) - starts[candidates.users]
        kept = order[ranks < n]
        users_of, ranks = candidates.users[kept], ranks[ranks < n]
        ranking = Ranking.empty(len(users), n)
        ranking.items[users_of, ranks] = candidates.items[kept]
        ranking.scores[users_of, ranks] = scores[kept]
        ranking.sources[users_of, ranks] = candidates.sources[kept]
        ranking.probabilities[users_of, ranks] = scored.probabilities[kept]
        ranking.minutes[users_of, ranks] = scored.minutes[kept]
        ranking.because[:] = self.reasons(users, ranking.items)
        return ranking

    @property
    def item_vectors(self) -> Floats | None:
        """(n_items, dim) of the item tower, without the column of the prior; None before the first model."""
        return None if self.networks is None else self.networks.towers_index.vectors[:, :-1]

    def reasons(self, users: UserBatch, ranked: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """For each ranked item (B, n) the row of the recently liked item that it is most similar to, or -1: (B, n)."""
        return because(users, ranked, self.item_vectors, self.neighbours)

    def related_to(self, row: int, allowed: npt.NDArray[np.bool_], n: int) -> Related:
        """At most `n` items similar to the one of that row; before the first model, only those liked with it.

        Args:
            allowed: (rows,) whether an item may be shown.
        """
        known = self.related.of(row, allowed, n) if self.related is not None else None
        return known or search_related(row, allowed, n, self.neighbours, self.item_vectors)

    def _features(self, request: Request, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Floats:
        """The features (p, F) as the blend reads them, a feature's values beside each other in memory."""
        popularity = request.popularity
        half_lives = len(popularity.config.half_lives_s)
        features = np.empty((len(MODELS) + 1 + len(SHARE_FLOORS) * half_lives, len(of)), dtype=np.float32)
        models = features[: len(MODELS)]
        models[len(request.queries) : _NETWORKS] = 0.0
        for place, (query, index) in enumerate(zip(request.queries, request.indexes, strict=True)):
            models[place] = inner_products(query[:, :-1], index.vectors[:, :-1], of, items)
        slist, chances, near = self.slist, request.chances, request.near
        models[_NETWORKS] = 0.0 if slist is None or chances is None else slist.lifts(chances, of, items)
        models[_NETWORKS + 1] = 0.0 if near is None else near.logarithms(of, items, FLOOR)
        # the popular candidates are the yardstick: an item of which the models know nothing is as good as they are
        rows, place_of = distinct(items, len(popularity))
        shares = popularity.shares().take(rows, axis=0)
        importance = (shares.mean(axis=1) + np.float32(SHARE_FLOORS[0])).take(place_of)
        total = np.maximum(np.bincount(of, importance, minlength=len(request.users)), 1e-12)
        for values in models:
            summed = np.bincount(of, importance * values, minlength=len(request.users))
            values -= (summed / total).take(of)
        trust = self._trust(items)
        models[:_NETWORKS] *= trust
        np.subtract(1.0, trust, out=features[len(MODELS)])
        known = request.users.known
        if not known.all():  # who has done nothing yet is better served by popularity alone
            features[: len(MODELS) + 1] *= known.take(of)
        # each logarithm is taken once
        features[len(MODELS) + 1 :] = log_shares(shares).T.take(place_of, axis=1)
        return features.T

    def _liking(self, request: Request, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Floats:
        head = self.networks.sequence.next_action if self.networks is not None else None
        if head is None:
            return np.full(len(of), np.nan, dtype=np.float32)
        towards = head.towards(request.queries[0][:, :-1])
        odds: Floats = inner_products(towards[:, :-1], request.indexes[0].vectors[:, :-1], of, items) + towards[of, -1]
        return odds

    def _trust(self, items: npt.NDArray[np.int64]) -> Floats:
        """How far the networks' scores of rows (p,) can be trusted, (p,) in [0, 1), by the likes learnt from."""
        learnt = np.zeros(len(items), dtype=np.float32)
        if len(self._learnt_from):
            known = items < len(self._learnt_from)
            np.copyto(learnt, self._learnt_from.take(items, mode="clip"), where=known)
        return learnt / (learnt + np.float32(self.config.blend.half_trust))

    def _overlay(self, rows: npt.NDArray[np.int64], items: Sequence[ItemContent], known: int) -> None:
        """Give rows (k,), ascending, vectors of what is known of them; those from `known` on are not there yet."""
        assert self.networks is not None
        networks, old = self.networks, rows < known
        creators, met = self.facts.creators[: self._trained], self.facts.is_met[: self._trained]
        made = np.where(met[:, None], creators, 0)
        content = TokenTable.of(items, self.config.token_buckets)
        for index, network in ((networks.sequence_index, networks.sequence), (networks.towers_index, networks.towers)):
            with torch.no_grad():
                plain = network.of_content(content).numpy()
            plain = by_creators(plain, items, self.facts.creators[rows], index.vectors[: len(made), :-1], made)
            vectors = with_prior(plain, network.prior.of_unknown())
            index.replace(rows[old], vectors[old])
            index.add(vectors[~old])


def _queries(ask: Callable[[UserBatch, Floats], Floats], users: UserBatch, vectors: Floats) -> Floats:
    """The users' queries (B, d): those with as long a past together, and so few that the cache holds what is made."""
    if len(users) <= _USERS_AT_ONCE:
        return ask(users, vectors)
    order = np.argsort(np.count_nonzero(users.items >= 0, axis=1), kind="stable")
    made = np.empty((len(users), vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(users), _USERS_AT_ONCE):
        some = order[start : start + _USERS_AT_ONCE]
        made[some] = ask(users.take(some), vectors)
    return made


def with_prior(vectors: Floats, prior: Floats | float) -> Floats:
    """Vectors (k, dim) with one number more, so that inner products with queries that end in 1 have the prior added."""
    column = np.broadcast_to(np.asarray(prior, dtype=np.float32), (len(vectors),))
    return np.concatenate([vectors, column[:, None]], axis=1)
