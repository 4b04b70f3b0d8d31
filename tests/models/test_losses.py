"""The losses: that they are what their papers say, and that whatever the model is made of learns by them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.data.popularity import PopularityConfig
from models.networks import losses
from models.networks.sequence import SequenceModel
from models.networks.training_loop import Lesson
from models.training.context import Course
from tests.models import world


def examples(count: int, items: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    queries, vectors = torch.randn(count, 8, requires_grad=True), torch.randn(items, 8, requires_grad=True)
    return queries, vectors, torch.randint(items, (count,)), torch.rand(count)


def test_the_softmax_of_products_in_parts_is_the_cross_entropy_of_all() -> None:
    queries, vectors, targets, weights = examples(600, 30)
    offset = torch.randn(30)
    one = 3.0 * losses.softmax_of_products(queries, vectors, offset, targets, weights)
    other = 3.0 * losses.softmax(queries @ vectors.T + offset, targets, weights)
    torch.testing.assert_close(one, other)
    wanted = torch.autograd.grad(other, (queries, vectors))
    torch.testing.assert_close(torch.autograd.grad(one, (queries, vectors)), wanted, atol=1e-6, rtol=1e-4)


def test_what_is_seldom_sampled_counts_for_the_many_that_were_not() -> None:
    expected = np.array([0.25, 1.0, 3.0], dtype=np.float32)
    np.testing.assert_allclose(np.exp(losses.sampling_offset(expected)), [4.0, 1.0, 1.0], rtol=1e-6)


def test_gbce_is_binary_cross_entropy_where_it_is_not_calibrated() -> None:
    queries, vectors, targets, weights = examples(50, 30)
    logits, drawn = queries @ vectors.T, torch.tensor([1, 4, 4, 9])
    kept = drawn != targets[:, None]
    plain = F.binary_cross_entropy_with_logits(
        torch.cat([logits.gather(1, targets[:, None]), logits[:, drawn]], dim=1),
        torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]).expand(50, -1),
        weight=torch.cat([torch.ones(50, 1), kept.float()], dim=1),
        reduction="none",
    ).mean(1)
    wanted = (plain * weights).sum() / weights.sum()
    torch.testing.assert_close(losses.gbce(logits, targets, weights, drawn, 30, 0.0), wanted)
    # and calibrated, what was chosen counts by the share that is sampled: 4 of 29
    positive = -F.logsigmoid(logits.gather(1, targets[:, None])[:, 0]) / 5
    changed = wanted - ((1 - 4 / 29) * positive * weights).sum() / weights.sum()
    torch.testing.assert_close(losses.gbce(logits, targets, weights, drawn, 30, 1.0), changed)


def taught(parts: dict[str, Any]) -> tuple[SequenceModel, Course, npt.NDArray[np.float32]]:
    """A model of these parts that has learnt, what it has learnt from, and the items' vectors."""
    config = replace(world.SMALL, sequence=replace(world.SMALL.sequence, batch_tokens=256, **({"epochs": 12} | parts)))
    course = Course.over(world.data(world.interactions(1500)), config, PopularityConfig(), [])
    torch.manual_seed(0)
    model = SequenceModel(90, config.token_buckets, 4, config.sequence)
    lesson = Lesson(
        course.histories,
        course.content,
        course.trends,
        np.ones(len(course.targets), np.float32),
        course.targets,
        time.monotonic() + 60,
        np.random.default_rng(0),
        lambda _done: None,
    )
    model.fit(lesson)
    assert lesson.losses[-1] < lesson.losses[0]
    with torch.no_grad():
        return model, course, model.eval().of_items(torch.arange(90), course.content).numpy()


@pytest.mark.parametrize(
    "parts",
    [
        {"layers": "hstu", "loss": "softmax", "reads": ("content", "actions", "times", "moment")},
        {"layers": "ligr", "loss": "sampled", "full_softmax_items": 0, "similarity": "cosine"},
        {"layers": "gru", "loss": "gbce", "negatives": 64},
        {"layers": "lstm", "loss": "softmax"},
        {"layers": "pooled", "blocks": 1, "full_softmax_items": 0, "negatives": 64, "popular_negatives": 0.5},
        {"layers": "sasrec", "loss": "softmax", "reads": ("content", "actions", "trends", "times"), "warmup": 5},
    ],
    ids=str,
)
def test_whatever_it_is_made_of_it_learns_what_users_like(parts: dict[str, Any]) -> None:
    model, course, vectors = taught(parts)
    users = course.histories.before(np.arange(1300, 1500))
    first = (model.queries(users, vectors) @ vectors.T).argmax(axis=1)
    assert (first % 3 == course.histories.log.user[1300:] % 3).mean() > 0.7


def test_it_knows_what_will_be_liked_of_what_is_met() -> None:
    model, course, vectors = taught({"layers": "sasrec", "loss": "sampled", "epochs": 24, "next_action": True})
    rows = np.arange(1300, 1500)
    queries = model.queries(course.histories.before(rows), vectors)
    of, items = np.repeat(np.arange(200), 90), np.tile(np.arange(90), 200)
    assert model.next_action is not None
    towards = model.next_action.towards(queries)
    odds = (towards[of, :-1] * vectors[items]).sum(axis=1) + towards[of, -1]
    fits = course.histories.log.user[rows][of] % 3 == items % 3
    # nine of ten are liked where the genre is the user's, and none elsewhere
    assert np.median(odds[fits]) > 1.0
    assert np.median(odds[~fits]) < -0.5
