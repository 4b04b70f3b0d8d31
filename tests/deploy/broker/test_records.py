"""Records through the broker: written, read, waited for, found by time, deleted."""

import asyncio
import statistics
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from kafka import errors
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest

from deploy.broker.log import LogRules, PartitionLog
from tests.deploy.broker.asking import Asking, append, batch, produce

P0 = TopicPartition("t", 0)


async def make_topic(broker: str, name: str = "t", partitions: int = 1, **configs: str) -> None:
    def make() -> None:
        admin = KafkaAdminClient(bootstrap_servers=broker)
        given = {key.replace("_", "."): value for key, value in configs.items()}
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=given)])
        admin.close()

    await asyncio.to_thread(make)


def fetch(offset: int, *, max_wait_ms: int = 0, min_bytes: int = 1, max_bytes: int = 1 << 20, topic: str = "t") -> Any:
    topic_class = FetchRequest.FetchTopic
    partition = topic_class.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=max_bytes)
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=1 << 20,
        topics=[topic_class(topic=topic, partitions=[partition])],
    )


async def fetched(asking: Asking, request: Any, version: int = 12) -> Any:
    return (await asking.ask(request, version)).responses[0].partitions[0]


def values(records: bytes) -> list[bytes]:
    read, found = MemoryRecords(records), []
    while (following := read.next_batch()) is not None:
        found += [record.value for record in following]
    return found


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_what_is_produced_is_consumed(broker: str, acks: int | str, compression: str | None) -> None:
    await make_topic(broker, partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=broker, acks=acks, compression_type=compression) as producer:
        for number in range(500):
            await producer.send("t", key=b"%d" % number, value=b"v%d" % number, headers=[("h", b"x")])
        await producer.flush()
    async with AIOKafkaConsumer("t", bootstrap_servers=broker, auto_offset_reset="earliest") as consumer:
        records = [await consumer.getone() for _ in range(500)]
    assert {(r.key, r.value) for r in records} == {(b"%d" % n, b"v%d" % n) for n in range(500)}
    assert records[0].headers == (("h", b"x"),)
    for partition in (0, 1):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))


@pytest.mark.parametrize("wait_ms", [20, 20_000])
async def test_a_waiting_fetch_is_woken_at_once_however_long_it_may_wait(broker: str, wait_ms: int) -> None:
    await make_topic(broker, partitions=2)
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_wait_ms=wait_ms, request_timeout_ms=40_000)
    took = []
    async with producer, consumer:
        consumer.assign([TopicPartition("t", 0), TopicPartition("t", 1)])
        await consumer.seek_to_end()
        await consumer.position(P0)
        for number in range(20):
            await asyncio.sleep(0.02)
            sent_at = time.perf_counter()
            await producer.send("t", b"x", partition=number % 2)
            await asyncio.wait_for(consumer.getone(), 10)
            took.append(time.perf_counter() - sent_at)
    assert statistics.median(took) < 0.05


async def test_a_fetch_waits_for_its_least_bytes_or_its_time(broker: str) -> None:
    await make_topic(broker)
    asking = await Asking.open(broker)
    started = time.perf_counter()
    assert (await fetched(asking, fetch(0, max_wait_ms=150))).records == b""
    assert 0.14 < time.perf_counter() - started < 1.0
    one = batch(b"x" * 100)
    request = fetch(0, max_wait_ms=8_000, min_bytes=len(one) + 1)
    asking.send(request, 12)
    await append(broker, "t", one)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting := asyncio.ensure_future(asking.receive(request))), 0.2)
    await append(broker, "t", one)
    response = await asyncio.wait_for(waiting, 2)
    assert len(values(response.responses[0].partitions[0].records)) == 2


