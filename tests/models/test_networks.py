"""The networks: what must not matter to them, and what they may not look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from models.config import TowerReading
from models.data.popularity import PopularityConfig
from models.data.tokens import TokenTable
from models.data.users import Histories, UserBatch
from models.networks.dropout import Dropout
from models.networks.item_net import ItemNet
from models.networks.layers import SPANS, Pooled
from models.networks.popularity_prior import TrendPrior, TrendTable, log_shares
from models.networks.sequence import GAPS, SequenceModel, time_buckets
from models.networks.towers import TwoTowers
from models.networks.user_ids import UserIds
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


PARTS = [
    {},
    {"reads": ()},
    {"reads": ("times", "moment"), "similarity": "cosine"},
    {"layers": "ligr", "reads": ("times", "actions")},
    {"layers": "hstu", "reads": ("times", "gaps", "moment")},
    {"layers": "gru", "reads": ("moment", "gaps")},
    {"layers": "lstm", "reads": ("actions",)},
    {"layers": "pooled", "blocks": 1, "reads": ("moment", "user")},
    {"reads": ("actions", "user")},
]


def made_of(parts: dict[str, Any]) -> SequenceModel:
    torch.manual_seed(0)
    model = SequenceModel(90, world.SMALL.token_buckets, 4, replace(world.SMALL.sequence, **parts))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("distance", "times", "begin", "strength", "users.ids.weight")):
                weights.normal_()
    return model.eval()


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_what_is_served_is_what_was_trained(parts: dict[str, Any]) -> None:
    """A query asked for alone is that of its place among all, whatever the model is made of."""
    model = made_of(parts)
    histories = Histories(world.interactions(600), [[]] * 90, {}, world.SMALL)
    log, [user] = histories.log, [7]
    rows = np.flatnonzero(log.user == user)[:13]
    with torch.no_grad():
        vectors = model.of_items(ROWS, CONTENT)
        ts = torch.from_numpy(log.ts[rows])[None]
        trained = model(
            vectors[torch.from_numpy(log.item[rows[:-1]]).long()][None],
            torch.from_numpy(log.action[rows[:-1]]).long()[None],
            torch.from_numpy(log.strength[rows[:-1]])[None],
            ts[:, :-1],
            ts,
            torch.from_numpy(histories.users[[user]]).long(),
        )
    served = model.queries(histories.before(rows), vectors.numpy())
    np.testing.assert_allclose(served, trained[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_a_query_knows_nothing_of_what_comes_after_it(parts: dict[str, Any]) -> None:
    model = made_of(parts)
    vectors, later = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    later[:, :3] = vectors[:, :3]
    none, ones = torch.zeros(2, 6, dtype=torch.int64), torch.ones(2, 6)
    ts = torch.arange(7).repeat(2, 1) * 3_600_000
    moved = ts.clone()
    moved[:, 4:] += 86_400_000
    users = torch.arange(1, 3)
    one, other = (model(v, none, ones, t[:, :-1], t, users) for v, t in ((vectors, ts), (later, moved)))
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


@pytest.mark.parametrize(("moment", "told"), [((), False), (("moment",), True)])
def test_the_moment_is_known_only_where_it_is_read(moment: tuple[str, ...], told: bool) -> None:
    model = made_of({"reads": ("times", "gaps", *moment)})
    vectors, none, ones = torch.randn(1, 6, 16), torch.zeros(1, 6, dtype=torch.int64), torch.ones(1, 6)
    ts = torch.arange(7)[None] * 3_600_000
    later = ts.clone()
    later[:, 6] += 86_400_000
    users = torch.ones(1, dtype=torch.int64)
    one, other = (model(vectors, none, ones, ts[:, :-1], each, users)[0, 6] for each in (ts, later))
    assert torch.allclose(one, other) is not told


@pytest.mark.parametrize("layers", ["gru", "lstm", "pooled"])
def test_layers_that_cannot_read_times_say_so(layers: Any) -> None:
    with pytest.raises(ValueError, match=f"{layers} attend to nothing"):
        replace(world.SMALL.sequence, layers=layers, reads=("times",))


@pytest.mark.parametrize("layers", ["sasrec", "ligr", "gru", "lstm", "pooled"])
def test_feed_forward_layers_are_as_wide_as_they_are_told_to_be(layers: Any) -> None:
    wide = [
        SequenceModel(9, 32, 1, replace(world.SMALL.sequence, layers=layers, dim=8, blocks=1, feed=feed))
        for feed in (1, 3)
    ]
    sizes = [sum(weight.numel() for weight in network.parameters()) for network in wide]
    assert sizes[1] - sizes[0] == 2 * (2 * 8) * 8 + 2 * 8, "two matrices and a bias"
    with pytest.raises(ValueError, match="feed must be 1 or more, not 0"):
        replace(world.SMALL.sequence, feed=0)


def test_negatives_that_cannot_be_had_are_named() -> None:
    for config in (world.SMALL.sequence, world.SMALL.towers):
        with pytest.raises(ValueError, match="popular_negatives is a share, so it must be between 0 and 1"):
            replace(config, popular_negatives=1.5)
    with pytest.raises(ValueError, match="gbce is calibrated for uniform negatives"):
        replace(world.SMALL.sequence, loss="gbce", popular_negatives=0.5)


def test_what_is_pooled_has_no_order_and_the_oldest_of_it_is_dropped() -> None:
    layer = Pooled(replace(world.SMALL.sequence, length=5)).eval()
    states = torch.randn(1, 8, 16)
    shuffled, older = states.clone(), states.clone()
    shuffled[0, 3:] = states[0, [5, 3, 7, 4, 6]]
    older[0, :3] = torch.randn(3, 16)
    last, one, other = (layer(each, None)[0, -1] for each in (states, shuffled, older))
    torch.testing.assert_close(one, last)
    torch.testing.assert_close(other, last)
    older[0, 3] = torch.randn(16)
    assert not torch.allclose(layer(older, None)[0, -1], last)


def test_the_time_since_the_last_action_moves_the_query(sequence: SequenceModel, users: UserBatch) -> None:
    with torch.no_grad():
        vectors = sequence.eval().items(ROWS, CONTENT).numpy()
    later = replace(users, now=users.now + 86_400_000)
    acted = (users.items >= 0).any(axis=1)
    moved = np.abs(sequence.queries(users, vectors) - sequence.queries(later, vectors)).max(axis=1) > 1e-4
    assert moved[acted].all()
    assert not moved[~acted].any()


def test_time_buckets_are_octaves() -> None:
    spans = torch.tensor([-5.0, 0.0, 0.9, 1.0, 2.9, 3.0, 7.0, 1e12])
    assert time_buckets(spans, 1, GAPS).tolist() == [1, 1, 1, 2, 2, 3, 4, GAPS - 1]
    assert time_buckets(spans, 2, SPANS).tolist() == [1, 1, 2, 3, 4, 5, 7, SPANS - 1]


def test_dropout_hides_its_share_and_keeps_the_mean_in_training_alone() -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(0.2), torch.ones(1001, 101)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (dropped == 0).any(dim=0).all() and (dropped == 0).any(dim=1).all()
    assert torch.equal(dropout.eval()(ones), ones)


def test_the_towers_vectors_have_unit_length(users: UserBatch) -> None:
    towers = TwoTowers(90, world.SMALL.token_buckets, 4, world.SMALL.towers).eval()
    with torch.no_grad():
        items = towers.of_items(ROWS, CONTENT)
    np.testing.assert_allclose(items.norm(dim=1), 1.0, rtol=1e-5)
    queries = towers.queries(users, items.numpy()) * world.SMALL.towers.temperature
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("reads", "changed"),
    [
        ("user", {"user": 1}),
        ("searches", {"searched": 1, "searched_weights": np.float32(0.1)}),
        ("hours", {"now": 6 * 3_600_000}),
        ("season", {"now": 91 * 86_400_000}),
        ("device", {"device": np.uint8(1)}),
    ],
)
def test_the_user_tower_reads_what_its_configuration_says(
    users: UserBatch, reads: TowerReading, changed: dict[str, Any]
) -> None:
    other = replace(users, **{name: getattr(users, name) + more for name, more in changed.items()})
    for given, told in ((get_args(TowerReading), True), ((reads,), True), ((), False)):
        towers = TwoTowers(90, world.SMALL.token_buckets, 4, replace(world.SMALL.towers, reads=given)).eval()
        if towers.ids is not None:
            torch.nn.init.normal_(towers.ids.ids.weight)
        with torch.no_grad():
            items = towers.of_items(ROWS, CONTENT).numpy()
        moved = np.abs(towers.queries(users, items) - towers.queries(other, items)).max(axis=1) > 1e-5
        assert moved.all() if told else not moved.any()


def test_a_user_who_is_new_adds_nothing_and_any_is_hidden_now_and_then_in_training() -> None:
    ids = UserIds(50, 4, dropout=0.5)
    assert not ids(torch.arange(50)).any()
    torch.nn.init.ones_(ids.ids.weight)
    hidden = (ids(torch.ones(1000, dtype=torch.int64)) == 0).all(dim=1)
    assert 400 < int(hidden.sum()) < 600
    assert ids.eval()(torch.ones(1000, dtype=torch.int64)).all()


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
