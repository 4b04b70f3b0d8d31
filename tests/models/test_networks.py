"""The networks: what must not matter to them, and what they may not look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.features import TokenTable
from models.item_net import ItemNet
from models.popularity import PopularityConfig
from models.prior import TrendPrior, TrendTable, log_shares
from models.sequence import GAPS, SequenceModel, time_buckets
from models.towers import TwoTowers
from models.users import Histories, UserBatch
from tests.models import world

ITEMS = [world.item(number) for number in range(90)]
CONTENT = TokenTable.of(ITEMS, world.SMALL.token_buckets)
ROWS = torch.arange(90)


@pytest.fixture
def users() -> UserBatch:
    histories = Histories(world.interactions(600), [[]] * 90, {}, world.SMALL)
    return histories.before(np.arange(300, 340))


@pytest.fixture
def sequence() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(90, world.SMALL.token_buckets, 4, world.SMALL.sequence)


def test_more_padding_changes_no_query(sequence: SequenceModel, users: UserBatch) -> None:
    with torch.no_grad():
        vectors = sequence.eval().items(ROWS, CONTENT).numpy()
    wider = replace(
        users,
        items=np.pad(users.items, ((0, 0), (5, 0)), constant_values=-1),
        actions=np.pad(users.actions, ((0, 0), (5, 0))),
        strengths=np.pad(users.strengths, ((0, 0), (5, 0))),
        ts=np.pad(users.ts, ((0, 0), (5, 0))),
    )
    np.testing.assert_allclose(sequence.queries(users, vectors), sequence.queries(wider, vectors), atol=1e-5)


def test_a_query_is_the_last_of_all_the_states(sequence: SequenceModel) -> None:
    block: Any = sequence.eval().blocks[-1]
    with torch.no_grad():
        block.distance.normal_()
        states, places = torch.randn(5, 7, sequence.config.dim), torch.tensor([6, 0, 3, 2, 6])
        np.testing.assert_allclose(block.at(states, places), block(states)[torch.arange(5), places], atol=1e-5)


def test_a_query_knows_nothing_of_what_comes_after_it(sequence: SequenceModel) -> None:
    sequence.eval()
    vectors, later = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    later[:, :3] = vectors[:, :3]
    none, ones, waits = torch.zeros(2, 6, dtype=torch.int64), torch.ones(2, 6), torch.ones(2, 7, dtype=torch.int64)
    one, other = (sequence(v, none, ones, none, waits) for v in (vectors, later))
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


def test_the_time_since_the_last_action_moves_the_query(sequence: SequenceModel, users: UserBatch) -> None:
    with torch.no_grad():
        vectors = sequence.eval().items(ROWS, CONTENT).numpy()
    later = replace(users, now=users.now + 86_400_000)
    acted = (users.items >= 0).any(axis=1)
    moved = np.abs(sequence.queries(users, vectors) - sequence.queries(later, vectors)).max(axis=1) > 1e-4
    assert moved[acted].all()
    assert not moved[~acted].any()


def test_time_buckets_are_octaves() -> None:
    spans = np.array([-5, 0, 1_000, 3_000, 7_000, 10**15])
    assert time_buckets(spans).tolist() == [1, 1, 2, 3, 4, GAPS - 1]


def test_the_towers_vectors_have_unit_length(users: UserBatch) -> None:
    towers = TwoTowers(90, world.SMALL.token_buckets, 4, world.SMALL.towers).eval()
    with torch.no_grad():
        items = towers.of_items(ROWS, CONTENT)
    np.testing.assert_allclose(items.norm(dim=1), 1.0, rtol=1e-5)
    queries = towers.queries(users, items.numpy()) * world.SMALL.towers.temperature
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1.0, rtol=1e-5)


def test_a_row_that_is_new_is_its_content_alone() -> None:
    net = ItemNet(80, world.SMALL.token_buckets, 8)
    old = net.ids.weight.detach().clone()
    net.grow(90)
    assert torch.equal(net.ids.weight[:80], old)
    fresh = torch.arange(80, 90)
    content = CONTENT.take(fresh.numpy())
    torch.testing.assert_close(net(fresh, content), net.of_content(content))


def test_the_prior_of_an_example_holds_nothing_that_came_after_it() -> None:
    log = world.interactions(1000)
    table = TrendTable.over(log, PopularityConfig(), 90)
    for row in (0, 63, 64, 500, 999):
        shown = np.exp(table.shares[table.moment[row]]) > 1.001e-4
        liked_before = np.isin(np.arange(90), log.item[:row][log.label[:row] == 1])
        assert not (shown.any(axis=1) & ~liked_before).any()
    prior = TrendPrior(4)
    rows = np.array([3, 700, 700])
    assert prior(table, rows, None).shape == (3, 90)
    torch.testing.assert_close(prior(table, rows, np.array([5, 7])), prior(table, rows, None)[:, [5, 7]])


def test_log_shares_have_every_floor() -> None:
    logs = log_shares(np.zeros((2, 4), dtype=np.float32))
    np.testing.assert_allclose(np.exp(logs), [[1e-6] * 4 + [1e-4] * 4] * 2, rtol=1e-3)
