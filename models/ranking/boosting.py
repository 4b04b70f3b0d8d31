"""Trees, boosted or a random forest (LightGBM; Ke et al., 2017), as what is to be added to the blend's score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.config import RankerConfig
from models.ranking.examples import Examples

Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

_LEAST_IN_LEAF = 50
_TRUNCATION = 20
_LEAST_CURVATURE = 1e-6
#: Each tree is grown on a part of the examples, drawn anew, and each of its forks chooses among half of the features.
_FOREST = {
    "objective": "regression",
    "boosting": "rf",
    "boost_from_average": False,
    "bagging_freq": 1,
    "bagging_fraction": 0.632,
    "feature_fraction_bynode": 0.5,
    "num_leaves": 127,
}
#: So many choices, as many as were expected, are added to those of each leaf of a forest.
_DAMPING = 5.0


class Booster:
    """Trees over the features as they are; what is not known is a branch of its own.

    Args:
        text: the trees, in LightGBM's own text form.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._trees = _lightgbm().Booster(model_str=text)

    @classmethod
    def fitted(cls, examples: Examples, log_odds: npt.NDArray[np.floating], config: RankerConfig) -> Booster:
        """The trees that best explain the choices, beginning from `log_odds` (k,) of the described candidates.

        `boosting` foretells for each candidate alone whether it is chosen; `lambdarank` orders them (Burges, 2010);
        `forest` is the mean of many trees, each grown apart on a part of the examples (Breiman, 2001).
        """
        lightgbm = _lightgbm()
        chosen = np.zeros(len(examples.at))
        chosen[examples.chosen] = 1.0
        weights = examples.weights[examples.of].astype(np.float64)
        start = log_odds - examples.log_odds_of_drawing
        expected = 1.0 / (1.0 + np.exp(-start))
        told: dict[str, Any] = {"label": chosen, "weight": weights, "init_score": start}
        parameters: dict[str, Any] = {"objective": "binary", "feature_fraction": 0.5, "num_leaves": config.leaves}
        if config.kind == "lambdarank":
            told["group"] = np.bincount(examples.of, minlength=len(examples))
            parameters["objective"] = "lambdarank"
        elif config.kind == "forest":  # what is left to explain, as a forest begins from nothing
            curvature = np.maximum(expected * (1.0 - expected), _LEAST_CURVATURE)
            told = {"label": (chosen - expected) / curvature, "weight": weights * curvature}
            parameters = _FOREST
        parameters = parameters | {
            "learning_rate": config.shrinkage,
            "min_data_in_leaf": _LEAST_IN_LEAF,
            "lambda_l2": 5.0,
            "max_bin": 63,
            "lambdarank_truncation_level": _TRUNCATION,
            "num_threads": 1,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        data = lightgbm.Dataset(examples.features, free_raw_data=True, **told)
        trees = lightgbm.train(parameters, data, num_boost_round=config.trees)
        if config.kind == "forest":
            _weigh_leaves(trees, examples.features, chosen * weights, expected * weights)
        return cls(trees.model_to_string())

    def added(self, features: Floats) -> Floats:
        """What the trees add to the scores (k,) of candidates with features (k, F)."""
        if not len(features):
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._trees.predict(features, raw_score=True, num_threads=1), dtype=np.float32)


def _weigh_leaves(trees: Any, features: Floats, chosen: Floats64, expected: Floats64) -> None:
    """Make the leaves tell the logarithm of what was chosen (k,) in them by what was expected (k,), a tree its part."""
    for tree, leaf_of in enumerate(trees.predict(features, pred_leaf=True, num_threads=1).T.astype(np.int64)):
        told = np.log((np.bincount(leaf_of, chosen) + _DAMPING) / (np.bincount(leaf_of, expected) + _DAMPING))
        for leaf, value in enumerate((told / trees.num_trees()).tolist()):
            trees.set_leaf_output(tree, leaf, value)


def _lightgbm() -> Any:
    """The library, loaded when it is needed: it wants the system's OpenMP, which not every machine has."""
    try:
        import lightgbm
    except OSError as error:
        raise RuntimeError(
            f"LightGBM cannot be loaded ({error}): install the system's OpenMP (libgomp1; libomp on macOS), "
            "or choose another ranker than boosting, lambdarank and forest"
        ) from None
    return lightgbm
