"""Boosted trees (LightGBM; Ke et al., 2017) as what is to be added to the blend's score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.config import RankerConfig
from models.ranking.examples import Examples

Floats = npt.NDArray[np.float32]

_LEAST_IN_LEAF = 50
_TRUNCATION = 20


class Booster:
    """Trees over the features as they are; what is not known is a branch of its own.

    Args:
        text: the trees, in LightGBM's own text form.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._trees = _lightgbm().Booster(model_str=text)

    @classmethod
    def fitted(
        cls, examples: Examples, log_odds: npt.NDArray[np.floating], names: tuple[str, ...], config: RankerConfig
    ) -> Booster:
        """The trees that best explain the choices, beginning from `log_odds` (k,) of the described candidates.

        `boosting` foretells for each candidate alone whether it is chosen; `lambdarank` orders them (Burges, 2010).
        """
        lightgbm = _lightgbm()
        chosen = np.zeros(len(examples.at), dtype=np.int32)
        chosen[examples.chosen] = 1
        data = lightgbm.Dataset(
            examples.features,
            chosen,
            weight=examples.weights[examples.of],
            group=np.bincount(examples.of, minlength=len(examples)) if config.kind == "lambdarank" else None,
            init_score=log_odds - examples.log_odds_of_drawing,
            feature_name=list(names),
            free_raw_data=True,
        )
        parameters = {
            "objective": "lambdarank" if config.kind == "lambdarank" else "binary",
            "learning_rate": config.shrinkage,
            "num_leaves": config.leaves,
            "min_data_in_leaf": _LEAST_IN_LEAF,
            "lambda_l2": 5.0,
            "feature_fraction": 0.5,
            "max_bin": 63,
            "lambdarank_truncation_level": _TRUNCATION,
            "num_threads": 1,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        return cls(lightgbm.train(parameters, data, num_boost_round=config.trees).model_to_string())

    def added(self, features: Floats) -> Floats:
        """What the trees add to the scores (k,) of candidates with features (k, F)."""
        if not len(features):
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._trees.predict(features, raw_score=True, num_threads=1), dtype=np.float32)


def _lightgbm() -> Any:
    """The library, loaded when it is needed: it wants the system's OpenMP, which not every machine has."""
    try:
        import lightgbm
    except OSError as error:
        raise RuntimeError(
            f"LightGBM cannot be loaded ({error}): install the system's OpenMP (libgomp1; libomp on macOS), "
            "or choose another ranker than boosting and lambdarank"
        ) from None
    return lightgbm
