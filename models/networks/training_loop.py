"""Fitting: what networks are taught, in which batches, and the descent; deterministic for a seed, bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.config import SequenceConfig, TowersConfig
from models.data.tokens import TokenTable
from models.data.users import Histories
from models.networks.compute import Compute
from models.networks.optimisers import AdamW
from models.networks.popularity_prior import TrendTable

#: The few weights of the prior learn so many times faster than the network.
_PRIOR_SPEED = 5.0

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass
class Lesson:
    """What to learn from, and how long.

    Attributes:
        histories: the log.
        content: tokens of each item row.
        trends: the items' popularity over the log.
        counted: float32 (len(log),) what each log row counts; 0 where it is not learnt from.
        targets: bool (len(log),) which rows are examples of what was chosen.
        until: `time.monotonic()` at which to stop after the step at hand.
        progress: called with the share done.
        compute: where, and how precisely; thereafter the network is on the CPU.
    """

    histories: Histories
    content: TokenTable
    trends: TrendTable
    counted: Floats
    targets: npt.NDArray[np.bool_]
    until: float
    rng: np.random.Generator
    progress: Callable[[float], None]
    losses: list[float] = field(default_factory=list)
    compute: Compute = field(default_factory=Compute)

    @cached_property
    def weights(self) -> Floats:
        """What each log row counts as an example of what was chosen: (len(log),)."""
        weights: Floats = np.where(self.targets, self.counted * self.histories.log.weight, 0.0).astype(np.float32)
        return weights

    def frequencies(self) -> Floats:
        """How often each item is the target of an example, as a share: (rows,)."""
        counts = np.bincount(
            self.histories.log.item[self.weights > 0],
            weights=self.weights[self.weights > 0],
            minlength=len(self.content),
        )
        shares: Floats = (counts / max(counts.sum(), 1e-9)).astype(np.float32)
        return shares


@dataclass(frozen=True)
class Exercises:
    """What a network does with a lesson.

    Attributes:
        batches: those of one pass, drawn anew for each.
        loss: of a batch, which is given as the arguments.
    """

    batches: Callable[[], Iterator[tuple[npt.NDArray[np.generic], ...]]]
    loss: Callable[..., Tensor]


class Negatives:
    """Draws items beside those that were chosen: some uniformly, the others as often as they are liked.

    Attributes:
        pool: int64 (p,) the items that are drawn from. One that nobody has liked yet is not among them: it is no
            evidence of what people do not like.
    """

    def __init__(self, lesson: Lesson, count: int, popular_share: float) -> None:
        self._frequencies = lesson.frequencies()
        self._rng = lesson.rng
        self._popular = round(count * popular_share)
        self._uniform = count - self._popular
        self.pool: Rows = np.flatnonzero(self._frequencies).astype(np.int64)
        self._cumulated = np.cumsum(self._frequencies[self.pool], dtype=np.float64)

    def drawn(self) -> Rows:
        """Rows (count,), of which some may be the same."""
        uniform = self._rng.choice(self.pool, self._uniform)
        if not self._popular:
            return uniform
        at = np.searchsorted(self._cumulated, self._rng.random(self._popular) * self._cumulated[-1], side="right")
        return np.concatenate([uniform, self.pool[at]])

    def expected(self, rows: Rows, chosen: int) -> Floats:
        """How often each of the rows (k,) is expected among `chosen` items that were liked and those drawn beside."""
        often: Floats = (chosen + self._popular) * self._frequencies[rows] + np.float32(self._uniform / len(self.pool))
        return often


def descend(
    network: nn.Module, lesson: Lesson, exercises: Exercises, epochs: int, config: SequenceConfig | TowersConfig
) -> None:
    """Teach a network by `epochs` passes over the exercises; it is left ready to be asked."""
    named = list(network.named_parameters())
    prior = [each for name, each in named if name.startswith("prior.")]
    others = [each for name, each in named if not name.startswith("prior.")]
    rates = [config.learning_rate, _PRIOR_SPEED * config.learning_rate]
    optimiser = AdamW(
        [
            {"params": others, "lr": rates[0], "weight_decay": config.weight_decay},
            {"params": prior, "lr": rates[1], "weight_decay": 0.0},
        ],
        fused=True,
    )
    network.train()
    taken = 0
    for epoch in range(epochs):
        # added up on the device, which is asked for it only when the epoch ends
        total, steps = torch.zeros((), dtype=torch.float64, device=lesson.compute.device), 0
        for batch in list(exercises.batches()):
            taken += 1
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * (1.0 - 0.9 * epoch / epochs) * min(1.0, taken / max(config.warmup, 1))
            optimiser.zero_grad(set_to_none=True)
            loss = exercises.loss(*batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            total += loss.detach()
            steps += 1
            if time.monotonic() >= lesson.until:
                break
        lesson.losses.append(float(total) / max(steps, 1))
        lesson.progress((epoch + 1) / epochs)
        if time.monotonic() >= lesson.until:
            break
    network.eval()


class Windows:
    """Batches of windows over the users' sequences, cut at other places in each epoch."""

    def __init__(self, order: npt.NDArray[np.intp], starts: Rows, lesson: Lesson, tokens: int, width: int) -> None:
        self._starts = starts
        self._lesson = lesson
        self._tokens = tokens
        self._width = width
        self._is_example = np.concatenate([[0], np.cumsum(lesson.weights[order] > 0)])

    def __call__(self) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        rng = self._lesson.rng
        first, end = self._starts[:-1], self._starts[1:]
        offsets = rng.integers(0, self._width, len(first))
        # the first window of a user is cut short by its offset, unless one window holds all
        offsets = np.where(end - first <= self._width, 0, offsets)
        counts = -(-(end - first + offsets) // self._width)
        user = np.repeat(np.arange(len(first)), counts)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        left = np.maximum(first[user] - offsets[user] + nth * self._width, first[user])
        right = np.minimum(first[user] - offsets[user] + (nth + 1) * self._width, end[user])
        useful = self._is_example[right] > self._is_example[left]
        left, right, begins = left[useful], right[useful], (left == first[user])[useful]
        lengths = right - left
        by_length = np.lexsort((rng.random(len(lengths)), lengths))
        batches = []
        at = len(by_length)
        while at > 0:
            longest = int(lengths[by_length[at - 1]])
            some = by_length[max(0, at - max(1, self._tokens // longest)) : at]
            at -= len(some)
            batches.append((some, longest))
        for index in rng.permutation(len(batches)):
            some, longest = batches[index]
            window = left[some][:, None] + np.arange(longest)
            inside = window < right[some][:, None]
            yield np.where(inside, window, left[some][:, None]), inside, begins[some]
