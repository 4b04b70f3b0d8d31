"""The garbage collector: what survives is set aside, and looked at again in time."""

import gc
import time
from collections.abc import Iterator

import pytest

from serving.lists.gc_tuning import collect_seldom, look_at_all


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    callbacks, thresholds = list(gc.callbacks), gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


class Knot:
    """Garbage that only the collector can find."""

    left = 0

    def __init__(self) -> None:
        self.itself = self
        Knot.left += 1

    def __del__(self) -> None:
        Knot.left -= 1


def test_what_survived_is_set_aside_and_looked_at_again_when_all_is() -> None:
    collect_seldom()
    knot = Knot()
    gc.collect()
    assert gc.get_freeze_count() > 10_000
    del knot
    gc.collect()
    assert Knot.left == 1, "it was set aside while it was in use"
    look_at_all()
    assert Knot.left == 0 and gc.get_freeze_count() > 10_000


def test_all_is_looked_at_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    collect_seldom()
    knot = Knot()
    gc.collect()
    del knot
    later = time.monotonic() + 3_601.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    gc.collect()  # brings back what was set aside
    gc.collect()
    assert Knot.left == 0
