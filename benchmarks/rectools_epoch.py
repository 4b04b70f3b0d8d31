"""RecTools' side of `benchmarks.epoch`, run by a Python that has RecTools and need not have what millstream needs."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import torch
from pytorch_lightning import Trainer  # type: ignore[import-not-found]
from rectools import Columns  # type: ignore[import-not-found]
from rectools.dataset import Dataset  # type: ignore[import-not-found]
from rectools.models import SASRecModel  # type: ignore[import-not-found]


def main(given: Path, taken: Path, shape: list[int]) -> None:
    """Fit on the rows in `given`, and write the seconds and the asked users' lists into `taken`."""
    dim, blocks, heads, length, negatives, epochs, threads = shape
    torch.set_num_threads(threads)
    with np.load(given) as log:
        user, item, asked = log["user"], log["item"], log["asked"]
    rows = pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0})
    rows[Columns.Datetime] = pd.to_datetime(np.arange(len(rows)), unit="s")  # their order is all that is read of it

    def trainer() -> Any:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return Trainer(accelerator="cpu", max_epochs=epochs, enable_model_summary=False, **quiet)

    began, worked = time.perf_counter(), time.process_time()
    dataset = Dataset.construct(rows)
    model = SASRecModel(
        n_factors=dim,
        n_blocks=blocks,
        n_heads=heads,
        session_max_len=length,
        loss="sampled_softmax",
        n_negatives=negatives,
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    seconds = time.perf_counter() - began, time.process_time() - worked
    best = model.recommend(asked, dataset, k=10, filter_viewed=True)
    places = pd.Series(np.arange(len(asked)), index=asked)
    lists = np.full((len(asked), 10), -1, dtype=np.int64)
    lists[places[best[Columns.User]].to_numpy(), best[Columns.Rank].to_numpy() - 1] = best[Columns.Item].to_numpy()
    np.savez(taken, seconds=seconds, lists=lists)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(number) for number in sys.argv[3:]])
