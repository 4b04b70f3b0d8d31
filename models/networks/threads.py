"""The threads of this process: how many compute, and how soon others get their turn."""

import os
import sys
from typing import Final

from threadpoolctl import threadpool_limits

_SWITCH_S: Final = 0.0005


def use_threads(count: int) -> None:
    """Let torch, and what multiplies for numpy and faiss, compute with so many threads.

    Each library has threads of its own, as many as there are cores, which wait for the next product by spinning. Of the
    many small products of a list that cost more than the products themselves, and took cores that others need.

    What is built with OpenMP can be told for the thread that calls this alone, once it is loaded: where other threads
    compute too, this has to be called before torch and faiss are imported.
    """
    os.environ["OMP_NUM_THREADS"] = str(count)  # read when they are loaded
    import faiss  # noqa: F401
    import torch

    threadpool_limits(count)
    torch.set_num_threads(count)


def switch_often() -> None:
    """Give the event loop its turn soon while lists are computed in a thread of the same process.

    By default a computing thread keeps Python's interpreter for 5 ms. The loop needs a turn for each step of each
    request and message, and would wait that long for each of them.
    """
    sys.setswitchinterval(_SWITCH_S)
