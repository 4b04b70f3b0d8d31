"""The sequence model: what a user did, in order, and out of it the next thing that the user will like.

After SASRec (Kang and McAuley, 2018), with what a stream has beside the items: the action, its strength and the times.
Which layers it is made of, how a query is compared with an item, and what is read, the configuration says.
"""

from __future__ import annotations

from functools import partial
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's users name it
from torch import Tensor, nn

from models.config import SequenceConfig
from models.data.labels import N_ACTIONS, POSITIVE
from models.data.tokens import TokenTable
from models.data.users import UserBatch
from models.networks import losses
from models.networks.compute import tensor
from models.networks.dropout import Dropout
from models.networks.layers import SPANS, SPANS_PER_OCTAVE, Layer, layer
from models.networks.network import Network
from models.networks.next_action import NextAction
from models.networks.training_loop import Exercises, Lesson, Negatives, Windows
from models.networks.user_ids import UserIds

GAPS: Final = 34
_LONGEST_S: Final = 1 << 30

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class SequenceModel(Network):
    """The encoder and its item net."""

    config: SequenceConfig

    def __init__(self, n_items: int, buckets: int, half_lives: int, config: SequenceConfig) -> None:
        dim, reads = config.dim, config.reads
        super().__init__(n_items, buckets if "content" in reads else 0, half_lives, config)
        if "trends" not in reads:
            nn.init.zeros_(self.prior.weights).requires_grad_(False)
        self.begin = nn.Parameter(torch.zeros(dim))
        self.users = UserIds(buckets, dim, config.user_dropout) if "user" in reads else None
        self.actions = nn.Embedding(N_ACTIONS, dim) if "actions" in reads else None
        self.strength = nn.Parameter(torch.zeros(dim)) if "actions" in reads else None
        self.gaps = nn.Embedding(GAPS, dim) if "gaps" in reads else None
        self.waits = nn.Embedding(GAPS, dim) if "moment" in reads else None
        self.blocks = nn.ModuleList(layer(config) for _ in range(config.blocks))
        self.dropout = Dropout(config.dropout)
        self.norm = nn.LayerNorm(dim)
        self.next_action = NextAction(dim) if config.next_action else None
        for table in (self.actions, self.gaps, self.waits):
            if table is not None:
                nn.init.normal_(table.weight, std=0.05)

    def exercises(self, lesson: Lesson) -> Exercises:
        """To foretell each example, and the action on it, from all that its user did before."""
        config = self.config
        log = lesson.histories.log
        order, starts = lesson.histories.consumed()
        size = len(lesson.content)
        full = config.loss == "softmax" or (config.loss == "sampled" and size <= config.full_softmax_items)
        negatives = Negatives(lesson, config.negatives, config.popular_negatives)
        here = partial(tensor, device=lesson.compute.device)

        def loss(window: npt.NDArray[np.int64], inside: npt.NDArray[np.bool_], begins: npt.NDArray[np.bool_]) -> Tensor:
            events = order[window]
            weights = np.where(inside, lesson.weights[events], 0.0).astype(np.float32)
            weights[~begins, 0] = 0.0  # nothing is known there of a user whose past was cut off
            items = np.where(inside, log.item[events], 0).astype(np.int64)
            asked = weights > 0
            drawn = None if full else negatives.drawn()
            rows = None if drawn is None else np.unique(np.concatenate([items[asked], drawn])).astype(np.int64)
            vectors, of_items = _looked_up(self, lesson.content, items, rows)
            ts = here(log.ts[events])
            with lesson.compute.autocast():
                queries = self(
                    of_items[:, :-1],
                    here(log.action[events[:, :-1]].astype(np.int64)),
                    here(log.strength[events[:, :-1]]),
                    ts[:, :-1],
                    ts,
                    here(lesson.histories.users[log.user[events[:, 0]]].astype(np.int64)),
                )
            targets = here(items[asked] if rows is None else np.searchsorted(rows, items[asked]))
            trends = self.prior(lesson.trends, events[asked], rows) if "trends" in config.reads else None
            counted = here(weights[asked])
            total = of_choices(_at(queries, asked), vectors, targets, counted, trends, rows, drawn)
            if self.next_action is None:
                return total
            # the networks are left to foretell items
            met = inside & (lesson.counted[events] > 0)
            met[~begins, 0] = False
            rated = events[met]
            what = self.next_action.loss(
                _at(queries, met).detach(),
                _at(of_items, met).detach(),
                here(log.action[rated].astype(np.int64)),
                here((log.label[rated] == POSITIVE).astype(np.float32)),
                here(lesson.counted[rated]),
            )
            return total + what

        def of_choices(
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

        batches = Windows(order, starts, lesson, config.batch_tokens, config.stretch * config.length + 1)
        return Exercises(batches, loss)

    def forward(
        self, vectors: Tensor, actions: Tensor, strengths: Tensor, ts: Tensor, asked: Tensor, users: Tensor
    ) -> Tensor:
        """What the user is open to after each action and before all of them.

        Args:
            vectors: (batch, length, dim) of the items acted on, padded on the right.
            actions: int64 (batch, length).
            strengths: (batch, length).
            ts: int64 (batch, length) ms, when.
            asked: int64 (batch, length + 1) ms, the moments that are asked about.
            users: int64 (batch,) hashed ids.

        Returns:
            (batch, length + 1, dim): queries whose inner product with an item's vector is its score; place 0 knows
            no action, place t knows the first t.
        """
        states = self._steps(vectors, actions, strengths, ts, users)
        spans = self._spans(ts, asked)
        for block in self.blocks:
            states = block(states, spans)
        return self._queries(states, _after(ts, asked[:, 1:]))

    def _steps(self, vectors: Tensor, actions: Tensor, strengths: Tensor, ts: Tensor, users: Tensor) -> Tensor:
        steps = vectors
        if self.actions is not None and self.strength is not None:
            steps = steps + self.actions(actions) + strengths[..., None] * self.strength
        if self.gaps is not None:
            steps = steps + self.gaps(_after(ts[:, :-1], ts[:, 1:]))
        begin = self.begin.expand(len(vectors), 1, -1)
        if self.users is not None:
            begin = begin + self.users(users)[:, None]
        states: Tensor = self.dropout(torch.cat([begin, steps], dim=1))
        return states

    def _spans(self, ts: Tensor, asked: Tensor) -> Tensor | None:
        """The bucket of the time between every two places, as layers read it: int64 (batch, length + 1, length + 1)."""
        if "times" not in self.config.reads:
            return None
        known = torch.cat([asked[:, :1], ts], dim=1)
        until = asked if self.waits is not None else known
        # whole seconds from the first moment on fit into 32 bits, and buckets begin at whole seconds
        known, until = (
            ((each - asked[:, :1]) // 1000).clamp(-_LONGEST_S, _LONGEST_S).int()[:, :, None] for each in (known, until)
        )
        spans = time_buckets((until - known.transpose(1, 2)).float(), SPANS_PER_OCTAVE, SPANS)
        spans[:, :, 0] = 0  # nothing was done at the beginning
        return spans

    def _queries(self, states: Tensor, waits: Tensor) -> Tensor:
        queries: Tensor = self.norm(states if self.waits is None else states + self.waits(waits))
        if self.config.similarity == "cosine":
            return F.normalize(queries, dim=-1) / self.config.temperature
        return queries

    def finished(self, vectors: Tensor) -> Tensor:
        """Items' vectors (k, dim) as they are compared."""
        return F.normalize(vectors, dim=-1) if self.config.similarity == "cosine" else vectors

    def queries_of(self, users: UserBatch, vectors: npt.NDArray[np.float32]) -> Tensor:
        """See `Network.queries`."""
        real = users.items >= 0
        lengths = real.sum(axis=1)
        longest = int(lengths.max(initial=0))
        # from left padding to right padding, so that causality alone hides the padding
        total = users.items.shape[1]
        places = np.minimum(np.arange(longest)[None, :] + (total - lengths)[:, None], total - 1)
        inside = np.arange(longest)[None, :] < lengths[:, None]
        items, actions, strengths, ts = (
            np.where(inside, np.take_along_axis(column, places, axis=1), 0)
            for column in (users.items, users.actions, users.strengths, users.ts)
        )
        place, chosen = torch.from_numpy(lengths), torch.arange(len(users))
        when = torch.from_numpy(ts)
        # what was done next was asked about before, and now is asked about last
        asked = torch.cat([when, when.new_zeros(len(users), 1)], dim=1)
        asked[chosen, place] = torch.from_numpy(users.now)
        states = self._steps(
            torch.from_numpy(vectors[items.astype(np.int64)]),
            torch.from_numpy(actions.astype(np.int64)),
            torch.from_numpy(strengths.astype(np.float32)),
            when,
            torch.from_numpy(users.user.astype(np.int64)),
        )
        spans = self._spans(when, asked)
        for block in self.blocks[:-1]:
            states = block(states, spans)
        # only the state that is asked for is wanted
        last = cast(Layer, self.blocks[-1]).at(states, place, None if spans is None else spans[chosen, place])
        return self._queries(last, _after(when, asked[:, 1:])[chosen, place])


def time_buckets(seconds: Tensor, per_octave: int, buckets: int) -> Tensor:
    """Buckets of time spans, int64: 1 at first, then `per_octave` more with each doubling; 0 is for "there is none"."""
    return (1 + per_octave * torch.log2(1.0 + seconds.clamp(min=0))).clamp(max=buckets - 1).long()


def _after(ts: Tensor, until: Tensor) -> Tensor:
    """The buckets of the time from actions to moments after them, and before these 0: (batch, 1 + k)."""
    return F.pad(time_buckets((until - ts).double() / 1000.0, 1, GAPS), (1, 0))


def _looked_up(network: SequenceModel, content: TokenTable, items: Rows, rows: Rows | None) -> tuple[Tensor, Tensor]:
    """The vectors (k, dim) of rows, or of all, and of items (batch, length): each row that is met is made once."""
    here = partial(tensor, device=network.begin.device)
    if rows is None:
        vectors = network.of_items(here(np.arange(len(content))), content)
        return vectors, F.embedding(here(items), vectors)
    needed, of = np.unique(np.concatenate([items.ravel(), rows]), return_inverse=True)
    table = network.of_items(here(needed), content.take(needed))
    places = here(of)
    return table[places[items.size :]], F.embedding(places[: items.size].view(items.shape), table)


def _at(states: Tensor, chosen: npt.NDArray[np.bool_]) -> Tensor:
    """The states (k, dim) at the chosen places (batch, length), found without asking the device how many they are."""
    return states.flatten(0, 1)[tensor(np.flatnonzero(chosen), states.device)]
