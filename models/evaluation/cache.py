"""Fits: what the contenders of a fold have learnt, each once, in a folder; an evaluation asks what it finds there.

A folder is told by all that its fits depend on: the data, what the fold lets models know of it, the configuration, and
the code of the models. So protocols that ask different things of the same past share its fits.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors import SafetensorError

from models.artefact import ArtefactError
from models.evaluation.baselines import Contender, Fit, Known, SlistAlone, of_model
from models.evaluation.matrix_baselines import ContentBased, FactorsBySGD, UserUser, WeightedALS
from models.evaluation.splits import Fold
from models.evaluation.standalone_sequence import Alone
from models.evaluation.streaming_baselines import ItemItemFirst, SegmentTrending, Trending, best_half_life
from models.recommender import Recommender
from models.training.context import Course, TrainingData
from models.training.train import train

#: Those that come out of one training of the whole stack.
OF_STACK: Final = ("system", "blend", "sequence", "two_tower")
#: Those that are fitted each on its own.
KINDS: Final[Mapping[str, type[Fit]]] = {
    "slist": SlistAlone,
    "trending": Trending,
    "segment_trending": SegmentTrending,
    "item_item": ItemItemFirst,
    "user_user": UserUser,
    "als": WeightedALS,
    "sgd": FactorsBySGD,
    "content": ContentBased,
}
#: Those that are told the best half-life of trending.
OF_HALF_LIFE: Final = frozenset({"trending", "segment_trending", "item_item"})
_SECONDS: Final = "seconds.json"

_CONTENT: Final = ("item_id", "title", "available", "published_at", "duration_s", "categorical", "numeric", "text")

Progress = Callable[[str, float], None]
T = TypeVar("T")


class Fits:
    """The contenders of one fold.

    Args:
        data: all of the log.
        root: where the folders of folds lie.
        alone: the sequence model is one taught alone, not that of the stack.

    Attributes:
        folder: this fold's.
        found: what was there already.
    """

    def __init__(self, data: TrainingData, course: Course, fold: Fold, root: Path, *, alone: bool) -> None:
        self._data = data
        self._course = course
        self._fold = fold
        self._alone = alone
        self._stack: Recommender | None = None
        self.folder = root / _name(data, course, fold)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found: set[str] = set()

    def contender(self, name: str, progress: Progress) -> Contender:
        """The model of that name as of the split.

        Args:
            progress: called with what is being fitted, and the share of that which is done.

        Raises:
            ArtefactError: what is in the folder cannot be read.
        """
        if name == "sequence" and self._alone:
            return self._fitted("sequence_alone", Alone, progress)
        if name not in OF_STACK:
            return self._fitted(name, KINDS[name], progress)
        if self._stack is None:
            self._stack = self._read("stack", partial(self._train, progress), Recommender.load)
        return of_model(name, self._course, self._fold, self._stack)

    @cached_property
    def half_life_s(self) -> float:
        """See `best_half_life`."""

        def fit(folder: Path) -> None:
            (folder / _SECONDS).write_text(json.dumps(best_half_life(self._course, self._fold)))

        return self._read("half_life", fit, lambda folder: float(json.loads((folder / _SECONDS).read_bytes())))

    def _fitted(self, name: str, kind: type[Fit], progress: Progress) -> Fit:
        def fit(folder: Path) -> None:
            half_life_s = self.half_life_s if name in OF_HALF_LIFE else 0.0
            tell = partial(progress, f"fitting {name}")
            tell(0.0)
            kind.fitted(Known(self._data, self._course, self._fold, half_life_s, tell)).save(folder)

        return self._read(name, fit, lambda folder: kind.load(folder, self._course))

    def _train(self, progress: Progress, folder: Path) -> None:
        train(
            Known(self._data, self._course, self._fold).learnt,
            self._course.config,
            kind="retrain",
            incumbent=None,
            out=folder,
            version="evaluated",
            offsets={},
            popularity=self._course.popularity,
            progress=progress,
        )

    def _read(self, name: str, fit: Callable[[Path], None], load: Callable[[Path], T]) -> T:
        """What is kept under a name; where there is none, it is fitted first, and seen by others once it is whole."""
        place = self.folder / name
        if place.is_dir():
            self.found.add(name)
        else:
            with tempfile.TemporaryDirectory(prefix=".fitting-", dir=self.folder) as staged:
                made = Path(staged) / name
                made.mkdir()
                fit(made)
                try:
                    made.rename(place)
                except OSError:
                    if not place.is_dir():  # another evaluation was quicker
                        raise
        try:
            return load(place)
        except (ArtefactError, SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise ArtefactError(f"{place} cannot be read: {error}; delete it to have it fitted anew") from error


def _name(data: TrainingData, course: Course, fold: Fold) -> str:
    """A hash of all that the fits of a fold depend on."""
    log = data.interactions
    told: list[Any] = [_code(), asdict(course.config), asdict(course.popularity), fold.start, fold.begin]
    told += [list(log.user_ids), list(log.item_ids), list(log.searches.words)]
    told += [[getattr(item, name) for name in _CONTENT] for item in data.items]
    told += [{user: list(tokens) for user, tokens in data.profiles.items()}]
    hashed = hashlib.sha256(json.dumps(told, sort_keys=True, default=list).encode())
    columns = [getattr(log, name) for name in log.COLUMNS]
    columns += [log.shown.user, log.shown.item, log.shown.ts, log.searches.user, log.searches.word, log.searches.ts]
    for column in (*columns, fold.training):
        hashed.update(column.tobytes())
    return hashed.hexdigest()[:32]


@cache
def _code() -> str:
    """A hash of the models' code: what an earlier state of it has learnt is not taken for what this one learns."""
    hashed = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()
