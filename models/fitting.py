"""Fitting: the training loops of the two networks over a log, deterministic for a seed and bounded in clock time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models import losses
from models.compute import Compute, tensor
from models.features import TokenTable
from models.labels import POSITIVE
from models.optimisers import AdamW
from models.prior import TrendTable
from models.sequence import SequenceModel
from models.towers import TwoTowers
from models.users import Histories

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
        epochs: passes over the examples.
        until: `time.monotonic()` at which to stop after the step at hand.
        progress: called with the share done.
        compute: where, and how precisely; thereafter the network is on the CPU.
    """

    histories: Histories
    content: TokenTable
    trends: TrendTable
    counted: Floats
    targets: npt.NDArray[np.bool_]
    epochs: int
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


def fit_sequence(model: SequenceModel, lesson: Lesson) -> None:
    """Teach the sequence model to foretell each example, and the action on it, from all that its user did before."""
    config = model.config
    log = lesson.histories.log
    order, starts = lesson.histories.consumed()
    size = len(lesson.content)
    full = config.loss == "softmax" or (config.loss == "sampled" and size <= config.full_softmax_items)
    negatives = _Negatives(lesson, config.negatives, config.popular_negatives)
    here = partial(tensor, device=lesson.compute.device)

    def step(window: npt.NDArray[np.int64], inside: npt.NDArray[np.bool_], begins: npt.NDArray[np.bool_]) -> Tensor:
        events = order[window]
        weights = np.where(inside, lesson.weights[events], 0.0).astype(np.float32)
        weights[~begins, 0] = 0.0  # nothing is known there of a user whose past was cut off
        items = np.where(inside, log.item[events], 0).astype(np.int64)
        asked = weights > 0
        drawn = None if full else negatives.drawn()
        rows = None if drawn is None else np.unique(np.concatenate([items[asked], drawn])).astype(np.int64)
        vectors, of_items = _looked_up(model, lesson.content, items, rows)
        ts = here(log.ts[events])
        with lesson.compute.autocast():
            queries = model(
                of_items[:, :-1],
                here(log.action[events[:, :-1]].astype(np.int64)),
                here(log.strength[events[:, :-1]]),
                ts[:, :-1],
                ts,
                here(lesson.histories.users[log.user[events[:, 0]]].astype(np.int64)),
            )
        targets = here(items[asked] if rows is None else np.searchsorted(rows, items[asked]))
        trends = model.prior(lesson.trends, events[asked], rows) if "trends" in config.reads else None
        counted = here(weights[asked])
        total = loss(_at(queries, asked), vectors, targets, counted, trends, rows, drawn)
        if model.next_action is None:
            return total
        # the networks are left to foretell items
        met = inside & (lesson.counted[events] > 0)
        met[~begins, 0] = False
        rated = events[met]
        what = model.next_action.loss(
            _at(queries, met).detach(),
            _at(of_items, met).detach(),
            here(log.action[rated].astype(np.int64)),
            here((log.label[rated] == POSITIVE).astype(np.float32)),
            here(lesson.counted[rated]),
        )
        return total + what

    def loss(
        queries: Tensor,
        vectors: Tensor,
        targets: Tensor,
        counted: Tensor,
        trends: Tensor | None,
        rows: Rows | None,
        drawn: Rows | None,
    ) -> Tensor:
        if config.loss == "gbce" and rows is not None and drawn is not None:
            logits = queries @ vectors.T
            columns = here(np.searchsorted(rows, drawn))
            logits = logits if trends is None else logits + trends
            return losses.gbce(logits, targets, counted, columns, len(negatives.pool), config.calibration)
        if rows is None:
            offset = vectors.new_zeros(size)
        else:
            offset = here(losses.sampling_offset(negatives.expected(rows, len(targets))))
        if trends is None:
            return losses.softmax_of_products(queries, vectors, offset, targets, counted)
        return losses.softmax(queries @ vectors.T + trends + offset, targets, counted)

    batches = _Windows(order, starts, lesson, config.batch_tokens, config.stretch * config.length + 1)
    with lesson.compute.lent(model):
        _descend(model, lesson, batches, step, config.learning_rate, config.weight_decay, config.warmup)


