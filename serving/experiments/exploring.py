"""What exploring earns, and what drawing otherwise would: off-policy estimates from the propensities in the lists.

A list that explores says with which propensity the item of its exploring place was drawn. Together with whether the
place was taken, once shown, that is a log by which other policies for the place can be judged without serving them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from models.statistics.effects import mean_of
from models.statistics.off_policy import off_policy
from serving.experiments.results import Interval, interval_of
from streams.contract.events import Event, Recommendations
from streams.settings.pipeline import ExplorationSettings

_LISTS: Final = 50_000
#: A weight counts no more than this: it trades a little bias for much variance.
CAP: Final = 20.0


class Choice(NamedTuple):
    """What stood at the exploring place of a list that was shown, and what became of it."""

    rec_id: str
    item_id: str
    logged: float | None  # the chance of the draw, among new items; None where the list did not explore
    reward: float  # 1 where it was clicked or watched


class PolicyResult(BaseModel):
    """What a policy for the exploring place earns: the share of shown places that are taken."""

    policy: str
    meaning: str
    value: Interval = Field(description="SNIPS where it is an estimate from another policy's log")
    ips: Interval | None = Field(None, description="of an estimate, the unbiased and less steady one")
    rows: int = Field(description="shown places that it is made of")
    effective_rows: float = Field(description="what the weights leave of them (Kish)")


@dataclass(slots=True)
class _Shown:
    user: str
    item: str
    logged: float | None
    shown: bool = False
    taken: bool = False


class Exploring:
    """Remembers the exploring place of the newest published lists, and what became of it."""

    def __init__(self, exploration_of: Callable[[str], ExplorationSettings | None]) -> None:
        """Nothing is known at first.

        Args:
            exploration_of: how a user's lists explore; None where they are drafted from two pipelines.
        """
        self._exploration_of = exploration_of
        self._lists: OrderedDict[str, _Shown] = OrderedDict()

    def take_list(self, made: Recommendations) -> None:
        """Take in a list that was published."""
        settings = self._exploration_of(made.user_id)
        if settings is None or settings.rate == 0 or not made.items:
            return
        drawn = next((place for place in made.items if place.propensity is not None), None)
        place = drawn or made.items[min(settings.place, len(made.items)) - 1]
        logged = None if drawn is None or drawn.propensity is None else min(drawn.propensity / settings.rate, 1.0)
        self._lists[made.rec_id] = _Shown(made.user_id, place.item_id, logged)
        if len(self._lists) > _LISTS:
            self._lists.popitem(last=False)

    def take_event(self, event: Event) -> None:
        """Take in an event."""
        listed = self._lists.get(event.rec_id or "")
        if listed is None or listed.item != event.item_id or listed.user != event.user_id:
            return
        took = event.type in ("click", "watch")
        listed.shown |= took or event.type == "impression"
        listed.taken |= took

    def forget(self, user: str) -> None:
        """Forget an erased user's lists."""
        for rec_id in [rec_id for rec_id, each in self._lists.items() if each.user == user]:
            del self._lists[rec_id]

    def choices(self) -> list[Choice]:
        """The places that were shown, oldest first."""
        return [
            Choice(rec_id, each.item, each.logged, float(each.taken))
            for rec_id, each in self._lists.items()
            if each.shown
        ]


def judged(choices: Sequence[Choice]) -> list[PolicyResult]:
    """The policy in service, not exploring, and drawing all new items alike, by the choices logged."""
    plain = [each.reward for each in choices if each.logged is None]
    drawn = [each for each in choices if each.logged is not None]
    rewards = [each.reward for each in drawn]
    found = []
    for policy, meaning, earned in (
        ("no exploring", "the item that the list would have there anyhow", plain),
        ("as drawn", "a new item, by Thompson sampling", rewards),
    ):
        if len(earned) > 1:
            value = interval_of(mean_of(earned), 0.95)
            found.append(
                PolicyResult(policy=policy, meaning=meaning, value=value, rows=len(earned), effective_rows=len(earned))
            )
    if len(drawn) > 1:
        chances = np.array([each.logged for each in drawn], np.float64)
        even = 1.0 / len({each.item_id for each in drawn})
        estimate = off_policy(rewards, chances, np.full(len(drawn), even), cap=CAP)
        found.append(
            PolicyResult(
                policy="drawn alike",
                meaning="a new item, each of those that were drawn at all as often as the others",
                value=interval_of(estimate.snips, 0.95),
                ips=interval_of(estimate.ips, 0.95),
                rows=len(drawn),
                effective_rows=estimate.effective_rows,
            )
        )
    return found
