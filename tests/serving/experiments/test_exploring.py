"""What exploring earns, out of lists and what came of them."""

import random

import pytest

from serving.experiments.exploring import Choice, Exploring, judged
from streams.contract.events import Event, ListItem, Recommendations
from streams.settings.pipeline import ExplorationSettings

SETTINGS = ExplorationSettings(rate=0.1, place=2)


def listed(number: int, *, drawn: float | None = None) -> Recommendations:
    places = [
        ListItem(item_id=item, score=1.0, sources=[], reason="", propensity=drawn if item == "b" else None)
        for item in "abc"
    ]
    return Recommendations(
        rec_id=f"r{number}", user_id="ann", seq=number, items=places, model="v1", index="flat", generated_at=0
    )


def event(kind: str, number: int, item: str, user: str = "ann") -> Event:
    return Event(type=kind, user_id=user, item_id=item, ts=1, rec_id=f"r{number}")  # type: ignore[arg-type]


def test_a_place_that_was_shown_is_a_row_with_the_chance_of_its_draw() -> None:
    exploring = Exploring(lambda _: SETTINGS)
    for number, drawn in enumerate((0.05, None, 0.05, 0.05)):
        exploring.take_list(listed(number, drawn=drawn))
    exploring.take_event(event("impression", 0, "b"))
    exploring.take_event(event("click", 0, "b"))
    exploring.take_event(event("impression", 1, "b"))
    exploring.take_event(event("click", 1, "a"))  # of another place
    exploring.take_event(event("click", 2, "b", user="ben"))  # of another user
    assert exploring.choices() == [Choice("r0", "b", 0.5, 1.0), Choice("r1", "b", None, 0.0)]
    exploring.forget("ann")
    assert exploring.choices() == []


@pytest.mark.parametrize("settings", [None, SETTINGS.model_copy(update={"rate": 0.0})])
def test_lists_that_do_not_explore_are_no_evidence(settings: ExplorationSettings | None) -> None:
    exploring = Exploring(lambda _: settings)
    exploring.take_list(listed(0))
    exploring.take_event(event("click", 0, "b"))
    assert exploring.choices() == []


def test_drawing_alike_is_judged_by_the_log_of_drawing_otherwise() -> None:
    draw = random.Random(3)
    chances, earns = {"new": 0.8, "newer": 0.2}, {"new": 0.5, "newer": 0.1}
    log = [Choice(f"p{n}", "old", None, float(draw.random() < 0.6)) for n in range(4_000)]
    for n in range(8_000):
        item = "new" if draw.random() < 0.8 else "newer"
        log.append(Choice(f"r{n}", item, chances[item], float(draw.random() < earns[item])))
    plain, drawn, alike = judged(log)
    assert plain.value.value == pytest.approx(0.6, abs=0.03) and plain.rows == 4_000
    assert drawn.value.value == pytest.approx(0.42, abs=0.03)
    assert alike.ips is not None
    assert alike.value.value == pytest.approx(0.3, abs=0.03) and alike.ips.value == pytest.approx(0.3, abs=0.03)
    assert 4_000 < alike.effective_rows < 6_500, "5,120 by Kish's formula"
    assert judged([]) == []


def test_of_places_that_all_fared_alike_no_bounds_are_told() -> None:
    [plain] = judged([Choice(f"p{n}", "old", None, 0.0) for n in range(5)])
    assert (plain.value.value, plain.value.low, plain.value.high) == (0.0, None, None)
