"""The embedded broker and Redis: the real binaries, from start to nothing left running."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from deploy.embedded import AlreadyRunning, Embedded, EmbeddedError, Servers, find
from tests.waiting import ended, wait_until

ROOT = Path(__file__).parents[2]


def redis_of(servers: Servers) -> redis.Redis:
    assert servers.redis_url is not None
    return redis.Redis.from_url(servers.redis_url)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Servers]]:
    data_dir = tmp_path_factory.mktemp("embedded")
    with Embedded(data_dir) as servers:
        yield data_dir, servers


def test_a_record_goes_through_the_broker(running: tuple[Path, Servers]) -> None:
    server = urlsplit(running[1].broker_url or "").netloc
    producer = KafkaProducer(bootstrap_servers=server)
    producer.send("greetings", key=b"k", value=b"hello").get(timeout=20)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=server, auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    consumer.assign([TopicPartition("greetings", 0)])
    record = next(consumer)
    consumer.close()
    assert (record.key, record.value) == (b"k", b"hello")


def test_the_servers_listen_on_the_loopback_alone(running: tuple[Path, Servers]) -> None:
    run = json.loads((running[0] / "run" / "embedded.json").read_text())
    listening = [
        connection.laddr.ip
        for pid in run["processes"]
        for connection in psutil.Process(int(pid)).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2
    assert set(listening) == {"127.0.0.1"}


def test_other_commands_find_them_by_the_data_folder(running: tuple[Path, Servers], tmp_path: Path) -> None:
    data_dir, servers = running
    assert find(data_dir) == servers
    assert find(tmp_path) is None


def test_a_second_start_on_the_data_folder_is_refused(running: tuple[Path, Servers]) -> None:
    second = Embedded(running[0])
    with pytest.raises(AlreadyRunning, match=f"run already, started by process {os.getpid()}"):
        second.start()
    second.stop()
    assert find(running[0]) == running[1]


def test_redis_keeps_its_state_over_a_restart_and_nothing_is_left_running(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path, broker=False)
    with embedded as servers:
        assert servers.broker_url is None
        redis_of(servers).set("kept", "yes")
        (pid,) = embedded.pids.values()
    assert find(tmp_path) is None
    assert ended(pid)
    with embedded as servers:
        assert redis_of(servers).get("kept") == b"yes"


def test_the_broker_keeps_its_topics_over_a_restart(tmp_path: Path) -> None:
    identities = set()
    embedded = Embedded(tmp_path, redis=False)
    for number in range(2):
        with embedded as servers:
            server = urlsplit(servers.broker_url or "").netloc
            producer = KafkaProducer(bootstrap_servers=server)
            assert producer.send("kept", b"%d" % number).get(timeout=20).offset == number
            producer.close()
            admin = KafkaAdminClient(bootstrap_servers=server)
            identities |= {(topic["name"], topic["topic_id"]) for topic in admin.describe_topics()}
            admin.close()
    assert len(identities) == 1


def test_a_server_that_dies_is_told_of(tmp_path: Path) -> None:
    told: list[str] = []
    embedded = Embedded(tmp_path, broker=False, on_death=told.append)
    with embedded:
        psutil.Process(embedded.pids["redis"]).kill()
        wait_until(lambda: told, "the report")
        assert find(tmp_path) is None
    assert told == [embedded.fault]
    assert told[0].startswith("the embedded redis was ended by SIGKILL; its last lines:\n")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    aof = tmp_path / "redis" / "appendonlydir"
    aof.mkdir(parents=True)
    (aof / "appendonly.aof.manifest").write_text("nonsense\n")
    embedded = Embedded(tmp_path, broker=False)
    with pytest.raises(EmbeddedError, match=r"(?s)the embedded redis does not start: .*[Mm]anifest"):
        embedded.start()
    assert embedded.pids == {}
    assert embedded.fault is None


def test_killing_the_parent_leaves_nothing_running_and_the_state_kept(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.embedded import Embedded;"
        "print(Embedded(Path(sys.argv[1])).start().redis_url, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        redis.Redis.from_url(parent.stdout.readline().strip()).set("kept", "yes")
        run = json.loads((tmp_path / "run" / "embedded.json").read_text())
        assert run["parent"] == parent.pid
        parent.kill()
        parent.wait()
    for pid in run["processes"]:
        wait_until(partial(ended, int(pid)), "the servers' end")
    assert find(tmp_path) is None
    with Embedded(tmp_path, broker=False) as servers:
        assert redis_of(servers).get("kept") == b"yes"
