"""Users as the models read them, many at once, out of their state in Redis."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.config import TrainingConfig
from models.data.interactions import NO_ITEM
from models.data.searches import faded
from models.data.tokens import buckets_of, hash_users, profile_tokens
from models.data.users import SHOWN, UserBatch
from serving.pipeline.sources import ONBOARDING
from streams.contract.events import UserRecord
from streams.state.packing import RECORD
from streams.state.user_states import UserState

_MAX_TOKENS: Final = 1_000_000


class UserBatches:
    """Makes batches for one version of a model."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._tokens = _Tokens(config.token_buckets)

    def of(
        self,
        states: Sequence[UserState],
        profiles: Sequence[UserRecord | None],
        moments: Sequence[int],
        rows: npt.NDArray[np.int32],
    ) -> UserBatch:
        """The users at these event times (ms).

        Args:
            rows: the model's row of each item number; numbers beyond it are left out.
        """
        config, length = self._config, self._config.sequence.length
        # as bytes, since numpy takes its time to join records
        sequence = np.concatenate([state.sequence.view(np.uint8) for state in states]).view(RECORD)
        of = np.repeat(np.arange(len(states)), [len(state.sequence) for state in states])
        known = sequence["item"] < len(rows)
        if not known.all():
            sequence, of = sequence[known], of[known]
        # on the right, so that the newest stands at the end
        columns = length - np.cumsum(np.bincount(of, minlength=len(states)))[of] + np.arange(len(of))
        inside = columns >= 0
        at, sequence = (of[inside], columns[inside]), sequence[inside]

        def filled(values: npt.NDArray[Any], fill: int = 0) -> npt.NDArray[Any]:
            table = np.full((len(states), length), fill, values.dtype)
            table[at] = values
            return table

        entries = [
            _entries(state, profile)[: config.histogram_size] for state, profile in zip(states, profiles, strict=True)
        ]
        shares = _table([[weight for _, weight in each] for each in entries], config.histogram_size, np.float64)
        total = shares.sum(axis=1, keepdims=True)
        tokens = [[self._tokens[key] for key, _ in each] for each in entries]
        searched = [state.searched[: config.search_size] for state in states]
        words = _table([[self._tokens[word] for word, _ in each] for each in searched], config.search_size, np.int32)
        since = _table([[ts for _, ts in each] for each in searched], config.search_size, np.int64)
        now = np.array(moments, np.int64)
        return UserBatch(
            user=hash_users([state.user_id for state in states], config.token_buckets),
            items=filled(rows[sequence["item"]], NO_ITEM),
            actions=filled(sequence["action"]),
            strengths=filled(sequence["strength"]),
            ts=filled(sequence["ts"]),
            now=now,
            profile=_table([self._of_profile(each) for each in profiles], config.profile_size, np.int32),
            histogram=_table(tokens, config.histogram_size, np.int32),
            histogram_weights=(shares / np.where(total > 0, total, 1.0)).astype(np.float32),
            searched=words,
            searched_weights=faded(words > 0, since, now, config.search_half_life_s),
            shown=_on_the_right([rows[each[each < len(rows)]][-SHOWN:] for each in (state.shown for state in states)]),
            device=np.array([state.device for state in states], np.uint8),
        )

    def _of_profile(self, profile: UserRecord | None) -> list[int]:
        if profile is None:
            return []
        tokens = profile_tokens(profile.categorical, profile.numeric)[: self._config.profile_size]
        return [self._tokens[token] for token in tokens]


class _Tokens(dict[str, int]):
    """The bucket of each token, hashed when it is first met."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self._buckets = buckets

    def __missing__(self, text: str) -> int:
        if len(self) >= _MAX_TOKENS:
            self.clear()
        token = self[text] = buckets_of([text], self._buckets)[0]
        return token


def _entries(state: UserState, profile: UserRecord | None) -> list[tuple[str, float]]:
    """A user's histogram; what was chosen at the start stands in for what is not there yet."""
    if state.histogram or profile is None:
        return state.histogram
    return [(key, 1.0) for key in profile.categorical.get(ONBOARDING, ())]


def _on_the_right(rows: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """Rows of numbers as a table (B, the longest), filled up with -1 on the left."""
    width = max(map(len, rows), default=0)
    table = np.full((len(rows), width), NO_ITEM, np.int32)
    if width:
        table[np.arange(width) >= width - np.array([[len(row)] for row in rows])] = np.concatenate(rows)
    return table


def _table(rows: Sequence[Sequence[float]], width: int, dtype: Any) -> npt.NDArray[Any]:
    """Rows of numbers as a table (B, width), filled up with 0."""
    lengths = np.array([len(row) for row in rows], np.int64)
    table = np.zeros((len(rows), width), dtype)
    table[np.arange(width) < lengths[:, None]] = [value for row in rows for value in row]
    return table
