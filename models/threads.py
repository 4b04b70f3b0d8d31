"""How many threads compute in this process."""

import faiss  # noqa: F401 - only what is loaded can be told
import torch
from threadpoolctl import threadpool_limits


def use_threads(count: int) -> None:
    """Let torch, and what multiplies for numpy and faiss, compute with so many threads.

    Each library has threads of its own, as many as there are cores, which wait for the next product by spinning. Of the
    many small products of a list that cost more than the products themselves, and took cores that others need.
    """
    threadpool_limits(count)
    torch.set_num_threads(count)
