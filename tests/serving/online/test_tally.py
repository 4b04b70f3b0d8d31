"""The tally: drift and concentration of what comes by."""

import numpy as np
import pytest

from serving.online.concentration import Concentration
from serving.online.tally import Tally
from streams.contract.events import Event, ListItem, Recommendations
from streams.settings.online import OnlineSettings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store
from tests.conftest import MakeSettings

START = 1_750_000_000_000
HOUR = 3_600_000


@pytest.fixture
def tally(make_settings: MakeSettings) -> Tally:
    settings = make_settings(online=OnlineSettings(recent_s=3_600.0, concentration_half_life_s=3_600.0))
    catalogue = Catalogue(Store(settings))
    catalogue._add(0, [f"i{n}" for n in range(10)])
    return Tally(settings, catalogue)


def play(tally: Tally, hour: float, country: str, count: int = 300) -> None:
    for n in range(count):
        ts = START + int(hour * HOUR) + n
        context = {"country": country}
        event = Event(type="click", user_id=f"u{n}", item_id="i0", ts=ts, event_id=f"{hour}-{n}", context=context)
        tally.take_event(event, ts)


def test_drift_is_told_where_the_newest_events_are_unlike_those_before(tally: Tally) -> None:
    play(tally, 0.0, "KR")
    assert tally.drift() == {}  # nothing to hold it against
    play(tally, 5.0, "KR")
    assert tally.drift()["country"] < 0.01
    play(tally, 8.0, "DE")
    assert tally.drift()["country"] > 1.0 and tally.drift()["type"] < 0.01


def test_concentration_is_over_all_items_and_of_late(tally: Tally) -> None:
    everything = [ListItem(item_id=f"i{n}", score=1.0, sources=[], reason="") for n in range(10)]
    made = Recommendations(
        rec_id="r", user_id="ann", seq=1, items=everything, model="v", index="flat", generated_at=START
    )
    tally.take_list(made, START)
    play(tally, 0.0, "KR")
    assert tally.concentration() == {"exposures": 0.0, "clicks": pytest.approx(0.9)}


def test_older_counts_fade() -> None:
    counts = Concentration(half_life_s=3_600.0)
    for _ in range(64):
        counts.add([0], START)
    assert counts.gini(2, START) == pytest.approx(0.5)
    counts.add([1], START + 6 * HOUR)
    assert counts.gini(2, START + 6 * HOUR) == pytest.approx(0.0)  # 64 of six half-lives ago against one of now
    many = np.random.default_rng(0).integers(0, 50, 30_000)
    counts.add(many.tolist(), START + 600 * HOUR)
    assert counts.gini(50, START + 600 * HOUR) == pytest.approx(0.0, abs=0.05)
