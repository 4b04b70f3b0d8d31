"""The wire: versions, topics' administration, and whatever else may come in over a connection."""

import asyncio
import random
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.protocol.admin import CreateTopicsRequest, DeleteTopicsRequest
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

from tests.deploy.broker.asking import Asking, batch, produce
from tests.deploy.broker.conftest import Process


async def test_a_newer_client_learns_the_versions_by_version_0(broker: str) -> None:
    asking = await Asking.open(broker)
    request = ApiVersionsRequest(client_software_name="x", client_software_version="1")
    known = await asking.ask(request, 4)
    asking._writer.write(struct.pack(">ihhih", 10, 18, 99, 7, -1))
    request.API_VERSION = 0
    answer = await asking.receive(request)
    assert answer.error_code == errors.UnsupportedVersionError.errno
    assert {(api.api_key, api.max_version) for api in answer.api_keys} == {
        (api.api_key, api.max_version) for api in known.api_keys
    }


async def test_what_is_not_understood_closes_its_own_connection_alone(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = {
        "API 99 is not known": struct.pack(">ihhih", 10, 99, 0, 1, -1),
        "ProduceRequest of version 88 is not known": struct.pack(">ihhih", 10, 0, 88, 1, -1),
        "a request of 2000000000 bytes": struct.pack(">i", 2_000_000_000),
        "a request of -1 bytes": struct.pack(">i", -1),
        "MetadataRequest of version 9": struct.pack(">ihhih", 10, 3, 9, 1, -1),
    }
    bystander = await Asking.open(broker)
    for said, frame in frames.items():
        caplog.clear()
        asking = await Asking.open(broker)
        asking._writer.write(frame)
        assert await asking.closed()
        assert len(caplog.messages) == 1
        assert said in caplog.messages[0]
    assert (await bystander.ask(MetadataRequest(topics=[]), 5)).controller_id == 0


async def test_topics_are_made_only_by_requests_that_allow_it(broker: str) -> None:
    asking = await Asking.open(broker)
    topic = MetadataRequest.MetadataRequestTopic(name="new")
    for version in range(4, 13):
        answer = await asking.ask(MetadataRequest(topics=[topic], allow_auto_topic_creation=False), version)
        assert answer.topics[0].error_code == errors.UnknownTopicOrPartitionError.errno
    made = (await asking.ask(MetadataRequest(topics=[topic], allow_auto_topic_creation=True), 12)).topics[0]
    assert (made.error_code, len(made.partitions)) == (0, 1)
    by_id = MetadataRequest.MetadataRequestTopic(name=None, topic_id=made.topic_id)
    assert (await asking.ask(MetadataRequest(topics=[by_id]), 12)).topics[0].name == "new"
    wrong = MetadataRequest.MetadataRequestTopic(name="no/../way")
    answer = await asking.ask(MetadataRequest(topics=[wrong], allow_auto_topic_creation=True), 9)
    assert answer.topics[0].error_code == errors.InvalidTopicError.errno


@pytest.mark.parametrize("version", range(2, 8))
async def test_a_topic_that_cannot_be_is_refused_with_its_reason(broker: str, version: int) -> None:
    asking = await Asking.open(broker)

    async def create(name: str, partitions: int = 1, replication: int = 1, **configs: str) -> int:
        topic_class = CreateTopicsRequest.CreatableTopic
        topic = topic_class(
            name=name,
            num_partitions=partitions,
            replication_factor=replication,
            assignments=[],
            configs=[
                topic_class.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                for key, value in configs.items()
            ],
        )
        answer = await asking.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1_000, validate_only=False), version)
        return int(answer.topics[0].error_code)

    assert await create("t", -1, -1) == 0
    assert await create("t") == errors.TopicAlreadyExistsError.errno
    assert await create("..") == errors.InvalidTopicError.errno
    assert await create("") == errors.InvalidTopicError.errno
    assert await create("x", 0) == errors.InvalidPartitionsError.errno
    assert await create("x", 1, 3) == errors.InvalidReplicationFactorError.errno
    assert await create("x", retention_ms="soon") == errors.InvalidConfigurationError.errno
    assert await create("x", cleanup_policy="burn") == errors.InvalidConfigurationError.errno
    names = DeleteTopicsRequest(
        topics=[DeleteTopicsRequest.DeleteTopicState(name="t")], topic_names=["t"], timeout_ms=1_000
    )
    assert (await asking.ask(names, min(version, 5))).responses[0].error_code == 0


def test_kafka_pythons_admin_client_works(process: Process) -> None:
    admin = KafkaAdminClient(bootstrap_servers=process.address)
    admin.create_topics([NewTopic("a", 3, 1, topic_configs={"retention.ms": "5000"})])
    (topic,) = admin.describe_topics(["a"])
    assert [partition["leader_id"] for partition in topic["partitions"]] == [0, 0, 0]
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "a")])
    assert "5000" in str(configs)
    admin.delete_topics(["a"])
    assert "a" not in admin.list_topics()
    admin.create_topics([NewTopic("a", 1, 1)])
    assert admin.describe_topics(["a"])[0]["topic_id"] != topic["topic_id"]
    admin.close()


def answers(process: Process) -> bool:
    with socket.create_connection(("127.0.0.1", process.port), timeout=5) as connection:
        connection.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
        return connection.recv(8)[4:] == struct.pack(">i", 7)


def throw(process: Process, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", process.port), timeout=5) as connection:
        connection.sendall(data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_do_not_kill_it(process: Process, data: bytes) -> None:
    throw(process, data)
    assert answers(process)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 75), st.integers(0, 13), st.binary(max_size=200))
def test_requests_of_random_bytes_do_not_kill_it(process: Process, key: int, version: int, data: bytes) -> None:
    throw(process, struct.pack(">ihhih", len(data) + 10, key, version, 1, -1) + data)
    assert answers(process)


def test_damaged_requests_do_not_kill_it(process: Process) -> None:
    request = produce("fuzz", batch(b"a" * 50))
    request.API_VERSION = 9
    request.with_header(1)
    whole = bytes(request.encode(header=True, framed=True))
    chance = random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(4, len(damaged))] = chance.randrange(256)
        throw(process, bytes(damaged))
    assert answers(process)
    assert process.popen.poll() is None


async def test_a_client_that_leaves_while_its_fetch_waits_leaves_nothing_behind(broker: str) -> None:
    tasks = len(asyncio.all_tasks())
    asking = await Asking.open(broker)
    await asking.ask(MetadataRequest(topics=[]), 5)
    assert len(asyncio.all_tasks()) == tasks + 1
    asking.close()
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)
