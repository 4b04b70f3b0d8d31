"""RecTools' SASRec, fitted and asked: run by a Python that has RecTools and need not have what millstream needs.

`benchmarks.rectools.sasrec` gives it the rows, and takes the lists.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import torch
from pytorch_lightning import Trainer, seed_everything  # type: ignore[import-not-found]
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint  # type: ignore[import-not-found]
from rectools import Columns  # type: ignore[import-not-found]
from rectools.dataset import Dataset  # type: ignore[import-not-found]
from rectools.models import SASRecModel  # type: ignore[import-not-found]


def in_order(users: Any, items: Any) -> Any:
    """Likes as RecTools has them; their order is all that is read of the times."""
    rows = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0})
    rows[Columns.Datetime] = pd.to_datetime(np.arange(len(rows)), unit="s")
    return Dataset.construct(rows)


def newest_of_some(interactions: pd.DataFrame, every: int) -> Any:
    """Which rows validate: the newest of one user in so many, each with something left to foretell it from."""
    users = interactions[Columns.User]
    several = users.map(users.value_counts()) > 2
    return (~users.duplicated(keep="last") & several & (users % every == 0)).to_numpy()


def main(given: Path, taken: Path, asked_for: dict[str, Any]) -> None:
    """Fit on what `given` says was learnt; write the lists of its asks, the seconds and the epochs into `taken`."""
    epochs, patience, k = (asked_for[name] for name in ("epochs", "patience", "k"))
    torch.set_num_threads(asked_for["threads"])
    seed_everything(1)
    with np.load(given) as log:
        learnt, histories = (in_order(*log[name]) for name in ("learnt", "histories"))
        asked = np.arange(int(log["asks"]))

    with tempfile.TemporaryDirectory() as folder:

        def trainer() -> Any:
            quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            callbacks = [
                EarlyStopping(SASRecModel.val_loss_name, patience=patience),
                ModelCheckpoint(folder, monitor=SASRecModel.val_loss_name, save_weights_only=True),
            ]
            return Trainer(
                accelerator="cpu",
                max_epochs=epochs,
                callbacks=callbacks if patience else [],
                enable_checkpointing=bool(patience),
                **quiet,
            )

        began, worked = time.perf_counter(), time.process_time()
        model = SASRecModel(
            get_trainer_func=trainer,
            get_val_mask_func=newest_of_some if patience else None,
            get_val_mask_func_kwargs={"every": asked_for["validate_every"]} if patience else None,
            **asked_for["model"],
        )
        model.fit(learnt)
        fitted = model.fit_trainer.current_epoch
        if patience:
            model.load_weights_from_checkpoint(model.fit_trainer.checkpoint_callback.best_model_path)
        seconds = time.perf_counter() - began, time.process_time() - worked
    best = model.recommend(asked, histories, k=k, filter_viewed=True, on_unsupported_targets="ignore")
    lists = np.full((len(asked), k), -1, dtype=np.int64)
    lists[best[Columns.User].to_numpy(), best[Columns.Rank].to_numpy() - 1] = best[Columns.Item].to_numpy()
    np.savez(taken, seconds=seconds, lists=lists, epochs=fitted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
