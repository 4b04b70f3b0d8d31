"""The state of users as Redis tells it, taken apart: of many users at once, as a list needs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.data.labels import Action
from streams.state.packing import HISTOGRAM, RECORD

_HISTOGRAM_BYTE: Final = ord(HISTOGRAM)


@dataclass(frozen=True)
class UserState:
    """A user's state as read for a list.

    Attributes:
        list_number: the sequence number of the list to be made.
        sequence: (n,) of `RECORD`, in the order of event time.
        seen: (m,) item numbers.
        histogram: keys and their weights, heaviest first, scaled alike.
        profile: the user's record as JSON, or empty.
        shown: (k,) item numbers of the newest impressions; an item comes as often as it was shown.
        friends: (f,) item numbers that those whom the user follows liked last, the oldest first.
        device: of the newest event that is no impression, a `models.data.interactions.device_code`.
        searched: words, as tokens, and the time in ms of the last search for each, newest first.
        user_id: empty for nobody in particular.
    """

    list_number: int
    sequence: npt.NDArray[Any]
    seen: npt.NDArray[np.uint32]
    histogram: list[tuple[str, float]]
    profile: bytes
    shown: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    friends: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    device: int = 0
    searched: Sequence[tuple[str, int]] = ()
    user_id: str = ""

    @classmethod
    def empty(cls) -> "UserState":
        """The state of a user of whom nothing is known."""
        return cls(0, np.zeros(0, RECORD), np.zeros(0, np.uint32), [], b"")


def user_states(users: Sequence[str], rows: Sequence[Sequence[Any]], length: int, histogram: int) -> list[UserState]:
    """The states of users out of what `read_users.lua` returned of each: what is in records is taken apart together."""
    raws = [row[1] or b"" for row in rows]
    records = np.frombuffer(b"".join(raws), RECORD)
    bounds = np.cumsum([0, *(len(raw) // RECORD.itemsize for raw in raws)])

    def parts(kept: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], list[int]]:
        """The records that are kept, and where each user's begin and end among them."""
        return records[kept], np.concatenate([[0], np.cumsum(kept)])[bounds].tolist()

    actions, of_actions = parts(records["is_action"])
    is_impression = records["action"] == Action.IMPRESSION
    impressions, of_shown = parts(is_impression)
    doings, of_doings = parts(~is_impression)
    device = doings["device"].tolist()
    acted, shown = actions["item"].copy(), impressions["item"].copy()
    late = np.cumsum(np.r_[False, actions["ts"][1:] < actions["ts"][:-1]]) if len(actions) else np.zeros(0, np.int64)
    states = []
    for at, (number, _, fields, profile, searched, _) in enumerate(rows):
        begin, end = of_actions[at], of_actions[at + 1]
        names, weights, state = _told_apart(fields)
        seen = acted[begin:end]
        if b"seen" in state:
            seen = np.concatenate([np.frombuffer(state[b"seen"], "<u4"), seen])
        sequence = actions[max(begin, end - length) : end]
        if end - begin > 1 and late[end - 1] > late[begin]:
            sequence = sequence[np.argsort(sequence["ts"], kind="stable")]
        states.append(
            UserState(
                int(number or state.get(b"lists") or 0),
                sequence,
                seen,
                _heaviest(names, weights, histogram),
                profile or b"",
                shown[of_shown[at] : of_shown[at + 1]],
                device=device[of_doings[at + 1] - 1] if of_doings[at + 1] > of_doings[at] else 0,
                searched=[(w.decode(), int(ts)) for w, ts in zip(searched[::2], searched[1::2], strict=True)],
                user_id=users[at],
            )
        )
    return states


def _told_apart(fields: Sequence[bytes]) -> tuple[list[bytes], npt.NDArray[np.float64], dict[bytes, bytes]]:
    """The entries of a histogram, as names and weights, and the few other fields of a user's state."""
    names, values = list(fields[::2]), list(fields[1::2])
    # entries are hundreds, so each is looked at but once
    others = [at for at, name in enumerate(names) if name[0] != _HISTOGRAM_BYTE]
    rest = {names.pop(at): values.pop(at) for at in reversed(others)}
    return names, np.frombuffer(b"".join(values), "<f8"), rest


def _heaviest(names: list[bytes], weights: npt.NDArray[np.float64], count: int) -> list[tuple[str, float]]:
    """The heaviest entries of a histogram, equal ones in the order of their names."""
    if len(weights) > count > 0:
        behind = len(weights) - count
        kept = np.flatnonzero(weights >= np.partition(weights, behind)[behind])
        names, weights = [names[at] for at in kept.tolist()], weights[kept]
    # as pairs that order themselves, without a call for each
    entries = sorted(zip((-weights).tolist(), names, strict=True))
    return [(name[1:].decode(), -negative) for negative, name in entries[:count]]
