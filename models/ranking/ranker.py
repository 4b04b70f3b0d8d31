"""The ranker: orders the best of the blend anew, and tells the chance that each is liked next, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file

from models.config import RankerConfig
from models.ranking.blend import Blend
from models.ranking.boosting import Booster
from models.ranking.calibration import Calibration, Isotonic, Platt, log_odds_of
from models.ranking.examples import Examples, log_softmax, shortlist
from models.ranking.inputs import Scaling, Tokens
from models.ranking.minutes import Minutes
from models.ranking.ranking_networks import PARTS, RankingNetwork, fit_network

Floats = npt.NDArray[np.float32]

TREES: Final = ("boosting", "lambdarank", "forest")
_TABLES, _TREES = "ranker.safetensors", "ranker.txt"
_NETWORK = "network."


@dataclass(frozen=True)
class Scored:
    """What the ranker says of candidates.

    Attributes:
        scores: float32 (k,) to order by.
        probabilities: float32 (k,) that the next item new to the user that the user likes is this one.
        minutes: float32 (k,) that the user will watch it, should that be so; nan where nothing is known of minutes.
    """

    scores: Floats
    probabilities: Floats
    minutes: Floats


@dataclass(frozen=True)
class Ranker:
    """A model of one of the kinds of `RankerConfig`.

    Attributes:
        config: of the kind, and how deep it looks.
        scaling: how features are read by networks and by what tells minutes.
        model: what adds to the blend's score; None for the kind `blend`.
        share: how much of that is added, in [0, 1].
        calibration: from log-odds among the user's candidates to those of coming true.
        coverage: how often what came true was a candidate at all.
        minutes: None where the log knows nothing of minutes.
    """

    config: RankerConfig
    scaling: Scaling
    model: RankingNetwork | Booster | None
    share: float = 1.0
    calibration: Calibration = field(default_factory=Platt)
    coverage: float = 1.0
    minutes: Minutes | None = None

    @classmethod
    def fitted(
        cls,
        examples: Examples,
        blend: Blend,
        width: int,
        buckets: int,
        config: RankerConfig,
        start: Ranker | None = None,
    ) -> Ranker:
        """The model that best explains the choices on top of the blend; not calibrated yet.

        Args:
            width: how many features there are.
            start: what to go on from. A network learns more; trees, and what tells minutes, stay as they are.
        """
        examples = within_reach(examples, blend, config.depth)
        if not len(examples):
            return _anew(start) if start else cls(config, Scaling.of(np.zeros((0, width), np.float32)), None)
        if start is not None and not isinstance(start.model, RankingNetwork):
            return _anew(start)
        scaling = start.scaling if start else Scaling.of(examples.features)
        minutes = start.minutes if start else None
        if minutes is None:
            minutes = Minutes.fitted(scaling(examples.features[examples.chosen]), examples.minutes)
        model: RankingNetwork | Booster | None = None
        base = blend.score(examples.choices.features)[examples.at]
        if config.kind in PARTS:
            known = start.model if start is not None and isinstance(start.model, RankingNetwork) else None
            model = fit_network(examples, base, scaling, buckets, config, known)
        elif config.kind in TREES:
            model = Booster.fitted(examples, log_odds_of(drawn(examples, base)), config)
        return cls(config, scaling, model, minutes=minutes)

    def added(self, features: Floats, tokens: Tokens, of: npt.NDArray[np.int64]) -> Floats:
        """What is added to the blend's scores (k,) of candidates of users `of`."""
        return self._added(features, self.scaling(features), tokens, of)

    def _added(self, features: Floats, scaled: Floats, tokens: Tokens, of: npt.NDArray[np.int64]) -> Floats:
        if self.model is None or self.share == 0.0 or not len(features):
            return np.zeros(len(features), dtype=np.float32)
        if isinstance(self.model, Booster):
            added = self.model.added(features)
        else:
            with torch.inference_mode():
                added = self.model(torch.from_numpy(scaled), tokens, of).numpy()
        return added * np.float32(self.share)

    def scored(self, base: Floats, features: Floats, tokens: Tokens, of: npt.NDArray[np.int64], n_users: int) -> Scored:
        """What is to be said of candidates (k,) of users `of`, ascending, with the blend's scores `base`."""
        scaled = self.scaling(features)
        scores = base + self._added(features, scaled, tokens, of)
        log_odds = log_odds_of(log_softmax(scores, of, n_users))
        minutes = np.full(len(of), np.nan, dtype=np.float32)
        if self.minutes is not None:
            minutes = self.minutes(scaled)
        return Scored(scores, (self.coverage * self.calibration(log_odds)).astype(np.float32), minutes)

    # -- persistence

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the model into `folder`; what is to be remembered beside it comes back, as plain JSON."""
        tables = self.scaling.tables() | (self.minutes.tables() if self.minutes is not None else {})
        tables |= self.calibration.tables()
        if isinstance(self.model, RankingNetwork):
            tables |= {_NETWORK + name: weight.numpy() for name, weight in self.model.state_dict().items()}
        elif self.model is not None:
            (folder / _TREES).write_text(self.model.text, encoding="utf-8")
        save_file({name: np.ascontiguousarray(table) for name, table in tables.items()}, folder / _TABLES)
        return {
            "learnt": self.model is not None,
            "share": self.share,
            "coverage": self.coverage,
        }

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], buckets: int, config: RankerConfig) -> Ranker:
        """What `save` wrote and returned."""
        tables = load_file(folder / _TABLES)
        scaling = Scaling.from_tables(tables)
        model: RankingNetwork | Booster | None = None
        if about["learnt"] and config.kind in PARTS:
            model = RankingNetwork(scaling.width, buckets, config)
            weights = {
                name.removeprefix(_NETWORK): table for name, table in tables.items() if name.startswith(_NETWORK)
            }
            model.load_state_dict({name: torch.from_numpy(table) for name, table in weights.items()})
            model.eval()
        elif about["learnt"]:
            model = Booster((folder / _TREES).read_text(encoding="utf-8"))
        calibration = (Isotonic if tables.keys() >= Isotonic.TABLES else Platt).from_tables(tables)
        minutes = Minutes.from_tables(tables)
        return cls(config, scaling, model, float(about["share"]), calibration, float(about["coverage"]), minutes)


def within_reach(examples: Examples, blend: Blend, depth: int) -> Examples:
    """The choices of known users that stand among the user's `depth` best by the blend: no others are ordered anew."""
    if not len(examples):
        return examples
    near = shortlist(blend.score(examples.choices.features), examples.choices.of, len(examples), depth)
    return examples.kept(np.isin(examples.choices.chosen, near) & examples.known)


def drawn(examples: Examples, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The log-probability of each described candidate, by scores (k,), in the whole that they are a sample of."""
    return log_softmax(scores - examples.log_odds_of_drawing, examples.of, len(examples)) + examples.log_odds_of_drawing


def _anew(start: Ranker) -> Ranker:
    """The model as it is; how much of it is added has to be found out again."""
    return replace(start, share=1.0)
