"""The rows of a log that could not be used, counted by reason, for those who handed the log in."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streams.contract.events import BadRecord

#: Reasons may quote values of the rows, so memory is bounded: this many reasons are kept, each cut to this length, and
#: this many are named in a summary.
_KEPT: Final = 100
_LENGTH: Final = 200
_NAMED: Final = 5
_OTHER: Final = "other reasons"


class Refusals:
    """Counts refused rows.

    Attributes:
        reasons: how many rows by reason.
    """

    def __init__(self, reasons: Mapping[str, int] = MappingProxyType({})) -> None:
        self.reasons: Counter[str] = Counter(reasons)

    def add(self, bad: BadRecord) -> None:
        """Count one row."""
        reason = str(bad)
        if len(reason) > _LENGTH:
            reason = f"{reason[:_LENGTH]}…"
        if reason not in self.reasons and len(self.reasons) >= _KEPT:
            reason = _OTHER
        self.reasons[reason] += 1

    @property
    def rows(self) -> int:
        """How many rows were refused."""
        return self.reasons.total()

    def among(self, rows: int) -> str:
        """How many of the rows were refused, with the most frequent reasons, one a line."""
        named = self.reasons.most_common(_NAMED)
        lines = [f"  {count:,}: {reason}" for reason, count in named]
        if rest := self.rows - sum(count for _, count in named):
            lines.append(f"  {rest:,} for other reasons")
        return "\n".join([f"{self.rows:,} of {rows:,} rows refused:", *lines])