async def test_requests_sent_together_are_answered_in_order_past_a_fetch_that_waits(broker: str) -> None:
    await make_topic(broker)
    asking = await Asking.open(broker)
    requests = [(fetch(0, max_wait_ms=100), 12), *((produce("t", batch(b"%d" % n)), 9) for n in range(5))]
    for request, version in requests:
        asking.send(request, version)
    answers = [await asyncio.wait_for(asking.receive(request), 5) for request, _ in requests]
    assert [answer.header.correlation_id for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert [answer.responses[0].partition_responses[0].base_offset for answer in answers[1:]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("version", range(4, 13))
async def test_a_fetch_brings_whole_batches_within_its_bounds_and_one_at_least(broker: str, version: int) -> None:
    await make_topic(broker)
    for number in range(5):
        await append(broker, "t", batch(b"%d" % number, b"again"))
    size = len(batch(b"0", b"again"))
    asking = await Asking.open(broker)
    assert values((await fetched(asking, fetch(0, max_bytes=1), version)).records) == [b"0", b"again"]
    two = await fetched(asking, fetch(3, max_bytes=2 * size + 1), version)
    assert values(two.records) == [b"1", b"again", b"2", b"again"]
    assert two.high_watermark == 10
    assert (await fetched(asking, fetch(10), version)).records == b""
    assert (await fetched(asking, fetch(11), version)).error_code == errors.OffsetOutOfRangeError.errno
    assert (await fetched(asking, fetch(0, topic="no"), version)).error_code == 3


@pytest.mark.parametrize("version", range(3, 10))
async def test_the_broker_stamps_what_it_appends_where_the_topic_says_so(broker: str, version: int) -> None:
    await make_topic(broker, message_timestamp_type="LogAppendTime")
    asking = await Asking.open(broker)
    before = int(time.time() * 1000)
    response = await asking.ask(produce("t", batch(b"a", b"b", at_ms=5)), version)
    stamped = response.responses[0].partition_responses[0].log_append_time_ms
    assert before <= stamped <= int(time.time() * 1000)
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:  # which checks the CRC
        consumer.assign([P0])
        consumer.seek(P0, 0)
        records = [await consumer.getone(), await consumer.getone()]
    assert [(record.timestamp, record.timestamp_type) for record in records] == [(stamped, 1), (stamped, 1)]


async def test_a_batch_that_is_not_sound_is_refused(broker: str) -> None:
    await make_topic(broker, max_message_bytes="1000")
    good = batch(b"a")
    wrong = {
        errors.CorruptRecordError: [good[:-1] + b"!", good[:40], good[:-1], b""],
        errors.UnsupportedForMessageFormatError: [good[:16] + b"\x01" + good[17:]],
        errors.InvalidRecordError: [good + good],
        errors.MessageSizeTooLargeError: [batch(b"x" * 2_000)],
    }
    for error, batches in wrong.items():
        for each in batches:
            assert (await append(broker, "t", each)).error_code == error.errno
    assert (await append(broker, "no", good)).error_code == errors.UnknownTopicOrPartitionError.errno
    assert (await append(broker, "t", good)).base_offset == 0


async def test_a_batch_sent_again_by_an_idempotent_producer_is_written_once(broker: str) -> None:
    await make_topic(broker)
    sent = [batch(b"a", b"b", producer=7, sequence=2 * number) for number in range(6)]
    assert [(await append(broker, "t", each)).base_offset for each in sent] == [0, 2, 4, 6, 8, 10]
    assert [(await append(broker, "t", each)).base_offset for each in sent[1:]] == [2, 4, 6, 8, 10]
    missing = await append(broker, "t", batch(b"z", producer=7, sequence=99))
    assert missing.error_code == errors.OutOfOrderSequenceNumberError.errno
    assert (await append(broker, "t", batch(b"z"))).base_offset == 12


async def test_an_idempotent_client_works_and_its_ids_are_its_own(broker: str) -> None:
    ids = set()
    for _ in range(3):
        async with AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True) as producer:
            await producer.send_and_wait("fresh", b"x")
            ids.add(producer._txn_manager.producer_id)
    assert len(ids) == 3


async def test_offsets_are_found_by_time(broker: str) -> None:
    await make_topic(broker, retention_ms="-1")
    for at_ms in (100, 300, 200, 400):
        await append(broker, "t", batch(b"a", b"b", at_ms=at_ms))
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
        assert (await consumer.beginning_offsets([P0]), await consumer.end_offsets([P0])) == ({P0: 0}, {P0: 8})
        expected = {0: (0, 100), 101: (1, 101), 102: (2, 300), 301: (3, 301), 302: (6, 400), 401: (7, 401)}
        for at_ms, found in expected.items():
            answer = (await consumer.offsets_for_times({P0: at_ms}))[P0]
            assert (answer.offset, answer.timestamp) == found
        assert (await consumer.offsets_for_times({P0: 402}))[P0] is None
    asking = await Asking.open(broker)
    topic_class = ListOffsetsRequest.ListOffsetsTopic
    wanted = topic_class.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=-3)
    request = ListOffsetsRequest(replica_id=-1, isolation_level=0, topics=[topic_class(name="t", partitions=[wanted])])
    newest = (await asking.ask(request, 7)).topics[0].partitions[0]
    assert (newest.offset, newest.timestamp) == (7, 401)


