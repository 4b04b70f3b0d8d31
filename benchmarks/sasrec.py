"""RecTools' SASRec beside ours: given the same rows, fitted and asked by another Python, its lists taken back.

RecTools is none of our requirements. It is had by

    python -m venv rectools-env && rectools-env/bin/pip install torch==2.13.0 "rectools[torch]"

and `--rectools rectools-env/bin/python`.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Fit:
    """How it is built and fitted, and how long its lists are.

    Attributes:
        model: arguments of `rectools.models.SASRecModel`; what is not named is RecTools' default.
        epochs: the most epochs.
        patience: it stops when so many epochs in turn did not better the loss on what validates it, and goes back to
            the best; 0: it does all epochs.
        validate_every: the newest row of one user in so many is not learnt from, but validates.
    """

    model: Mapping[str, Any]
    epochs: int
    k: int
    threads: int = 1
    patience: int = 0
    validate_every: int = 10


@dataclass(frozen=True)
class Fitted:
    """What came of it: lists int64 (asked, k) padded with -1, and what the fit took."""

    lists: npt.NDArray[np.int64]
    seconds: float
    of_processor: float
    epochs: int


def fitted(
    python: Path,
    users: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    asked: npt.NDArray[np.integer],
    fit: Fit,
) -> Fitted:
    """Fit on rows (n,) of `users` and `items`, in order of time, and list for each user in `asked` what is new.

    Raises:
        subprocess.CalledProcessError: `python` lacks RecTools, or the fit failed; its words are on stderr.
    """
    script = Path(__file__).with_name("rectools_sasrec.py")
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "given.npz", Path(folder) / "taken.npz"
        np.savez(given, user=users, item=items, asked=asked)
        told = [str(path) for path in (script, given, taken)]
        subprocess.run([python, "-W", "ignore", *told, json.dumps(asdict(fit))], check=True)
        with np.load(taken) as answer:
            seconds, of_processor = answer["seconds"].tolist()
            return Fitted(answer["lists"], seconds, of_processor, int(answer["epochs"]))
