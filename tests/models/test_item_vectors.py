"""The items' vectors: that what nobody has met is known by its content, or by what its creators have made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.data.popularity import PopularityConfig
from models.data.tokens import BareItem, ItemContent
from models.networks.item_vectors import by_creators, centre_of
from models.ranking.blend import Blend
from models.recommender import Recommender
from models.training.context import Course
from tests.models import world


def film(number: int, **categorical: list[str]) -> BareItem:
    return BareItem(f"i{number}", title=f"Film {number}", published_at=world.START, categorical=categorical)


def made_of(*added: BareItem) -> Recommender:
    """A model of a world in which these were never met, and the first ten items have a director."""
    data = world.data(world.interactions(600))
    directed = [film(number, genre=["drama"], director=["a" if number < 5 else "b"]) for number in range(10)]
    course = Course.over(
        replace(data, items=[*directed, *data.items[10:], *added]), world.SMALL, PopularityConfig(), []
    )
    return course.recommender("", course.networks(None), Blend.prior(PopularityConfig()), 600)


def vectors(model: Recommender, *items: ItemContent) -> list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Those of the items in both indexes."""
    assert model.networks is not None
    rows = model.admit(items)
    return [index.vectors[rows, :-1] for index in (model.networks.sequence_index, model.networks.towers_index)]


def test_an_item_nobody_has_met_is_known_by_its_content_alone() -> None:
    alike = [replace(film(number, genre=["drama"]), title="") for number in (93, 96)]
    for new, other in vectors(made_of(*alike), *alike):
        np.testing.assert_array_equal(new, other)
    for one, other in vectors(made_of(*alike), world.item(12), world.item(15)):
        assert not np.array_equal(one, other), "those that were met have ids"


def test_of_whom_only_the_creators_are_told_is_the_mean_of_what_they_have_made() -> None:
    by_a, by_both = film(93, director=["a"]), film(94, director=["a", "b"])
    nobodys, told = film(95, director=["c"]), film(96, director=["a"], genre=["news"])
    known, first = (by_a, by_both, nobodys, told), [film(number) for number in range(5)]
    model, later = made_of(*known), made_of()
    for own, of_a in zip(vectors(model, *known), vectors(model, *first), strict=True):
        mean = of_a.mean(axis=0)
        cosine = own @ mean / np.linalg.norm(own, axis=1) / np.linalg.norm(mean)
        assert cosine[0] > 0.9999 > max(cosine[1:])
        np.testing.assert_allclose(np.linalg.norm(own[0]), np.linalg.norm(of_a, axis=1).mean(), rtol=1e-5)
    # and the same if they come when the model is in service
    for own, of_a in zip(vectors(later, *known), vectors(later, *first), strict=True):
        mean = of_a.mean(axis=0)
        assert own[0] @ mean / np.linalg.norm(own[0]) / np.linalg.norm(mean) > 0.9999


def test_the_creators_of_nothing_leave_the_content() -> None:
    given = np.ones((1, 3), np.float32)
    creators = np.array([[7, 0]], np.int32)
    nothing = by_creators(given, [film(1, director=["a"])], creators, np.zeros((0, 3), np.float32), creators[:0])
    np.testing.assert_array_equal(nothing, given)
    of_others = by_creators(given, [film(1, director=["a"])], creators, 2 * given, np.array([[8, 9]], np.int32))
    np.testing.assert_array_equal(of_others, given)


def test_what_nobody_has_met_does_not_move_the_centre() -> None:
    model = made_of(*(film(number, genre=["news"]) for number in range(93, 193)))
    assert model.networks is not None
    vectors = model.networks.towers_index.vectors[:, :-1]
    met = np.flatnonzero(model.facts.is_met)
    assert 60 < len(met) <= 90 > met.max()
    np.testing.assert_allclose(model.centre, vectors[met].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert not np.allclose(model.centre, vectors.mean(axis=0), rtol=0.1)
    assert not centre_of(vectors, np.zeros(len(vectors), bool)).any()
