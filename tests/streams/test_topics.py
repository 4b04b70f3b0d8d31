"""Topics: made once, known by the identity of their log; and messages that help when a server is away."""

import asyncio
import socket
import time
from typing import Any
from uuid import UUID

import pytest
from kafka.admin import KafkaAdminClient

from streams.contract import topics
from streams.contract.topics import BrokerAway, TopicNames
from streams.state.store import StateAway, Store
from tests.conftest import MakeSettings


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_creating_topics_again_changes_nothing(make_settings: MakeSettings) -> None:
    settings = make_settings()
    first = topics.create(settings)
    assert set(first) == set(TopicNames.under(settings.topic_prefix).all().values())
    assert len(set(first.values())) == len(first), "two logs of one identity would share their fences"
    assert topics.create(settings) == first


def test_the_identity_of_a_new_topic_is_waited_for(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker of Apache Kafka does not know a topic at once that its controller has made."""
    describe = KafkaAdminClient.describe_topics
    asked = []

    def late(self: KafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
        asked.append(names)
        described: list[dict[str, Any]] = describe(self, names)
        unknown = {"error_code": 3, "topic_id": UUID(int=0)} if len(asked) == 1 else {}
        return [topic | unknown for topic in described]

    settings = make_settings()
    monkeypatch.setattr(KafkaAdminClient, "describe_topics", late)
    first = topics.create(settings)
    assert topics.create(settings) == first and len(asked) == 3


def test_each_topic_has_the_partitions_it_needs(make_settings: MakeSettings) -> None:
    settings = make_settings(partitions=3)
    topics.create(settings)
    admin = topics.connect(settings)
    names = TopicNames.under(settings.topic_prefix)
    described = {each["name"]: len(each["partitions"]) for each in admin.describe_topics(list(names.all().values()))}
    admin.close()
    assert described.pop(names.models) == described.pop(names.dead_letters) == 1
    assert set(described.values()) == {3}


def test_a_topic_that_was_deleted_and_made_again_has_a_new_identity(make_settings: MakeSettings) -> None:
    settings = make_settings()
    before = topics.create(settings)
    events = TopicNames.under(settings.topic_prefix).events
    admin = topics.connect(settings)
    admin.delete_topics([events])
    deadline = time.monotonic() + 20
    while events in admin.list_topics() and time.monotonic() < deadline:
        time.sleep(0.1)
    admin.close()
    after = topics.create(settings)
    assert after.pop(events) != before.pop(events)
    assert after == before


def test_without_topic_ids_a_log_is_known_by_its_topics_name() -> None:
    assert topics._log_identity("00000000-0000-0000-0000-000000000000", "cluster/events") == "cluster/events"
    assert topics._log_identity(None, "cluster/events") == "cluster/events"
    assert topics._log_identity("0a-0b", "cluster/events") == "0a0b"


def test_a_broker_that_is_away_is_told_with_its_setting(make_settings: MakeSettings, free_port: int) -> None:
    settings = make_settings(broker_url=f"kafka://127.0.0.1:{free_port}")
    with pytest.raises(BrokerAway, match=rf"127\.0\.0\.1:{free_port}.*MILLSTREAM_BROKER_URL"):
        topics.connect(settings, patience_s=0.3)


def test_a_redis_that_is_away_is_told_with_its_setting_and_without_its_password(
    make_settings: MakeSettings, free_port: int
) -> None:
    async def wait() -> None:
        store = Store(make_settings(redis_url=f"redis://me:secret@127.0.0.1:{free_port}"))
        try:
            await store.wait(patience_s=0.3)
        finally:
            await store.close()

    with pytest.raises(StateAway, match=rf"127\.0\.0\.1:{free_port}.*MILLSTREAM_REDIS_URL") as away:
        asyncio.run(wait())
    assert "secret" not in str(away.value)
