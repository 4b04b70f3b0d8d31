"""What each user of an experiment did, during it and before: the sums that its results are made of."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.lists.assignment import Experiments, point
from serving.measures import N_MEASURES, Amounts, Credit
from streams.contract.events import Recommendations
from streams.settings.online import HOLDOUT

_ROOM: Final = 256


class Sample(NamedTuple):
    """The users compared: the number of each one's arm (n,), and the sums of each measure (n, measures)."""

    arm: npt.NDArray[np.int8]
    now: npt.NDArray[np.float64]
    before: npt.NDArray[np.float64]
    share: float  # of all users that these are


class Ledger:
    """The sums of one experiment's users; of more users than `most`, a random half is kept, again and again.

    Which half is drawn by a hash of the user, so the users kept are a fair sample and are always the same (adaptive
    sampling; Flajolet, 1990).

    Attributes:
        lists: that came by for the experiment's users; `strange` of them carried another variant than assigned.
    """

    def __init__(self, *, starts_at: int, most: int) -> None:
        self.lists = 0
        self.strange = 0
        self._starts_at = starts_at
        self._most = most
        self._share = 1.0
        self._n = 0  # rows in use
        self._rows: dict[str, int] = {}
        self._arm = np.zeros(_ROOM, np.int8)
        self._sums = np.zeros((2, _ROOM, N_MEASURES))  # before, now

    def add(self, user: str, arm: int, ts: int, amounts: Amounts) -> None:
        """Count what a user did at event time `ts` (ms)."""
        row = self._rows.get(user)
        if row is None:
            if self._share < 1.0 and point("sample", user) >= self._share:
                return
            row = self._rows[user] = self._n
            self._n += 1
            if row == len(self._arm):
                self._arm = np.concatenate([self._arm, np.zeros_like(self._arm)])
                self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)], axis=1)
            self._arm[row] = arm
        sums = self._sums[int(ts >= self._starts_at), row]
        for measure, amount in amounts:
            sums[measure] += amount
        if self._n > self._most:
            self._halve()

    def _halve(self) -> None:
        self._share /= 2
        kept = [(user, row) for user, row in self._rows.items() if point("sample", user) < self._share]
        rows = [row for _, row in kept]
        self._rows = {user: at for at, (user, _) in enumerate(kept)}
        room = max(len(rows), _ROOM)
        arm, sums = np.zeros(room, np.int8), np.zeros((2, room, N_MEASURES))
        arm[: len(rows)], sums[:, : len(rows)] = self._arm[rows], self._sums[:, rows]
        self._arm, self._sums, self._n = arm, sums, len(rows)

    def forget(self, user: str) -> None:
        """Forget who an erased user was; the sums stay, nobody's."""
        self._rows.pop(user, None)

    def sample(self) -> Sample:
        """The users who were there during the experiment, as of now."""
        n = self._n
        before, now = self._sums[:, :n]
        there = now.any(axis=1)
        return Sample(self._arm[:n][there], now[there], before[there], self._share)


class Ledgers:
    """A ledger for each experiment, and one that holds the holdout against everybody else."""

    def __init__(self, experiments: Experiments, *, most: int) -> None:
        self.experiments = experiments
        settings = experiments.settings
        self.of = {each.name: Ledger(starts_at=each.starts_at or 0, most=most) for each in settings.running}
        if settings.holdout:
            self.of[HOLDOUT] = Ledger(starts_at=0, most=most)

    def take(self, credit: Credit) -> None:
        """Count a credit for the experiments that its user takes part in."""
        if not self.of:
            return
        arm = self.experiments.arm_of(credit.user_id)
        if not arm.drawn:
            return
        if arm.experiment in self.of and arm.experiment != HOLDOUT:
            self.of[arm.experiment].add(credit.user_id, arm.number, credit.ts, credit.amounts)
        if HOLDOUT in self.of:
            self.of[HOLDOUT].add(credit.user_id, int(arm.experiment != HOLDOUT), credit.ts, credit.amounts)

    def forget(self, user: str) -> None:
        """Forget who an erased user was."""
        for ledger in self.of.values():
            ledger.forget(user)

    def take_list(self, made: Recommendations) -> None:
        """Note whether a list carries the variant that its user was assigned."""
        arm = self.experiments.arm_of(made.user_id) if self.of else None
        if arm is not None and arm.experiment in self.of:
            ledger = self.of[arm.experiment]
            ledger.lists += 1
            ledger.strange += made.variant != arm.label
