"""Users: a user's past as of any row of a log is what came before that row, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.interactions import NO_ITEM, Impressions, Interactions
from models.data.labels import CONSUMING, Action
from models.data.tokens import hash_tokens
from models.data.users import Histories
from tests.models import world

rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-1, 5), st.sampled_from(list(Action)), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


def log_of(drawn: list[tuple[int, int, Action, int]]) -> Interactions:
    ts = np.cumsum([gap for *_, gap in drawn]) * 1000 + world.START
    return Interactions(
        user=np.array([user for user, *_ in drawn], dtype=np.int32),
        item=np.array([item for _, item, *_ in drawn], dtype=np.int32),
        ts=ts.astype(np.int64),
        action=np.array([action for _, _, action, _ in drawn], dtype=np.uint8),
        strength=np.linspace(0.1, 1.0, len(drawn)).astype(np.float32),
        label=np.ones(len(drawn), dtype=np.int8),
        weight=np.ones(len(drawn), dtype=np.float32),
        device=(np.arange(len(drawn)) % 5).astype(np.uint8),
        user_ids=[f"u{n}" for n in range(4)],
        item_ids=[f"i{n}" for n in range(6)],
        shown=Impressions(
            user=np.arange(12, dtype=np.int32) % 4,
            item=np.arange(12, dtype=np.int32) % 5,
            ts=world.START + 2000 * np.arange(12, dtype=np.int64),
        ),
    )


@settings(max_examples=60, deadline=None)
@given(rows)
def test_the_past_is_what_the_user_consumed_before_the_row(drawn: list[tuple[int, int, Action, int]]) -> None:
    log = log_of(drawn)
    histories = Histories(log, [[1], [2], [3], [], [2], [1]], {"u1": ["a=b"]}, world.SMALL)
    asked = np.arange(len(log))
    users, seen, new = histories.before(asked), histories.seen_before(asked), histories.is_new(asked)
    for row in asked:
        past = [
            r for r in range(row)
            if log.user[r] == log.user[row] and log.item[r] != NO_ITEM and Action(log.action[r]) in CONSUMING
        ]  # fmt: skip
        kept = past[-world.SMALL.sequence.length :]
        shown = users.items[row] >= 0
        assert users.items[row][shown].tolist() == log.item[kept].tolist()
        assert users.ts[row][shown].tolist() == log.ts[kept].tolist()
        assert users.actions[row][shown].tolist() == log.action[kept].tolist()
        assert not shown[: len(shown) - len(kept)].any()
        assert seen[row].tolist() == log.item[past].tolist()
        assert new[row] == (log.item[row] not in log.item[past])
        keys = {key for r in past for key in [[1], [2], [3], [], [2], [1]][log.item[r]]}
        assert set(users.histogram[row][users.histogram[row] > 0].tolist()) == keys
        assert users.now[row] == log.ts[row]
        told = [r for r in range(row) if log.user[r] == log.user[row]]
        assert users.device[row] == (log.device[told[-1]] if told else 0)
        met = [n for n in range(12) if log.shown.user[n] == log.user[row] and log.shown.ts[n] < log.ts[row]]
        before = [n for n in met if told and log.shown.ts[n] < log.ts[told[-1]]]
        assert users.shown[row][users.shown[row] >= 0].tolist() == log.shown.item[before].tolist()
        since = histories.shown_since(asked)[row]
        assert since[since >= 0].tolist() == log.shown.item[met[len(before) :]].tolist()
    profile = hash_tokens(["a=b"], world.SMALL.token_buckets)[0]
    assert (users.profile[:, 0] == np.where(log.user == 1, profile, 0)).all()


def test_consumed_events_come_by_user_and_then_time() -> None:
    histories = Histories(world.interactions(200), [[]] * 90, {}, world.SMALL)
    order, starts = histories.consumed()
    for user in range(60):
        mine = order[starts[user] : starts[user + 1]]
        assert (histories.log.user[mine] == user).all()
        assert (np.diff(mine) > 0).all()
    assert len(order) == 200
