"""The sample log: each event once whatever is delivered again and wherever a crash falls, and read as it was sent."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.interactions import NO_ITEM
from models.data.labels import LabelRules, grade
from streams.contract.events import ACTIONS, Event, decode_event
from streams.training.sample_log import SampleLog, read_interactions

LOG = "log"
ARRIVED = 1_700_000_000_000


def raw(user: str, ts: int, **more: object) -> bytes:
    return json.dumps({"type": "click", "user_id": user, "item_id": "a", "ts": ts} | more).encode()


def rows(raws: Sequence[bytes]) -> list[tuple[Event, bytes, int]]:
    return [(decode_event(each), each, ARRIVED) for each in raws]


def deliver(log: SampleLog, partition: int, start: int, raws: Sequence[bytes]) -> None:
    """Hand over records from offset `start` on as the trainer does: what lies below the position is passed over."""
    position = log.position(LOG, partition)
    fresh = [each for at, each in enumerate(raws, start) if at >= position]
    log.append(LOG, partition, max(start + len(raws), position), rows(fresh))


def logged(root: Path) -> Counter[tuple[str, int]]:
    log = SampleLog(root)
    found: Counter[tuple[str, int]] = Counter()
    for path in log.newest_segments(10**9):
        table = pq.read_table(path)
        found.update(zip(table["user_id"].to_pylist(), table["ts"].to_pylist(), strict=True))
    assert sum(found.values()) == log.rows
    return found


class Crash(Exception):
    """The process is gone."""


class Crashing(SampleLog):
    """A log whose process dies once a segment is written and before the manifest names it."""

    def _save_manifest(self) -> None:
        raise Crash


STEP = st.tuples(
    st.integers(0, 1),
    st.integers(0, 5),
    st.integers(0, 8),
    st.sampled_from(["", "flush", "flush", "crash", "die", "merge", "crash in merge"]),
)


@settings(max_examples=60, deadline=None)
@given(plan=st.lists(STEP, max_size=20))
def test_each_event_is_logged_once_wherever_a_crash_falls(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, int, int, str]]
) -> None:
    root = tmp_path_factory.mktemp("log")
    topic = [[raw(f"p{partition}", at + 1) for at in range(40)] for partition in range(2)]
    log = SampleLog(root, segment_events=6)
    reached = [0, 0]  # what was handed over, flushed or not

    def start_again(of: type[SampleLog] = SampleLog) -> SampleLog:
        fresh = of(root, segment_events=6)
        reached[:] = [fresh.position(LOG, partition) for partition in range(2)]
        return fresh

    for partition, back, size, then in plan:
        start = max(reached[partition] - back, 0)
        some = topic[partition][start : start + size]
        if some:
            deliver(log, partition, start, some)
            reached[partition] = log.position(LOG, partition)
        if then == "flush":
            log.flush()
        elif then == "die":
            log = start_again()
        elif then == "merge":
            log.merge_small(at_least=3)
        elif then.startswith("crash"):
            if "merge" in then:
                log.flush()
            pending, buffer = dict(log._pending), list(log._buffer)
            log = Crashing(root, segment_events=6)
            log._pending, log._buffer = pending, buffer
            with contextlib.suppress(Crash):
                if "merge" in then:
                    log.merge_small(at_least=2)
                else:
                    log.flush()
            log = start_again()
    log.flush()
    assert logged(root) == Counter((f"p{p}", at + 1) for p in range(2) for at in range(reached[p]))
    named = {name for name, _ in SampleLog(root).manifest.segments}
    assert {path.name for path in root.glob("segment-*")} == named


def test_the_positions_are_durable_with_the_rows_and_not_before(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    deliver(log, 0, 0, [raw("ann", 1), raw("ann", 2)])
    log.append(LOG, 1, 9, [])  # nothing in these records could be used
    assert log.reached == {"log:0": 2, "log:1": 9} and log.rows == 2
    assert SampleLog(tmp_path).reached == {}
    log.flush()
    assert SampleLog(tmp_path).reached == {"log:0": 2, "log:1": 9}


def test_an_erased_user_is_gone_from_every_segment(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    for at in range(3):
        deliver(log, 0, 2 * at, [raw("ann", at + 1), raw("ben", at + 1)])
        log.flush()
    deliver(log, 0, 6, [raw("ann", 9)])
    assert log.erase(["ann", "nobody"]) == 4
    assert logged(tmp_path) == Counter({("ben", at): 1 for at in (1, 2, 3)})
    assert SampleLog(tmp_path).position(LOG, 0) == 7
    remains = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ben" in remains and b"ann" not in remains


def test_small_segments_are_merged_into_full_ones(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, segment_events=10)
    for at in range(16):
        deliver(log, 0, 2 * at, [raw("ann", 2 * at + 1), raw("ann", 2 * at + 2)])
        log.flush()
    before = logged(tmp_path)
    log.merge_small()
    assert [count for _, count in log.manifest.segments] == [10, 10, 10, 2]
    assert logged(tmp_path) == before
    log.merge_small()
    assert len(log.manifest.segments) == 4, "a few small ones stay as they are"


def test_the_newest_segments_hold_the_newest_events(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    for at in range(4):
        deliver(log, 0, 10 * at, [raw("ann", 10 * at + n + 1) for n in range(10)])
        log.flush()
    names = [path.name for path in log.newest_segments(10**9)]
    assert len(names) == 4
    assert [path.name for path in log.newest_segments(10)] == names[-1:]
    assert [path.name for path in log.newest_segments(11)] == names[-2:]
    assert read_interactions(log.newest_segments(11), LabelRules(), most=12).ts.tolist() == list(range(29, 41))


def test_a_log_that_lost_a_segment_says_so(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    deliver(log, 0, 0, [raw("ann", 1)])
    log.flush()
    next(tmp_path.glob("segment-*")).unlink()
    with pytest.raises(ValueError, match="segment-00000000"):
        SampleLog(tmp_path)


def test_everything_sent_is_kept_unknown_fields_too(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    more = {"event_id": "e", "context": {"page": "home"}, "mood": {"is": ["fine"]}, "position": 3, "rec_id": "r"}
    deliver(log, 0, 0, [raw("ann", 5, **more)])
    log.flush()
    [row] = pq.read_table(log.newest_segments(1)[0]).to_pylist()
    assert (row["event_id"], row["position"], row["rec_id"], row["arrived_at"]) == ("e", 3, "r", ARRIVED)
    assert json.loads(row["context"]) == {"page": "home"} and json.loads(row["unknown"]) == {"mood": {"is": ["fine"]}}


GRADED = st.one_of(
    st.builds(
        lambda watch, duration: {"type": "watch", "watch_s": watch, "duration_s": duration},
        st.integers(0, 200),
        st.integers(0, 200),
    ),
    st.builds(
        lambda value, scale: {"type": "rating", "value": value, "scale": scale}, st.integers(0, 10), st.integers(1, 10)
    ),
    st.sampled_from(["like", "dislike", "click", "impression", "share"]).map(lambda kind: {"type": kind}),
    st.just({"type": "search", "item_id": None, "query": "q"}),
    st.just({"type": "visit", "item_id": None}),
)
SENT = st.tuples(st.sampled_from(["ann", "ben", "cat"]), st.sampled_from(["a", "b"]), st.integers(1, 50), GRADED)


@settings(max_examples=40, deadline=None)
@given(sent=st.lists(SENT, min_size=1, max_size=30), cut=st.integers(0, 30))
def test_what_is_read_is_what_the_labels_say_of_each_event_but_impressions(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[str, str, int, dict[str, object]]], cut: int
) -> None:
    rules = LabelRules(watch_positive=0.7)
    raws = [raw(user, ts, **({"item_id": item} | graded)) for user, item, ts, graded in sent]
    log = SampleLog(tmp_path_factory.mktemp("log"))
    for start, part in ((0, raws[:cut]), (cut, raws[cut:])):
        if part:
            deliver(log, 0, start, part)
            log.flush()
    read = read_interactions(log.newest_segments(10**9), rules)
    expected = []
    for event in sorted(
        {decode_event(each).event_id: decode_event(each) for each in raws}.values(), key=lambda e: e.ts
    ):
        if event.type == "impression":
            continue
        graded = grade(
            ACTIONS[event.type],
            rules,
            watch_s=event.watch_s,
            duration_s=event.duration_s,
            value=event.value,
            scale=event.scale,
        )
        said = (int(graded.action), graded.label, round(graded.weight, 5))
        expected.append((event.ts, event.user_id, event.item_id, *said))
    found = [
        (
            int(read.ts[at]),
            read.user_ids[read.user[at]],
            None if read.item[at] == NO_ITEM else read.item_ids[read.item[at]],
            int(read.action[at]),
            int(read.label[at]),
            round(float(read.weight[at]), 5),
        )
        for at in range(len(read))
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert (read.ts[:-1] <= read.ts[1:]).all()


def test_the_words_of_searches_are_read_once_each(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    search = raw("ann", 5, type="search", item_id=None, query="Slow trains")
    deliver(log, 0, 0, [search, raw("ben", 3), search, raw("ben", 7, type="search", item_id=None, query="trains, ?")])
    log.flush()
    read = read_interactions(log.newest_segments(10), LabelRules())
    found = read.searches
    said = zip(found.user.tolist(), found.ts.tolist(), found.word.tolist(), strict=True)
    assert [(read.user_ids[user], ts, found.words[word]) for user, ts, word in said] == [
        ("ann", 5, "word=slow"),
        ("ann", 5, "word=trains"),
        ("ben", 7, "word=trains"),
    ]


def test_no_segments_are_no_interactions() -> None:
    assert len(read_interactions([], LabelRules())) == 0
