"""Nearest items by inner product: a FAISS index over the rows it was built from, and an overlay of rows added since.

A FAISS index must not be changed while it is searched, and a graph cannot forget; so new rows lie beside it and are
searched exactly until the next build.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from models.config import IndexConfig

Vectors = npt.NDArray[np.float32]

#: How many nodes a graph keeps in view, at building and at least at searching.
_BREADTH = 200
#: Up to so many rows for each that is wanted, numpy finds them in less time than a heap does.
_SCAN = 100
#: So few are always searched exactly: centres and codes cannot be learnt from them.
_FEW = 1_000
#: How many vectors a list's centre is learnt from, and in how many rounds.
_PER_LIST, _ROUNDS = 40, 8
#: Of so many times as many as are wanted, found by codes, the best are taken by the vectors themselves.
_BY_CODE = 2
#: Up to so many times the pairs that are wanted, all pairs are multiplied.
_ALL_PAIRS = 20
#: So few pairs that the cache holds what is looked up for them.
_PAIRS_AT_ONCE = 4096


class IndexRefused(Exception):
    """No index over the vectors reached the recall that is asked for."""


class VectorIndex:
    """The `k` rows of greatest inner product with a query.

    Attributes:
        kind: `exact`, `graph` (HNSW), `lists` (IVF) or `codes` (IVF-PQ).
        built: rows in the FAISS index; those from it on are the overlay.
        recall: share of the exact nearest 10 that the index found when it was built.
    """

    def __init__(self, kind: str, index: Any, vectors: Vectors, recall: float) -> None:
        self.kind = kind
        self.recall = recall
        self._index = index
        self._vectors = np.ascontiguousarray(vectors)
        self.built = len(vectors)
        self._size = len(vectors)

    @classmethod
    def build(cls, vectors: Vectors, queries: Vectors, config: IndexConfig, *, seed: int = 1) -> VectorIndex:
        """The cheapest kind for so many vectors (n, d) that reaches the recall floor, measured on `queries` (q, d).

        Raises:
            IndexRefused: not even exact search does, as when the vectors are not finite.
        """
        bounds = (max(config.exact_items, _FEW), config.graph_items, config.lists_items)
        cheapest = next((at for at, bound in enumerate(bounds) if len(vectors) <= bound), len(bounds))
        recall = 0.0
        for kind in reversed(_KINDS[: cheapest + 1]):
            made = cls(kind, _BUILDERS[kind](vectors, seed), vectors, 0.0)
            recall = made.recall = made._measured_recall(queries)
            if recall >= config.recall_floor:
                return made
        raise IndexRefused(f"recall@10 {recall:.3f} against exact search is below the floor {config.recall_floor}")

    @property
    def vectors(self) -> Vectors:
        """Every row's vector (rows, d), overlay included."""
        return self._vectors[: self._size]

    def add(self, vectors: Vectors) -> None:
        """Append rows (k, d) to the overlay."""
        end = self._size + len(vectors)
        if end > len(self._vectors):
            room = np.zeros((max(end, self._size + self._size // 8 + 64), self._vectors.shape[1]), dtype=np.float32)
            room[: self._size] = self.vectors
            self._vectors = room
        self._vectors[self._size : end] = vectors
        self._size = end

    def replace(self, rows: npt.NDArray[np.integer], vectors: Vectors) -> None:
        """Change overlay rows (k,) to vectors (k, d)."""
        if len(rows) and int(rows.min()) < self.built:
            raise ValueError(f"row {int(rows.min())} is in the built index; only rows from {self.built} on can change")
        self._vectors[rows] = vectors

    def search(self, queries: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
        """The best rows for each query (B, d): (B, k' <= 2k), -1 padded, in no particular order.

        Args:
            allowed: (rows,) which may be found, all by default. Others are passed by on the way, so that what is asked
                for is found however few may be.
        """
        if allowed is not None and allowed.all():
            allowed = None
        found = []
        if self.built:
            found.append(self._search_built(queries, min(k, self.built), allowed))
        if self._size > self.built:
            overlay, vectors = np.arange(self.built, self._size), self._vectors[self.built : self._size]
            if allowed is not None:
                overlay, vectors = overlay[allowed[self.built :]], vectors[allowed[self.built :]]
            scores = queries @ vectors.T
            if len(overlay) > k:
                found.append(overlay[np.argpartition(-scores, k - 1, axis=1)[:, :k]])
            else:
                found.append(np.broadcast_to(overlay, scores.shape))
        return np.concatenate([np.zeros((len(queries), 0), np.int64), *found], axis=1)

    def save(self, path: Path) -> None:
        """Write the built index; the vectors are kept by whoever owns them."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path, kind: str, vectors: Vectors, recall: float) -> VectorIndex:
        """What `save` wrote, over the same vectors."""
        index = faiss.read_index(str(path))
        if index.ntotal != len(vectors):
            raise ValueError(f"{path} holds {index.ntotal} vectors; {len(vectors)} are expected")
        return cls(kind, index, vectors, recall)

    def _search_built(
        self, queries: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        vectors = self._vectors[: self.built]
        if self.kind == "exact" and allowed is None and self.built <= _SCAN * k:
            return _scanned(queries, vectors, k)
        given: dict[str, Any] = {}
        wider = 1.0
        if allowed is not None:
            rows = np.flatnonzero(allowed[: self.built])
            if len(rows) <= _SCAN * k:  # an index would pass by too many of the others
                return rows[_scanned(queries, vectors[rows], min(k, len(rows)))]
            wider = self.built / len(rows)  # to come by as many as if all were allowed
            bits = np.packbits(allowed[: self.built], bitorder="little")
            given["sel"] = faiss.IDSelectorBitmap(self.built, faiss.swig_ptr(bits))
        if self.kind == "graph":
            given["efSearch"] = round(max(_BREADTH, 2 * k) * wider)
        if self.kind in ("lists", "codes"):
            given["nprobe"] = min(round(self._index.nprobe * wider), self._index.nlist)
        parameters = _PARAMETERS[self.kind](**given)
        wide = np.pad(queries, ((0, 0), (0, self._index.d - queries.shape[1])))
        if self.kind != "codes":
            return np.asarray(self._index.search(wide, k, params=parameters)[1])
        found = np.asarray(self._index.search(wide, _BY_CODE * k, params=parameters)[1])
        scores = np.where(found >= 0, np.einsum("qd,qkd->qk", queries, vectors[found]), -np.inf)
        return np.take_along_axis(found, np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)

    def _measured_recall(self, queries: Vectors, k: int = 10) -> float:
        queries = queries[:256]
        k = min(k, self.built)
        if not len(queries) or not k:
            return 1.0
        if not (np.isfinite(self.vectors).all() and np.isfinite(queries).all()):
            return 0.0
        scores = queries @ self.vectors.T
        worst = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]
        found = self._search_built(queries, k)
        # by score, not by row: rows of equal score are equally right
        reached = np.take_along_axis(scores, np.maximum(found, 0), axis=1) >= worst[:, None] - 1e-4
        return float((reached & (found >= 0)).mean())


def _scanned(queries: Vectors, vectors: Vectors, k: int) -> npt.NDArray[np.int64]:
    """The best rows for each query, in no order, (B, k)."""
    if k == len(vectors):
        return np.broadcast_to(np.arange(k), (len(queries), k))
    scores = queries @ vectors.T
    least = np.partition(scores, -k, axis=1)[:, [-k]]
    cells = np.flatnonzero(scores >= least)
    if len(cells) != len(scores) * k:  # several are as good as the last
        return np.asarray(np.argpartition(scores, -k, axis=1)[:, -k:], dtype=np.int64)
    rows: npt.NDArray[np.int64] = cells.reshape(-1, k) - np.arange(len(scores))[:, None] * scores.shape[1]
    return rows


def of_unit_length(vectors: Vectors) -> Vectors:
    """Vectors (…, d) as long as 1, so that inner products are cosines; one of length 0 stays."""
    made: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12).astype(np.float32)
    return made


def inner_products(
    queries: Vectors, vectors: Vectors, of: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> Vectors:
    """The inner product of each pair (p,) of a query (B, d) and a vector (rows, d)."""
    if len(queries) * len(vectors) <= _ALL_PAIRS * len(of):  # all of them by one matrix product, which is faster
        every: Vectors = (queries @ vectors.T).take(of * len(vectors) + items)
        return every
    some = np.empty(len(of), dtype=np.float32)
    for start in range(0, len(of), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        np.einsum("pd,pd->p", queries[of[part]], vectors[items[part]], out=some[part])
    return some


def _exact(vectors: Vectors, _seed: int) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _graph(vectors: Vectors, _seed: int) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1] + 1, 32)
    index.hnsw.efConstruction = _BREADTH
    index.add(_lifted(vectors))
    return index


def _lists(vectors: Vectors, seed: int) -> Any:
    dim, lists = vectors.shape[1] + 1, _list_count(vectors)
    return _filled(faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists), _lifted(vectors), seed)


def _codes(vectors: Vectors, seed: int) -> Any:
    lifted = _lifted(vectors)
    lifted = np.pad(lifted, ((0, 0), (0, lifted.shape[1] % 2)))
    dim = lifted.shape[1]
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, _list_count(vectors), dim // 2, 8)  # a byte for two numbers
    # codes of what is left of a vector in its list want a table for each list, which takes twice the time to search
    index.by_residual = False
    index.pq.cp.seed, index.pq.cp.niter = seed, _ROUNDS
    return _filled(index, lifted, seed)


def _list_count(vectors: Vectors) -> int:
    return int(4 * len(vectors) ** 0.5)


def _filled(index: Any, lifted: Vectors, seed: int) -> Any:
    """Inverted lists that have learnt their centres, with the vectors (n, d) in them."""
    index.cp.seed, index.cp.niter = seed, _ROUNDS
    sample = np.random.default_rng(seed).permutation(len(lifted))[: _PER_LIST * index.nlist]
    index.train(lifted[np.sort(sample)])
    index.add(lifted)
    index.nprobe = max(8, index.nlist // 32)
    return index


def _lifted(vectors: Vectors) -> Vectors:
    """One dimension more, by which the nearest by distance is the greatest by inner product (Bachrach et al., 2014)."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    lift = np.sqrt(np.maximum(squares.max() - squares, 0.0))
    return np.ascontiguousarray(np.hstack([vectors, lift[:, None]]), dtype=np.float32)


_BUILDERS = {"exact": _exact, "graph": _graph, "lists": _lists, "codes": _codes}
#: The larger the catalogue, the further along.
_KINDS: Final = tuple(_BUILDERS)
_PARAMETERS: Final[dict[str, Any]] = {
    "exact": faiss.SearchParameters,
    "graph": faiss.SearchParametersHNSW,  # type: ignore[attr-defined]
    "lists": faiss.SearchParametersIVF,
    "codes": faiss.SearchParametersIVF,
}
