"""Rebalances while records flow and nothing was committed yet: each owner of a partition reads it from its start."""

from collections.abc import Iterator

import pytest

from tests.streams.batch_scene import PARTITIONS, Scene
from tests.waiting import wait_until

#: Records on each partition before the members start, and in each of the parts that come while members join.
FIRST, PART = 3_000, 500


@pytest.fixture(scope="module")
def scene(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Members that never acknowledge join one after another, the first two together, and two leave again."""
    scene = Scene(servers, tmp_path_factory.mktemp("rebalance") / "fresh")
    try:
        scene.send(FIRST)
        scene.start("one", "never")
        scene.start("two", "never")
        for name in ("three", "four"):
            before = len(scene.batches("one", "two", "three"))
            wait_until(
                lambda before=before: len(scene.batches("one", "two", "three")) > before + 20,  # type: ignore[misc]
                "records under way when the next member joins",
                within_s=90,
            )
            scene.start(name, "never")
            scene.send(PART)
        scene.wait_for(FIRST, "one", "two", "three", "four")
        for name in ("one", "three"):
            scene.end(name)
            scene.send(PART)
            scene.stopped(name)
        scene.wait_for(FIRST + 4 * PART, "two", "four")
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize("member", ["one", "two", "three", "four"])
def test_without_a_committed_offset_each_assignment_reads_a_partition_from_its_start_without_a_gap(
    scene: Scene, member: str
) -> None:
    for partition, offsets in scene.offsets(member).items():
        gaps = [
            (before, after)
            for before, after in zip([-1, *offsets], offsets, strict=False)
            if after not in (before + 1, 0)
        ]
        assert not gaps, f"{member} skipped records of partition {partition}"


def test_all_records_came_and_no_member_ended_by_itself(scene: Scene) -> None:
    everything = {p: set(offsets) for p, offsets in scene.offsets("one", "two", "three", "four").items()}
    assert everything == {p: set(range(FIRST + 4 * PART)) for p in range(PARTITIONS)}
    for name in ("two", "four"):
        scene.end(name)
        scene.stopped(name)
