"""What waits: per partition of the events, how far the readers' committed offsets are behind the log's end."""

from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from streams.contract import topics
from streams.settings.settings import Settings


class Backlog(NamedTuple):
    """Records of one partition that one kind of role has not acknowledged yet."""

    group: str
    partition: int
    waiting: int


def backlogs(settings: Settings) -> list[Backlog]:
    """The backlog of workers and trainer in each partition of the events.

    Raises:
        BrokerAway: no broker answers.
    """
    admin = topics.connect(settings, patience_s=3.0)
    consumer = KafkaConsumer(**settings.kafka.consumer_options())
    try:
        topic = topics.TopicNames.under(settings.topic_prefix).events
        partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        ends, starts = consumer.end_offsets(partitions), consumer.beginning_offsets(partitions)
        found = []
        for role in ("worker", "trainer"):
            group = f"{settings.topic_prefix}millstream-{role}"
            committed = admin.list_group_offsets({group: partitions}).get(group, {})
            for partition in partitions:
                offset = committed[partition].offset if partition in committed else -1
                waiting = ends[partition] - max(offset, starts[partition])
                found.append(Backlog(role, partition.partition, max(waiting, 0)))  # the end was read a little before
        return found
    finally:
        consumer.close()
        admin.close()
