"""How many threads compute in this process."""

import os

from threadpoolctl import threadpool_limits


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
