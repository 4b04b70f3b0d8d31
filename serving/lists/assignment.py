"""Who is in which experiment: drawn by a salted hash of the user, so every process knows it without asking.

experiments = Experiments(settings.experiments)
arms = [experiments.arm_of(user) for user in users]   # arm.pipeline makes the list, arm.label is its `variant`
"""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.settings.online import HOLDOUT, ExperimentSettings, ExperimentsSettings

#: The variant of a list whose user takes part in nothing.
CONTROL: Final = "control"


class Arm(NamedTuple):
    """What a user gets: the arm of an experiment, or the default.

    Attributes:
        label: the `variant` of the user's lists.
        pipeline: the section of the settings that makes them; None is the default one.
        experiment: its name; empty for the users who take part in none.
        number: of the arm among the experiment's, the first being the control.
        drawn: by the hash; False for users put into the arm by hand, who prove nothing.
        drafted: the pipelines of the two arms that an interleaved list is drafted from; None for any other list.
    """

    label: str
    pipeline: str | None = None
    experiment: str = ""
    number: int = 0
    drawn: bool = True
    drafted: tuple[str | None, str | None] | None = None


_DEFAULT: Final = Arm(CONTROL)
_HELD_OUT: Final = Arm(HOLDOUT, experiment=HOLDOUT)


class Experiments:
    """The assignment that the settings describe."""

    def __init__(self, settings: ExperimentsSettings) -> None:
        self.settings = settings
        self._by_hand = {
            user: _arms(experiment, drawn=False)[name]
            for experiment in reversed(settings.running)  # the first wins
            for user, name in experiment.users.items()
        }
        self._drawn = [
            (each, [_interleaved(each)] if each.interleave else list(_arms(each, drawn=True).values()))
            for each in settings.running
        ]

    def arm_of(self, user: str) -> Arm:
        """What the user gets; the same for as long as the settings are the same."""
        by_hand = self._by_hand.get(user)
        if by_hand is not None:
            return by_hand
        if self.settings.holdout and point(self.settings.salt, user) < self.settings.holdout:
            return _HELD_OUT
        for experiment, arms in self._drawn:
            salt = experiment.salt or experiment.name
            # two draws: with more traffic, those who take part already stay in their arms
            if experiment.traffic == 1.0 or point(salt + "/traffic", user) < experiment.traffic:
                left = point(salt, user)
                for arm, settings in zip(arms, experiment.arms, strict=False):  # an interleaved one has one for all
                    left -= settings.share
                    if left < 0:
                        return arm
                return arms[-1]  # the shares' rounding
        return _DEFAULT

    def assign(self, users: Iterable[str]) -> list[str]:
        """The variant of each user's list."""
        return [self.arm_of(user).label for user in users]


def _arms(experiment: ExperimentSettings, *, drawn: bool) -> dict[str, Arm]:
    return {
        arm.name: Arm(f"{experiment.name}:{arm.name}", arm.pipeline, experiment.name, number, drawn)
        for number, arm in enumerate(experiment.arms)
    }


def _interleaved(experiment: ExperimentSettings) -> Arm:
    first, second = (arm.pipeline for arm in experiment.arms)
    return Arm(f"{experiment.name}:interleaved", experiment=experiment.name, drafted=(first, second))


def point(salt: str, user: str) -> float:
    """Where a user lies in [0, 1): evenly spread, and independent from salt to salt."""
    drawn = hashlib.blake2b(f"{salt}\x1f{user}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") / 2.0**64
