"""The index: each kind finds what exact search finds, new rows are found at once, and a bad build is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.config import IndexConfig
from models.retrieval.index import IndexRefused, VectorIndex

RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(2000, 16)) * RNG.uniform(0.5, 2.0, (2000, 1))).astype(np.float32)
QUERIES = RNG.normal(size=(50, 16)).astype(np.float32)
EXACT = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]


KINDS = pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("exact", IndexConfig()),
        ("graph", IndexConfig(exact_items=100)),
        ("lists", IndexConfig(exact_items=100, graph_items=100, recall_floor=0.5)),
        ("codes", IndexConfig(exact_items=100, graph_items=100, lists_items=100, recall_floor=0.5)),
    ],
)


@KINDS
def test_each_kind_finds_the_greatest_inner_products(kind: str, config: IndexConfig, tmp_path: Path) -> None:
    index = VectorIndex.build(VECTORS, QUERIES, config)
    assert index.kind == kind
    assert index.recall >= config.recall_floor
    index.save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index", kind, VECTORS, index.recall)
    for each in (index, loaded):
        found = each.search(QUERIES, 10)
        share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), EXACT.tolist(), strict=True)])
        assert share == pytest.approx(index.recall, abs=0.02)


def test_rows_added_since_the_build_are_found() -> None:
    index = VectorIndex.build(VECTORS, QUERIES, IndexConfig())
    index.add(np.zeros((3, 16), dtype=np.float32))
    index.add(9 * QUERIES[:1])
    assert 2003 in index.search(QUERIES[:1], 5)[0]
    index.replace(np.array([2003]), -9 * QUERIES[:1])
    assert index.vectors.shape == (2004, 16)
    np.testing.assert_array_equal(index.vectors[2003], -9 * QUERIES[0])
    with pytest.raises(ValueError, match="row 7 is in the built index"):
        index.replace(np.array([7]), QUERIES[:1])


@KINDS
@pytest.mark.parametrize("share", [0.9, 0.5, 0.02, 0.0])
def test_what_is_not_allowed_is_passed_by_and_takes_no_ones_place(kind: str, config: IndexConfig, share: float) -> None:
    index = VectorIndex.build(VECTORS, QUERIES, config)
    assert index.kind == kind
    index.add(VECTORS[:40] + 1.0)
    allowed = np.random.default_rng(1).random(2040) < share
    found = index.search(QUERIES, 10, allowed)
    built, overlay = found[:, :10][:, : allowed[:2000].sum()], found[:, min(10, allowed[:2000].sum()) :]
    scores = np.where(allowed, QUERIES @ index.vectors.T, -np.inf)
    for rows, part in ((built, slice(0, 2000)), (overlay, slice(2000, 2040))):
        best = np.argsort(-scores[:, part], axis=1)[:, : rows.shape[1]] + part.start
        assert rows.shape[1] == min(10, allowed[part].sum())
        assert allowed[rows[rows >= 0]].all()
        right = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), best.tolist(), strict=True)]
        assert sum(right) >= (1.0 if kind == "exact" or share < 0.1 else 0.45) * best.size


@pytest.mark.parametrize(
    ("bounds", "kind"),
    [((2000, 0, 0), "exact"), ((1999, 2000, 0), "graph"), ((1999, 1999, 2000), "lists"), ((1999, 1999, 1999), "codes")],
)
def test_the_size_of_the_catalogue_chooses_the_kind(bounds: tuple[int, int, int], kind: str) -> None:
    assert VectorIndex.build(VECTORS, QUERIES, IndexConfig(*bounds, recall_floor=0.1)).kind == kind


@pytest.mark.parametrize("count", [1, 20, 300])
def test_what_is_too_little_to_learn_centres_of_is_searched_exactly_whatever_is_set(count: int) -> None:
    index = VectorIndex.build(VECTORS[:count], QUERIES, IndexConfig(0, 0, 0))
    assert (index.kind, index.recall) == ("exact", 1.0)


def test_a_kind_below_the_floor_gives_way_to_a_more_exact_one() -> None:
    config = IndexConfig(exact_items=100, graph_items=100, lists_items=100, recall_floor=0.9999)
    assert VectorIndex.build(VECTORS, QUERIES, config).kind in ("graph", "exact")


def test_vectors_that_are_no_numbers_are_refused() -> None:
    broken = VECTORS.copy()
    broken[3, 3] = np.nan
    with pytest.raises(IndexRefused, match="below the floor"):
        VectorIndex.build(broken, QUERIES, IndexConfig())


def test_an_index_of_nothing_finds_nothing() -> None:
    index = VectorIndex.build(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), IndexConfig())
    assert index.search(np.ones((2, 4), np.float32), 5).shape == (2, 0)
