"""Windows of event time: bounded, and indifferent to the order in which things come."""

import random

import pytest

from serving.measures import Measure
from serving.online.windows import OTHER, VALUES_MAX, Windows, summed

CLICK = ((Measure.CLICKS, 1.0),)


def clicks(windows: Windows, **span: int) -> float:
    return summed(windows.totals("variant", **span))[Measure.CLICKS]


def test_the_newest_windows_are_kept_and_what_is_older_is_late() -> None:
    windows = Windows(["variant"], window_s=1.0, kept=3)
    for second in (10, 11, 12, 13, 9, 13):
        windows.add(second * 1000 + 5, ("control",), CLICK)
    assert clicks(windows) == 4.0 and windows.late == 1 and windows.newest == 13_000
    assert clicks(windows, since=13_000) == 2.0 and clicks(windows, until=13_000) == 2.0
    assert list(windows.series("variant")) == [11_000, 12_000, 13_000]


def test_a_long_silence_leaves_nothing_behind() -> None:
    windows = Windows(["variant"], window_s=1.0, kept=3)
    windows.add(1_000, ("control",), CLICK)
    windows.add(900_000, ("control",), CLICK)
    assert clicks(windows) == 1.0 and windows.late == 0


def test_the_order_of_coming_does_not_matter_while_all_fits() -> None:
    seconds = list(range(50)) * 2
    random.Random(1).shuffle(seconds)
    windows = Windows(["variant"], window_s=1.0, kept=60)
    for second in seconds:
        windows.add(second * 1000, ("control",), CLICK)
    assert clicks(windows) == 100.0
    assert list(windows.series("variant")) == [second * 1000 for second in range(50)]


def test_values_beyond_the_bound_are_counted_together() -> None:
    windows = Windows(["variant"], window_s=1.0, kept=1)
    for n in range(VALUES_MAX + 50):
        windows.add(0, (f"v{n}",), CLICK)
    totals = windows.totals("variant")
    assert len(totals) == VALUES_MAX + 1 and totals[OTHER][Measure.CLICKS] == 50.0
    assert clicks(windows) == VALUES_MAX + 50


def test_an_unknown_dimension_is_an_error() -> None:
    with pytest.raises(ValueError, match="mood"):
        Windows(["variant"], window_s=1.0, kept=1).totals("mood")
