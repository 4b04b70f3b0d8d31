"""The metrics of lists against RecTools', list by list, on rankings made at random.

    python -m benchmarks.quality.metrics --rectools PYTHON [--lists 2000] [--items 300] [--seed 0]

Fails where one differs by more than rounding. `benchmarks/rectools/sasrec.py` says how to install RecTools. It divides
average precision by the number of relevant items, ours by how many of these a list of k can hold; the comparison
corrects for that.
"""

import subprocess
import tempfile
from pathlib import Path

import click
import numpy as np

from benchmarks.tables import table
from models.metrics import list_metrics as lm

K = 10
#: So many lists leave some of the catalogue out.
COVERING = 20
TOLERANCE = 1e-9


@click.command()
@click.option("--rectools", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--lists", "users", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--items", "catalogue", default=300, show_default=True, type=click.IntRange(2 * K))
@click.option("--seed", default=0, show_default=True)
def main(rectools: Path, users: int, catalogue: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = rng.permuted(np.tile(np.arange(catalogue), (users, 1)), axis=1)
    relevant = rng.integers(1, 3 * K, users)
    hits = np.arange(catalogue) < relevant[:, None]
    hits = rng.permuted(hits, axis=1)
    of_users, places = np.nonzero(hits)
    ours = {
        "recall": lm.recall(hits, relevant, K),
        "precision": lm.precision(hits, K),
        "f1": lm.f1(hits, relevant, K),
        "hit_rate": lm.hit_rate(hits, K),
        "ndcg": lm.ndcg(hits, relevant, K),
        "average_precision": lm.average_precision(hits, relevant, K) * np.minimum(relevant, K) / relevant,
        "reciprocal_rank": lm.reciprocal_rank(hits),
        "auc": lm.auc(hits, relevant, np.full(users, catalogue), np.ones_like(hits)),
        "coverage": np.array([lm.coverage(lists[:COVERING, :K], catalogue)]),
    }
    script = Path(__file__).parents[1] / "rectools" / "rectools_metrics.py"
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "given.npz", Path(folder) / "taken.npz"
        np.savez(given, lists=lists, users=of_users, items=lists[of_users, places], k=K, covering=COVERING)
        subprocess.run([rectools, "-W", "ignore", script, given, taken], check=True)
        with np.load(taken) as answer:
            theirs = dict(answer)
    furthest = {name: float(np.abs(values - theirs[name]).max()) for name, values in ours.items()}
    rows = [
        (name, f"{values.mean():.6f}", f"{theirs[name].mean():.6f}", f"{furthest[name]:.1e}")
        for name, values in ours.items()
    ]
    print(table(("metric", "ours, mean", "RecTools', mean", "furthest apart"), rows))
    if max(furthest.values()) > TOLERANCE:
        raise SystemExit(f"{max(furthest, key=lambda name: furthest[name])} is not what RecTools has")


if __name__ == "__main__":
    main()