def _looked_up(model: SequenceModel, content: TokenTable, items: Rows, rows: Rows | None) -> tuple[Tensor, Tensor]:
    """The vectors (k, dim) of rows, or of all, and of items (batch, length): each row that is met is made once."""
    here = partial(tensor, device=model.begin.device)
    if rows is None:
        vectors = model.of_items(here(np.arange(len(content))), content)
        return vectors, F.embedding(here(items), vectors)
    needed, of = np.unique(np.concatenate([items.ravel(), rows]), return_inverse=True)
    table = model.of_items(here(needed), content.take(needed))
    places = here(of)
    return table[places[items.size :]], F.embedding(places[: items.size].view(items.shape), table)


def _at(states: Tensor, chosen: npt.NDArray[np.bool_]) -> Tensor:
    """The states (k, dim) at the chosen places (batch, length), found without asking the device how many they are."""
    return states.flatten(0, 1)[tensor(np.flatnonzero(chosen), states.device)]


def fit_towers(model: TwoTowers, lesson: Lesson) -> None:
    """Teach the towers each example from its user as of just before it."""
    config = model.config
    rows = np.flatnonzero(lesson.weights > 0)
    users = lesson.histories.before(rows)
    targets = lesson.histories.log.item[rows].astype(np.int64)
    weights = lesson.weights[rows]
    negatives = _Negatives(lesson, config.negatives, config.popular_negatives)
    here = partial(tensor, device=lesson.compute.device)

    def batches() -> Iterator[tuple[npt.NDArray[np.intp]]]:
        shuffled = lesson.rng.permutation(len(rows))
        for start in range(0, len(rows), config.batch):
            yield (np.sort(shuffled[start : start + config.batch]),)

    def step(batch: npt.NDArray[np.intp]) -> Tensor:
        some = users.take(batch)
        chosen = np.unique(np.concatenate([targets[batch], negatives.drawn()]))
        history = np.maximum(some.items, 0).astype(np.int64)
        needed, of = np.unique(np.concatenate([history.ravel(), chosen]), return_inverse=True)
        with lesson.compute.autocast():
            vectors = model.of_items(here(needed), lesson.content.take(needed))
            queries = model.of_users(some, vectors[here(of[: history.size].reshape(history.shape))])
        logits = queries @ vectors[here(of[history.size :])].T / model.temperature
        logits = logits + model.prior(lesson.trends, rows[batch], chosen)
        expected = negatives.expected(chosen, len(batch))
        places = here(np.searchsorted(chosen, targets[batch]))
        return losses.softmax(logits + here(losses.sampling_offset(expected)), places, here(weights[batch]))

    with lesson.compute.lent(model):
        _descend(model, lesson, batches, step, config.learning_rate, config.weight_decay)


class _Negatives:
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


def _descend(
    model: SequenceModel | TwoTowers,
    lesson: Lesson,
    batches: Callable[[], Iterator[tuple[npt.NDArray[np.generic], ...]]],
    step: Callable[..., Tensor],
    learning_rate: float,
    weight_decay: float,
    warmup: int = 0,
) -> None:
    prior = list(model.prior.parameters())
    network = [each for name, each in model.named_parameters() if not name.startswith("prior.")]
    rates = [learning_rate, _PRIOR_SPEED * learning_rate]
    optimiser = AdamW(
        [
            {"params": network, "lr": rates[0], "weight_decay": weight_decay},
            {"params": prior, "lr": rates[1], "weight_decay": 0.0},
        ],
        fused=True,
    )
    model.train()
    taken = 0
    for epoch in range(lesson.epochs):
        # added up on the device, which is asked for it only when the epoch ends
        total, steps = torch.zeros((), dtype=torch.float64, device=lesson.compute.device), 0
        for batch in list(batches()):
            taken += 1
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * (1.0 - 0.9 * epoch / lesson.epochs) * min(1.0, taken / max(warmup, 1))
            optimiser.zero_grad(set_to_none=True)
            loss = step(*batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += loss.detach()
            steps += 1
            if time.monotonic() >= lesson.until:
                break
        lesson.losses.append(float(total) / max(steps, 1))
        lesson.progress((epoch + 1) / lesson.epochs)
        if time.monotonic() >= lesson.until:
            break
    model.eval()


class _Windows:
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
