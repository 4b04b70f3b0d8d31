"""What the networks have in common: how they are taught and kept, and that they make vectors of users and of items.

The inner product of a user's vector, the query, and an item's says how well the two go together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from models.config import SequenceConfig, TowersConfig
from models.data.tokens import TokenTable
from models.data.users import UserBatch
from models.networks.item_net import ItemNet
from models.networks.popularity_prior import TrendPrior
from models.networks.training_loop import Exercises, Lesson, descend

Config = SequenceConfig | TowersConfig


class Network(nn.Module, ABC):
    """A network that embeds users and items.

    Args:
        n_items: rows of items with an embedding of their own.
        buckets: hash buckets of content tokens; 0 where content is not read.
        half_lives: over how many popularity is counted.
    """

    def __init__(self, n_items: int, buckets: int, half_lives: int, config: Config) -> None:
        super().__init__()
        self.config: Config = config
        self.prior = TrendPrior(half_lives)
        self.items = ItemNet(n_items, buckets, config.dim, config.item_dropout)

    # -- learning

    def fit(self, lesson: Lesson) -> None:
        """Learn all that there is; the network is new."""
        self._learn(lesson, self.config.epochs)

    def fit_partial(self, lesson: Lesson) -> None:
        """Go on with what is new, and whatever of the old the lesson rehearses."""
        self._learn(lesson, self.config.fine_tune_epochs)

    def _learn(self, lesson: Lesson, epochs: int) -> None:
        with lesson.compute.lent(self):
            descend(self, lesson, self.exercises(lesson), epochs, self.config)

    @abstractmethod
    def exercises(self, lesson: Lesson) -> Exercises:
        """The batches of the lesson, and the loss of each."""

    # -- embedding

    def of_items(self, rows: Tensor, content: TokenTable) -> Tensor:
        """The vectors (k, dim) of items `rows` int64 (k,) with their content in the same order."""
        return self.finished(self.items(rows, content))

    def of_content(self, content: TokenTable) -> Tensor:
        """The vectors (n, dim) of items known by content alone."""
        return self.finished(self.items.of_content(content))

    @abstractmethod
    def finished(self, vectors: Tensor) -> Tensor:
        """Items' vectors (k, dim), as they are compared with queries, of what the item net makes of them."""

    @torch.inference_mode()
    def queries(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The users' queries (B, dim), with the items' vectors (rows, dim) as they are in the index.

        Their inner products with items are the scores of the softmax.
        """
        if self.training:  # setting it is slow
            self.eval()
        found: npt.NDArray[np.float32] = self.queries_of(users, vectors).numpy()
        return found

    @abstractmethod
    def queries_of(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> Tensor:
        """What `queries` gives, the network being ready to be asked."""

    # -- persistence

    def save(self, path: Path) -> None:
        """Write the weights, as safetensors."""
        save_model(self, str(path))

    @classmethod
    def load(cls, path: Path, n_items: int, buckets: int, half_lives: int, config: Config) -> Self:
        """The network whose weights `save` wrote, made as that was.

        Raises:
            OSError, SafetensorError, RuntimeError: there is no such file, or it holds something else.
        """
        network = cls(n_items, buckets, half_lives, config)
        load_model(network, path)
        return network.eval()
