"""What outlives the broker: topics, their ids, records and committed offsets, after SIGTERM and after SIGKILL."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.broker.offsets import Committed, Offsets
from deploy.broker.server import FolderInUse, running
from tests.deploy.broker.asking import append, batch
from tests.deploy.broker.conftest import Process

P0 = TopicPartition("kept", 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_everything_acknowledged_outlives_the_broker(tmp_path: Path, how: signal.Signals) -> None:
    first = Process(tmp_path)
    admin = KafkaAdminClient(bootstrap_servers=first.address)
    admin.create_topics([NewTopic("kept", 3, 1, topic_configs={"cleanup.policy": "compact"}), NewTopic("gone", 1, 1)])
    admin.delete_topics(["gone"])
    described, cluster = admin.describe_topics(["kept"]), admin.describe_cluster()["cluster_id"]
    admin.close()
    producer = KafkaProducer(bootstrap_servers=first.address)
    for number in range(10):
        producer.send("kept", b"%d" % number, partition=0).get(timeout=10)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=first.address, group_id="g", enable_auto_commit=False)
    consumer.assign([P0])
    consumer.seek(P0, 4)
    consumer.poll(5_000, max_records=3)
    consumer.commit()
    with first.popen:
        asked_at = time.monotonic()
        first.popen.send_signal(how)
        code = first.popen.wait(10)
        assert time.monotonic() - asked_at < 2
    consumer.close(autocommit=False)
    assert code == (0 if how == signal.SIGTERM else -9)

    second = Process(tmp_path)
    with second.popen:
        admin = KafkaAdminClient(bootstrap_servers=second.address)
        assert admin.list_topics() == ["kept"]
        assert admin.describe_topics(["kept"]) == described
        assert admin.describe_cluster()["cluster_id"] == cluster
        admin.close()
        consumer = KafkaConsumer(bootstrap_servers=second.address, group_id="g", consumer_timeout_ms=10_000)
        consumer.assign([P0])
        record = next(consumer)
        consumer.close()
        second.popen.terminate()
    assert (record.offset, record.value) == (7, b"7")


async def test_a_batch_sent_again_after_a_restart_is_written_once(tmp_path: Path) -> None:
    for _ in range(2):
        async with running(tmp_path, 0) as port:
            if _ == 0:
                admin = await asyncio.to_thread(KafkaAdminClient, bootstrap_servers=f"127.0.0.1:{port}")
                await asyncio.to_thread(admin.create_topics, [NewTopic("t", 1, 1)])
                admin.close()
                await append(f"127.0.0.1:{port}", "t", batch(b"before"))
            answer = await append(f"127.0.0.1:{port}", "t", batch(b"a", producer=3, sequence=0))
            assert (answer.error_code, answer.base_offset) == (0, 1)


async def test_two_brokers_on_one_folder_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, 0):
        with pytest.raises(FolderInUse, match="another broker runs on"):
            async with running(tmp_path, 0):
                pass


def test_committed_offsets_are_read_back_past_a_torn_line_and_the_journal_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.broker.offsets._STALE_MAX", 100)
    path = tmp_path / "offsets.jsonl"
    offsets = Offsets(path)
    for offset in range(1_000):
        offsets.commit("g", "t", 0, Committed(offset, 0, "näme"))
        offsets.commit("g", "u", 1, Committed(offset))
        offsets.flush()
    offsets.forget_topic("u")
    offsets.commit("gone", "t", 0, Committed(1))
    offsets.forget_group("gone")
    offsets.close()
    assert len(path.read_text().splitlines()) < 110
    with path.open("a") as file:
        file.write('["g", "t", 0, 12')
    again = Offsets(path)
    assert again.groups() == {"g"}
    assert again.of("g") == {("t", 0): Committed(999, 0, "näme")}
    again.close()
