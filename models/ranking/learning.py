"""How rankers are learnt: each half of the newest slice is judged by one that learnt from the past and the other half.

What that shows of halves not learnt from sets how much of the model is added to the blend, so that one that learnt
chance is not listened to, and calibrates the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import RankerConfig
from models.ranking.blend import Blend
from models.ranking.calibration import Calibration, Isotonic, Platt, log_odds_of
from models.ranking.examples import Examples
from models.ranking.ranker import Ranker, drawn, within_reach

Floats = npt.NDArray[np.float32]

_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def learn(
    past: Examples,
    halves: Sequence[Examples],
    crossed: Sequence[Blend],
    blend: Blend,
    width: int,
    buckets: int,
    config: RankerConfig,
    start: Ranker | None = None,
) -> tuple[list[Ranker], Ranker]:
    """For each half the ranker that did not learn from it, and one that learnt from all.

    Args:
        past: examples of before the slice.
        crossed: for each half the blend that did not learn from it.
        blend: the one that learnt from all.
        width: how many features there are.
        start: one that learnt from what was before the slice, to go on from.
    """
    past = replace(past, weights=past.weights * np.float32(config.past_weight))
    others = [Examples.together([past, half]) for half in reversed(halves)]
    given = width, buckets, config, start
    judges = [Ranker.fitted(other, each, *given) for other, each in zip(others, crossed, strict=True)]
    final = Ranker.fitted(Examples.together([past, *halves]), blend, *given)

    judged = []
    for half, each, judge in zip(halves, crossed, judges, strict=True):
        near = within_reach(half, each, config.depth)
        if len(near):
            base = each.score(near.choices.features)[near.at]
            judged.append((near, base, judge.added(near.features, near.tokens, near.of)))
    if not judged or final.model is None:
        share = 0.0
    else:
        share = max(
            _SHARES, key=lambda share: sum(_likelihood(near, base + share * more) for near, base, more in judged)
        )
    calibration = _calibrated([(near, base + share * more) for near, base, more in judged], config)
    reached = sum(len(near) for near, _, _ in judged)
    coverage = reached / max(reached + sum(near.missed for near, _, _ in judged), 1)

    def finished(ranker: Ranker) -> Ranker:
        return replace(ranker, share=share, calibration=calibration, coverage=coverage)

    return [finished(judge) for judge in judges], finished(final)


def _likelihood(examples: Examples, scores: Floats) -> float:
    """The log-probability of all that was chosen, weighted, by scores (k,) of the described candidates."""
    return float((drawn(examples, scores)[examples.chosen] * examples.weights).sum())


def _calibrated(judged: Sequence[tuple[Examples, Floats]], config: RankerConfig) -> Calibration:
    """The calibration of scores (k,) of described candidates; one that stands for several counts as many."""
    if not judged:
        return Platt()
    chosen = []
    for examples, scores in judged:
        chosen.append(np.zeros(len(scores), dtype=bool))
        chosen[-1][examples.chosen] = True
    return (Isotonic if config.calibration == "isotonic" else Platt).fitted(
        np.concatenate([log_odds_of(drawn(examples, scores)) for examples, scores in judged]),
        np.concatenate(chosen),
        np.concatenate([np.exp(-examples.log_odds_of_drawing.astype(np.float64)) for examples, _ in judged]),
    )
