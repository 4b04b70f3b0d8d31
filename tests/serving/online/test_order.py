"""Records of several partitions come out in the order of their arrival."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from serving.online.order import InOrder


class Record(NamedTuple):
    timestamp: int


@given(st.lists(st.lists(st.integers(0, 50), max_size=12).map(sorted), min_size=1, max_size=4), st.data())
def test_what_is_read_in_any_pieces_comes_out_in_order(partitions: list[list[int]], data: st.DataObject) -> None:
    order: InOrder[int, Record] = InOrder(range(len(partitions)), settle_s=0.2)
    left = [list(map(Record, partition)) for partition in partitions]
    out: list[tuple[int, Record]] = []
    while any(left):
        at = data.draw(st.sampled_from([n for n, records in enumerate(left) if records]))
        size = data.draw(st.integers(1, len(left[at])))
        order.put(at, left[at][:size], now=0.0)
        left[at] = left[at][size:]
        out += order.take([n for n, records in enumerate(left) if not records], now=1.0)
    assert [record.timestamp for _, record in out] == sorted(ts for partition in partitions for ts in partition)
    assert all([r.timestamp for n, r in out if n == at] == partition for at, partition in enumerate(partitions))


def test_a_record_waits_a_moment_for_an_older_one_of_a_partition_read_to_its_end() -> None:
    order: InOrder[str, Record] = InOrder(["lists", "events"], settle_s=0.2)
    order.put("events", [Record(7)], now=10.0)
    assert not list(order.take(["lists", "events"], now=10.1)) and order.held("events") == 1
    order.put("lists", [Record(5)], now=10.1)
    assert [name for name, _ in order.take(["lists", "events"], now=10.1)] == ["lists"]
    assert [name for name, _ in order.take(["lists", "events"], now=10.3)] == ["events"]