async def test_deleted_records_are_gone_from_the_disk_too(broker: str, tmp_path: Path) -> None:
    await make_topic(broker)
    for _ in range(3):
        await append(broker, "t", batch(b"secret"))
    admin = await asyncio.to_thread(KafkaAdminClient, bootstrap_servers=broker)
    await asyncio.to_thread(admin.delete_records, {P0: 2})
    asking = await Asking.open(broker)
    assert (await fetched(asking, fetch(1))).error_code == errors.OffsetOutOfRangeError.errno
    assert (await fetched(asking, fetch(2))).log_start_offset == 2
    await asyncio.to_thread(admin.delete_records, {P0: -1})
    admin.close()
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*.log"))
    assert (await append(broker, "t", batch(b"next"))).base_offset == 3


async def test_old_segments_go_by_the_topics_retention(broker: str) -> None:
    one = len(batch(b"x" * 200))
    await make_topic(broker, "size", segment_bytes=str(2 * one), retention_bytes=str(4 * one), retention_ms="-1")
    await make_topic(broker, "age", segment_bytes=str(2 * one), retention_ms="60000")
    await make_topic(broker, "compacted", segment_bytes=str(2 * one), retention_ms="1", cleanup_policy="compact")
    for name in ("size", "age", "compacted"):
        for _ in range(9):
            await append(broker, name, batch(b"x" * 200, at_ms=1_000))
    await asyncio.sleep(0.2)
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
        starts = await consumer.beginning_offsets([TopicPartition(n, 0) for n in ("size", "age", "compacted")])
        consumer.assign([TopicPartition("size", 0)])
        consumer.seek(TopicPartition("size", 0), 4)
        assert (await consumer.getone()).offset == 4
    assert {tp.topic: start for tp, start in starts.items()} == {"size": 4, "age": 9, "compacted": 0}


async def test_the_round_trip_takes_no_longer_after_20_000_batches(broker: str, tmp_path: Path) -> None:
    await make_topic(broker)
    await append(broker, "t", batch(b"x"))
    took: list[list[float]] = []
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for n_batches in (0, 20_000):
            asking = await Asking.open(broker)
            for _ in range(n_batches // 100):
                requests = [produce("t", batch(b"y" * 100)) for _ in range(100)]
                for request in requests:
                    asking.send(request, 3)
                for request in requests:
                    await asking.receive(request)
            asking.close()
            async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
                consumer.assign([P0])
                await consumer.seek_to_end()
                await consumer.position(P0)
                took.append([])
                for _ in range(100):
                    started = time.perf_counter()
                    await producer.send("t", b"z")
                    await consumer.getone()
                    took[-1].append(time.perf_counter() - started)
    short, long = map(statistics.median, took)
    assert long < 3 * short + 0.001
    (log_file,) = tmp_path.rglob("*.log")
    assert log_file.stat().st_size > 20_000 * 100


def test_a_torn_tail_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, LogRules())
    whole = [log.append(batch(b"%d" % number, at_ms=number)) for number in range(3)]
    log.close()
    (path,) = tmp_path.glob("*.log")
    data = path.read_bytes()
    second = len(data) * 2 // 3
    for torn in (second + 1, second + 60, len(data) - 1):
        path.write_bytes(data[:torn])
        again = PartitionLog(tmp_path, LogRules())
        assert (again.end_offset, path.stat().st_size) == (2, second)
        assert again.append(batch(b"2", at_ms=2)) == whole[2]
        assert path.read_bytes() == data
        again.close()


def test_what_follows_a_lost_end_is_deleted(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, LogRules(segment_bytes=1))
    for number in range(4):
        log.append(batch(b"%d" % number))
    log.close()
    (tmp_path / f"{1:020d}.log").write_bytes(b"")
    again = PartitionLog(tmp_path, LogRules())
    assert again.append(batch(b"1")).base_offset == 1
    assert values(again.read(0, 1 << 20, at_least_one=True)) == [b"0"]
    assert values(again.read(1, 1 << 20, at_least_one=True)) == [b"1"]
    again.close()


def test_rubbish_at_the_end_is_cut_off(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, LogRules())
    log.append(batch(b"a"))
    log.close()
    (path,) = tmp_path.glob("*.log")
    whole = path.read_bytes()
    for rubbish in (bytes(500), b"\xff" * 500, struct.pack(">qi", 1, 12) + bytes(80)):
        path.write_bytes(whole + rubbish)
        again = PartitionLog(tmp_path, LogRules())
        assert again.end_offset == 1
        again.close()
        assert path.read_bytes() == whole
