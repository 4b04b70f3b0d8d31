"""What is counted of users and their lists, and the rates that are made of it."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from streams.settings.online import Metric


class Measure(IntEnum):
    """Something that is counted; all of them add up."""

    EVENTS = 0
    SESSIONS = 1
    ENGAGED_SESSIONS = 2  # with a click or a watch
    SHOWN = 3  # places of lists with an impression
    TAKEN = 4  # places of lists with a click or a watch
    SHOWN_AND_TAKEN = 5
    CLICKS = 6
    WATCHES = 7
    LONG_WATCHES = 8
    COMPLETIONS = 9
    WATCH_S = 10
    LIKES = 11  # saves and shares too
    REFUSALS = 12  # dislikes and hides
    FIRST_TAKEN = 13  # of interleaved lists: places taken that the first arm picked
    SECOND_TAKEN = 14


N_MEASURES: Final = len(Measure)

Amounts = tuple[tuple[Measure, float], ...]
#: A value of each dimension; of several values, as the sources of a place, each gets an equal part.
Labels = tuple[str | tuple[str, ...], ...]


class Credit(NamedTuple):
    """Something to count: when (event time, ms), of whom, under which labels, and how much of what."""

    ts: int
    user_id: str
    labels: Labels
    amounts: Amounts


class Rate(NamedTuple):
    """A ratio of two measures; without a denominator it is per user."""

    over: Measure
    under: Measure | None
    meaning: str


RATES: Final[dict[Metric, Rate]] = {
    "engagement_rate": Rate(Measure.ENGAGED_SESSIONS, Measure.SESSIONS, "sessions with a click or a watch"),
    "click_through": Rate(Measure.SHOWN_AND_TAKEN, Measure.SHOWN, "shown places that were clicked or watched"),
    "completion_rate": Rate(Measure.COMPLETIONS, Measure.WATCHES, "watches that went to the end"),
    "long_watches_per_session": Rate(Measure.LONG_WATCHES, Measure.SESSIONS, "long watches in a session"),
    "watch_s_per_session": Rate(Measure.WATCH_S, Measure.SESSIONS, "seconds watched in a session"),
    "sessions_per_user": Rate(Measure.SESSIONS, None, "sessions of a user"),
    "watch_s_per_user": Rate(Measure.WATCH_S, None, "seconds that a user watched"),
}


def rates(counts: Sequence[float], sessions: float | None = None) -> dict[str, float | None]:
    """Every rate that counts alone give; None where its denominator is 0.

    Args:
        sessions: what a rate over sessions is over, in place of the counts' own.
    """
    found: dict[str, float | None] = {}
    for name, (over, under, _) in RATES.items():
        if under is not None:
            total = sessions if sessions is not None and under is Measure.SESSIONS else counts[under]
            found[name] = counts[over] / total if total else None
    return found
