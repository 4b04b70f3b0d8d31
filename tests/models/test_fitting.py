"""What the training loops are fed: how little of it is padding, what is drawn beside it, and what that is for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import TrainingConfig
from models.data.popularity import PopularityConfig
from models.data.tokens import TokenTable
from models.data.users import Histories
from models.networks.network import Network
from models.networks.popularity_prior import TrendTable
from models.networks.sequence import SequenceModel
from models.networks.towers import TwoTowers
from models.networks.training_loop import Lesson, Negatives, Windows
from models.training.context import Course
from models.training.prequential_walk import targets_of
from tests.models import world

WIDTH = 101
TOWERS = replace(world.SMALL.towers, epochs=20)


@pytest.mark.parametrize(("tokens", "bound"), [(4096, 0.09), (1024, 0.03), (256, 0.01)])
def test_windows_of_nearly_equal_length_leave_little_padding(tokens: int, bound: float) -> None:
    """Most of the users did little and a few did a lot; the more batches there are, the more alike are a batch's."""
    rng, users = np.random.default_rng(0), 4000
    often = 1.0 / np.arange(1, users + 1)
    log = replace(world.interactions(120_000), user=rng.choice(users, 120_000, p=often / often.sum()).astype(np.int32))
    log = replace(log, user_ids=[f"u{n}" for n in range(users)])
    histories = Histories(log, [[]] * 90, {}, TrainingConfig())
    lesson = Lesson(
        histories,
        TokenTable.of([], 2),
        TrendTable.over(log.rows(slice(0, 0)), PopularityConfig(), 90),
        np.ones(len(log), np.float32),
        targets_of(histories),
        time.monotonic(),
        rng,
        lambda _done: None,
    )
    order, starts = histories.consumed()
    batches = list(Windows(order, starts, lesson, tokens, WIDTH)())
    met = np.concatenate([window[inside] for window, inside, _ in batches])
    assert len(np.unique(met)) == len(met), "nothing is learnt from twice"
    assert np.isin(np.flatnonzero(lesson.weights[order] > 0), met).all(), "and nothing is left out"
    places = sum(inside.size for _, inside, _ in batches)
    assert all(inside.size <= max(tokens, WIDTH) for _, inside, _ in batches)
    assert 1.0 - len(met) / places < bound


@pytest.fixture
def course() -> Course:
    return Course.over(world.data(world.interactions(1500)), world.SMALL, PopularityConfig(), [])


def lesson_of(course: Course) -> Lesson:
    return Lesson(
        course.histories,
        course.content,
        course.trends,
        np.ones(len(course.targets), np.float32),
        course.targets,
        time.monotonic() + 60.0,
        np.random.default_rng(0),
        lambda _done: None,
    )


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_towers_learn_by_either_likeness(course: Course, similarity: Any) -> None:
    torch.manual_seed(0)
    model = TwoTowers(90, world.SMALL.token_buckets, 4, replace(TOWERS, similarity=similarity))
    model.fit(lesson_of(course))
    with torch.no_grad():
        vectors = model.of_items(torch.arange(90), course.content)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(90)) == (similarity == "cosine")
    rows = np.flatnonzero(course.targets)
    best = (model.queries(course.histories.before(rows), vectors.numpy()) @ vectors.numpy().T).argmax(axis=1)
    assert (best % 3 == course.histories.log.user[rows] % 3).mean() > 0.9


@pytest.mark.parametrize("popular", [0.0, 0.25, 1.0])
def test_negatives_are_drawn_as_often_as_is_expected_of_them(course: Course, popular: float) -> None:
    lesson = lesson_of(course)
    negatives = Negatives(lesson, 64, popular)
    draws = 2000
    counts = np.bincount(np.concatenate([negatives.drawn() for _ in range(draws)]), minlength=90)
    expected = draws * negatives.expected(np.arange(90), 0)
    assert counts.sum() == 64 * draws == pytest.approx(expected[negatives.pool].sum(), rel=1e-4)
    assert (np.abs(counts - expected)[negatives.pool] < 5 * np.sqrt(expected[negatives.pool])).all()
    more = negatives.expected(np.arange(90), 7) - negatives.expected(np.arange(90), 0)
    np.testing.assert_allclose(more, 7 * lesson.frequencies(), atol=1e-5)


def test_without_negatives_the_towers_fold_and_with_them_they_do_not(course: Course) -> None:
    """Where only what goes together is brought together, what does not go together is as well."""
    log, rows = course.histories.log, np.flatnonzero(course.targets)
    users, liked = course.histories.before(rows), torch.from_numpy(log.item[rows].astype(np.int64))

    def told(model: TwoTowers) -> tuple[float, float]:
        """How alike items of two genres are, and how often the best item is of the user's genre."""
        with torch.no_grad():
            vectors = model.eval().of_items(torch.arange(90), course.content).numpy()
        best = (model.queries(users, vectors) @ vectors.T).argmax(axis=1)
        return float((vectors[0::3] @ vectors[1::3].T).mean()), float((best % 3 == log.user[rows] % 3).mean())

    def made() -> TwoTowers:
        torch.manual_seed(0)
        return TwoTowers(90, world.SMALL.token_buckets, 4, TOWERS)

    folded = made()
    optimiser = torch.optim.AdamW(folded.parameters(), lr=world.SMALL.towers.learning_rate)
    for _ in range(60):
        vectors = folded.of_items(torch.arange(90), course.content)
        history = vectors[torch.from_numpy(np.maximum(users.items, 0)).long()]
        loss = -(folded.of_users(users, history) * vectors[liked]).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    apart = made()
    apart.fit(lesson_of(course))
    assert told(folded)[0] > 0.95
    likeness, right = told(apart)
    assert likeness < 0.5 and right > 0.9


@pytest.mark.parametrize(("kind", "config"), [(SequenceModel, world.SMALL.sequence), (TwoTowers, world.SMALL.towers)])
def test_a_network_is_taught_goes_on_and_is_kept(
    course: Course, kind: type[Network], config: Any, tmp_path: Path
) -> None:
    """New rows may be met in what it goes on with, and what is loaded answers as what was saved."""
    sizes, config = (world.SMALL.token_buckets, 4), replace(config, epochs=3, fine_tune_epochs=2)
    torch.manual_seed(0)
    network = kind(60, *sizes, config)
    network.items.grow(90)
    first, more = lesson_of(course), lesson_of(course)
    network.fit(first)
    network.fit_partial(more)
    assert len(first.losses) == 3 and len(more.losses) == 2
    assert more.losses[-1] < first.losses[-1]
    network.save(tmp_path / "kept.safetensors")
    kept = kind.load(tmp_path / "kept.safetensors", 90, *sizes, config)
    assert not kept.training
    rows = torch.arange(90)
    with torch.no_grad():
        vectors = network.of_items(rows, course.content)
        torch.testing.assert_close(kept.of_items(rows, course.content), vectors, rtol=0, atol=0)
    users = course.histories.before(np.arange(100, 140))
    np.testing.assert_array_equal(kept.queries(users, vectors.numpy()), network.queries(users, vectors.numpy()))
