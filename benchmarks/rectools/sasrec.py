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
from typing import Any, NamedTuple

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
    """What came of it: lists int64 (asks, k) padded with -1, and what the fit took."""

    lists: npt.NDArray[np.int64]
    seconds: float
    of_processor: float
    epochs: int


class Likes(NamedTuple):
    """Who liked what, in order of time: int (n,) each."""

    users: npt.NDArray[np.integer]
    items: npt.NDArray[np.integer]


def fitted(python: Path, learnt: Likes, histories: Likes, asks: int, fit: Fit) -> Fitted:
    """Fit on what was `learnt`, and list for each ask what is new to it.

    Args:
        histories: what is known of who asks; its users are the numbers of the asks, 0 to `asks` - 1. One of which it
            knows nothing has an empty list.

    Raises:
        subprocess.CalledProcessError: `python` lacks RecTools, or the fit failed; its words are on stderr.
    """
    script = Path(__file__).with_name("rectools_sasrec.py")
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "given.npz", Path(folder) / "taken.npz"
        np.savez(given, learnt=np.stack(learnt), histories=np.stack(histories), asks=asks)
        told = [str(path) for path in (script, given, taken)]
        subprocess.run([python, "-W", "ignore", *told, json.dumps(asdict(fit))], check=True)
        with np.load(taken) as answer:
            seconds, of_processor = answer["seconds"].tolist()
            return Fitted(answer["lists"], seconds, of_processor, int(answer["epochs"]))
