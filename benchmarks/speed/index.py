"""The kinds of index: what each takes to build, to search and to hold, and how much it finds.

    python -m benchmarks.speed.index [--vectors 300000] [--kind lists --kind codes …] [--report FILE]

The vectors are made: 65 numbers, as those of the default networks, around 2,000 centres, the last one as spread as
popularity is. Searched are the 100 best of 256 queries. Times are the processor's, with one thread, so they are best
compared within one run.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from models.config import IndexConfig
from models.networks.threads import use_threads
from models.retrieval.index import VectorIndex, Vectors

DIM, CENTRES, QUERIES, WANTED = 65, 2_000, 256, 100
#: What makes a catalogue of any size one for this kind.
KINDS: Final = {
    "exact": IndexConfig(exact_items=10**9),
    "graph": IndexConfig(exact_items=0, graph_items=10**9, recall_floor=0.0),
    "lists": IndexConfig(exact_items=0, graph_items=0, lists_items=10**9, recall_floor=0.0),
    "codes": IndexConfig(exact_items=0, graph_items=0, lists_items=0, recall_floor=0.0),
}


def made(count: int) -> tuple[Vectors, Vectors]:
    """Vectors (count, DIM) and queries (QUERIES, DIM)."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CENTRES, DIM))
    vectors = 0.7 * (centres[rng.integers(0, CENTRES, count)] + rng.normal(size=(count, DIM)))
    vectors[:, -1] = -2.0 * np.abs(rng.normal(size=count))
    queries = centres[rng.integers(0, CENTRES, QUERIES)] + 0.5 * rng.normal(size=(QUERIES, DIM))
    queries[:, -1] = 1.0
    return vectors.astype(np.float32), queries.astype(np.float32)


def measured(kind: str, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """Seconds to build, milliseconds a query, the share of the best that is found, and megabytes."""
    begun = time.process_time()
    index = VectorIndex.build(vectors, queries, KINDS[kind])
    built = time.process_time()
    found = index.search(queries, WANTED)
    searched = time.process_time()
    assert index.kind == kind, f"{index.kind} was built, not {kind}"
    shares = []
    for query, rows in zip(queries, found, strict=True):
        scores = vectors @ query
        best = np.argpartition(-scores, WANTED - 1)[:WANTED]
        shares.append(len(np.intersect1d(best, rows)) / WANTED)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        size = (Path(folder) / "index").stat().st_size
    return {
        "build_s": built - begun,
        "search_ms": 1000.0 * (searched - built) / len(queries),
        "recall_at_100": float(np.mean(shares)),
        "megabytes": size / 1e6,
    }


@click.command()
@click.option("--vectors", "count", default=300_000, show_default=True, type=click.IntRange(20_000))
@click.option("--kind", "kinds", multiple=True, default=list(KINDS), show_default=True, type=click.Choice(list(KINDS)))
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(count: int, kinds: tuple[str, ...], report: Path | None) -> None:
    use_threads(1)
    vectors, queries = made(count)
    results: dict[str, Any] = {}
    print(f"| {count:,} vectors | build, s | search, ms | recall@{WANTED} | MB |\n|{' --- |' * 5}")
    for kind in kinds:
        told = results[kind] = measured(kind, vectors, queries)
        row = f"{told['build_s']:.1f} | {told['search_ms']:.2f} | {told['recall_at_100']:.3f} | {told['megabytes']:.0f}"
        print(f"| {kind} | {row} |", flush=True)
    if report:
        report.write_text(json.dumps({"vectors": count, "kinds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
