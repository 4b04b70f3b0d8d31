"""Selection: diversity, caps and calibration, exactly as their definitions say."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import IndexConfig
from models.data.labels import Action
from models.networks.item_vectors import centre_of
from models.retrieval.index import VectorIndex
from serving.pipeline.selection import Determinantal, Greedy, Similarity, Slates, cosines
from streams.contract.events import ItemRecord
from tests.serving.pipeline.bench import Bench, pipeline


def slates(scores: Any) -> Slates:
    table = np.atleast_2d(np.array(scores, np.float32))
    items = np.where(np.isfinite(table), np.arange(table.shape[1]), -1).astype(np.int64)
    return Slates(items, table, np.ones(table.shape, np.uint32), table, table)


def alike(monkeypatch: pytest.MonkeyPatch, cosines: Any) -> None:
    table = np.atleast_3d(np.array(cosines, np.float32)).reshape(1, len(cosines), len(cosines))
    monkeypatch.setattr("serving.pipeline.selection.cosines", lambda _query, items: np.repeat(table, len(items), 0))


def test_likeness_to_what_was_chosen_takes_from_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    alike(monkeypatch, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    near = slates([3.0, 2.9, 2.0])
    assert Greedy([Similarity(0.5)]).order(None, near, 3).tolist() == [[0, 1, 2]]  # type: ignore[arg-type]
    assert Greedy([Similarity(1.0)]).order(None, near, 3).tolist() == [[0, 2, 1]]  # type: ignore[arg-type]


def test_what_all_vectors_have_in_common_is_no_likeness() -> None:
    """In a narrow cone any two vectors have a cosine near 1; what tells them apart is how they are off its axis."""
    off = np.array([[1, 0], [2, 0], [-1, 0], [0, 1], [-2, -1]], np.float32)
    vectors = np.concatenate([np.full((5, 1), 9, np.float32), off, np.arange(5, dtype=np.float32)[:, None]], axis=1)
    index = VectorIndex.build(vectors, vectors, IndexConfig())
    index.add(np.array([[9, 0, 5, 7]], np.float32))  # new since: the mean stays
    centre = centre_of(vectors[:, :-1], np.ones(5, bool))
    query: Any = SimpleNamespace(model=SimpleNamespace(networks=SimpleNamespace(towers_index=index), centre=centre))
    [found] = cosines(query, np.array([[0, 1, 2, 3, 5, -1]]))
    assert found.round(5).tolist() == [
        [1, 1, -1, 0, 0, 0],
        [1, 1, -1, 0, 0, 0],
        [-1, -1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_a_determinantal_list_is_the_greedy_maximum_of_its_determinant(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(7, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = rng.normal(size=7)
    alike(monkeypatch, vectors @ vectors.T)
    strength = 0.4
    theta = (1 - strength) / (2 * strength)
    quality = np.exp(theta * (scores - scores.max()))
    kernel = quality[:, None] * (vectors @ vectors.T) * quality[None, :]
    expected: list[int] = []
    for _ in range(4):  # beyond the vectors' four dimensions every determinant is 0
        gains = {
            n: np.linalg.det(kernel[np.ix_([*expected, n], [*expected, n])]) for n in range(7) if n not in expected
        }
        expected.append(max(gains, key=lambda n: gains[n]))
    assert Determinantal(strength).order(None, slates(scores), 4).tolist() == [expected]  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12),
    st.integers(1, 8),
    st.sampled_from(["greedy", "dpp"]),
    st.integers(0, 100),
)
def test_an_order_has_each_item_once_and_leaves_out_none_that_fits(
    scores: list[float], places: int, kind: str, seed: int
) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(scores), 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        alike(patch, vectors @ vectors.T)
        padded = slates([*scores, -np.inf])
        patch.setattr(
            "serving.pipeline.selection.cosines",
            lambda _query, _items: np.pad(vectors @ vectors.T, ((0, 1), (0, 1)))[None],
        )
        selector = Greedy([Similarity(0.7)]) if kind == "greedy" else Determinantal(0.3)
        [order] = selector.order(None, padded, places).tolist()  # type: ignore[arg-type]
    chosen = [column for column in order if column >= 0]
    assert len(chosen) == min(places, len(scores)) == len(set(chosen))
    assert len(scores) not in chosen, "what pads is never chosen"
    assert scores[chosen[0]] == pytest.approx(max(scores)), "the best is the first, but for rounding"


def test_a_cap_holds_for_each_value_and_not_for_what_has_none() -> None:
    records = [ItemRecord(item_id=f"a{n}", categorical={"series": ["A"]}) for n in range(4)]
    records += [ItemRecord(item_id="b", categorical={"series": ["B"]})]
    bench = Bench({f"a{n}": 90 - n for n in range(4)} | {"b": 20, "x": 10, "y": 5}, records)
    assert bench.listed(pipeline(caps={"series": 2}), size=5) == ["a0", "a1", "b", "x", "y"]
    assert bench.listed(pipeline(caps={"series": 2}), size=7) == ["a0", "a1", "b", "x", "y", "a2", "a3"], (
        "the list is filled from the reserve all the same"
    )


def test_a_calibrated_list_has_the_histories_shares() -> None:
    records = [
        ItemRecord(item_id=f"{genre}{n}", categorical={"genre": [genre]}) for genre in ("d", "c") for n in range(12)
    ]
    bench = Bench({f"d{n}": 90 for n in range(12)} | {f"c{n}": 50 for n in range(12)}, records)
    acts = [(f"d{n}", Action.WATCH, 1.0, 1) for n in range(3)] + [(f"c{n}", Action.WATCH, 1.0, 1) for n in range(3)]
    plain = bench.listed(pipeline(), acts=acts)
    calibrated = bench.listed(pipeline(calibration={"strength": 20.0}), acts=acts)
    shares = [sum(name.startswith("d") for name in names) / 10 for names in (plain, calibrated)]
    assert shares[0] == 1.0 and shares[1] == pytest.approx(0.5, abs=0.1)
    assert bench.listed(pipeline(calibration={"strength": 20.0})) == bench.listed(pipeline()), "without a history"


def test_each_user_of_a_batch_gets_what_the_user_alone_would() -> None:
    records = [ItemRecord(item_id=f"i{n}", categorical={"genre": [f"g{n % 3}"]}) for n in range(20)]
    bench = Bench({f"i{n}": 40 - n for n in range(20)}, records)
    made = pipeline(caps={"genre": 2}, exploration={"rate": 0.0})
    lists = bench.names(made.run(bench.query(made, 5, size=6)))
    assert lists == [bench.listed(made, size=6)] * 5
    assert all(count == 2 for _, count in _counts(lists[0]))


def _counts(names: list[str]) -> list[tuple[int, int]]:
    groups = sorted(int(name[1:]) % 3 for name in names)
    return [(group, len(list(some))) for group, some in itertools.groupby(groups)]
