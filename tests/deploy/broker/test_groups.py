"""Consumer groups: partitions dealt among the members, dealt anew when one comes or goes, and offsets kept."""

import asyncio
import subprocess
import sys

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaConsumer, OffsetAndMetadata, errors
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.protocol.consumer import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from tests.deploy.broker.asking import Asking

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
OPTIONS = {"group_id": "g", "auto_offset_reset": "earliest", "session_timeout_ms": 800, "heartbeat_interval_ms": 100}


@pytest.fixture
async def topic(broker: str) -> str:
    def make() -> None:
        admin = KafkaAdminClient(bootstrap_servers=broker)
        admin.create_topics([NewTopic("t", 2, 1)])
        admin.close()

    await asyncio.to_thread(make)
    return broker


async def until_assigned(consumer: AIOKafkaConsumer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(consumer.assignment()) != count:
            await asyncio.sleep(0.02)


async def test_partitions_are_dealt_anew_when_a_member_comes_and_goes(topic: str) -> None:
    async with AIOKafkaConsumer("t", bootstrap_servers=topic, **OPTIONS) as first:
        await until_assigned(first, 2)
        async with AIOKafkaConsumer("t", bootstrap_servers=topic, **OPTIONS) as second:
            await until_assigned(first, 1)
            await until_assigned(second, 1)
            assert first.assignment() | second.assignment() == {P0, P1}
        await until_assigned(first, 2)


async def test_a_killed_members_partitions_go_to_the_others(topic: str) -> None:
    # aiokafka's: kafka-python 3.0.12 forgets a deal that comes in between two short polls
    code = (
        "import asyncio, sys; from aiokafka import AIOKafkaConsumer\n"
        "async def main():\n"
        f"    async with AIOKafkaConsumer('t', bootstrap_servers=sys.argv[1], **{OPTIONS!r}) as consumer:\n"
        "        while len(consumer.assignment()) != 2: await asyncio.sleep(0.02)\n"
        "        print('has both', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, topic, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert await asyncio.wait_for(other.stdout.readline(), 20) == b"has both\n"
    async with AIOKafkaConsumer("t", bootstrap_servers=topic, **OPTIONS) as consumer:
        await until_assigned(consumer, 1)
        other.kill()
        await other.wait()
        await until_assigned(consumer, 2)


async def test_a_group_goes_on_where_it_committed(topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=topic) as producer:
        for number in range(4):
            await producer.send_and_wait("t", b"%d" % number, partition=0)
    async with AIOKafkaConsumer("t", bootstrap_servers=topic, enable_auto_commit=False, **OPTIONS) as consumer:
        assert [(await consumer.getone()).value for _ in range(4)] == [b"0", b"1", b"2", b"3"]
        await consumer.commit({P0: 2})
    async with AIOKafkaConsumer("t", bootstrap_servers=topic, **OPTIONS) as consumer:
        assert (await consumer.getone()).value == b"2"


async def test_kafka_python_and_the_admin_tools_see_the_same(topic: str) -> None:
    def consume_and_look() -> None:
        consumer = KafkaConsumer("t", bootstrap_servers=topic, group_id="kp", auto_offset_reset="earliest")
        consumer.poll(5_000)  # long enough to join in: it forgets a deal that comes in between two short polls
        assert len(consumer.assignment()) == 2
        admin = KafkaAdminClient(bootstrap_servers=topic)
        assert [group["group_id"] for group in admin.list_groups()] == ["kp"]
        (described,) = admin.describe_groups(["kp"]).values()
        assert described["group_state"] == "Stable"
        assert len(described["members"]) == 1
        assert admin.delete_groups(["kp"]) == {"kp": "NonEmptyGroupError"}
        consumer.commit({tp: OffsetAndMetadata(0, "", -1) for tp in consumer.assignment()})
        consumer.close()
        assert set(admin.list_group_offsets(["kp"])["kp"]) == {P0, P1}
        assert admin.delete_groups(["kp"]) == {"kp": "OK"}
        assert admin.list_groups() == []
        admin.close()

    await asyncio.to_thread(consume_and_look)


async def test_who_is_not_in_is_told_so(topic: str) -> None:
    asking = await Asking.open(topic)
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id="nobody", group_instance_id=None)
    assert (await asking.ask(beat, 4)).error_code == errors.UnknownMemberIdError.errno
    protocol = JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"m")

    def join(member_id: str, protocol_type: str = "consumer") -> JoinGroupRequest:
        return JoinGroupRequest(
            group_id="g",
            session_timeout_ms=5_000,
            rebalance_timeout_ms=5_000,
            member_id=member_id,
            protocol_type=protocol_type,
            protocols=[protocol],
        )

    assert (await asking.ask(join("nobody"), 5)).error_code == errors.UnknownMemberIdError.errno
    given = await asking.ask(join(""), 5)
    assert given.error_code == errors.MemberIdRequiredError.errno
    joined = await asking.ask(join(given.member_id), 5)
    assert (joined.error_code, joined.leader, joined.generation_id) == (0, given.member_id, 1)
    other = await asking.ask(join("", "connect"), 3)
    assert other.error_code == errors.InconsistentGroupProtocolError.errno
    deal = SyncGroupRequest.SyncGroupRequestAssignment(member_id=given.member_id, assignment=b"all")
    sync = SyncGroupRequest(group_id="g", generation_id=1, member_id=given.member_id, assignments=[deal])
    assert (await asking.ask(sync, 3)).assignment == b"all"
    late = HeartbeatRequest(group_id="g", generation_id=0, member_id=given.member_id)
    assert (await asking.ask(late, 3)).error_code == errors.IllegalGenerationError.errno
