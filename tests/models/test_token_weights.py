"""Token weights: what is looked up for many candidates at once is what a loop over all of them finds."""

import numpy as np
import pytest

from models.ranking.token_weights import TokenWeights, highest, summed


def test_each_candidate_gets_the_weights_of_its_own_users_tokens() -> None:
    rng = np.random.default_rng(1)
    tastes, words = (rng.integers(0, 30, (4, width)).astype(np.int32) for width in (6, 3))
    of_tastes, of_words = rng.random(tastes.shape), rng.random(words.shape)
    of, tokens = np.array([0, 0, 1, 3, 3]), rng.integers(0, 40, (5, 7)).astype(np.int32)  # some nobody has

    told = TokenWeights([tastes, words])
    table, cells = told.table((tastes, of_tastes), (words, of_words)), told.cells(of, tokens)

    def weighed(mine: np.ndarray, weights: np.ndarray, candidate: int) -> list[float]:
        user = of[candidate]
        return [float(weights[user][mine[user] == token].sum()) if token else 0.0 for token in tokens[candidate]]

    for candidate in range(len(of)):
        by_tastes, by_words = (weighed(*each, candidate) for each in ((tastes, of_tastes), (words, of_words)))
        assert summed(table, cells)[candidate] == pytest.approx([sum(by_tastes), sum(by_words)])
        assert highest(table[:, 0], cells)[candidate] == pytest.approx(max(by_tastes))
