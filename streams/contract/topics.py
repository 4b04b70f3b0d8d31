"""Topics: their names, how they are made, and which log a partition's offsets belong to."""

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, LeaderNotAvailableError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from streams.settings.settings import Settings

log = logging.getLogger(__name__)

KEYED_BY = {
    "events": "user_id",
    "items": "item_id",
    "users": "user_id",
    "recommendations": "user_id",
    "models": "version",
    "dead-letters": "topic-partition-offset",
}
#: What a broker says of a topic that it does not know yet, or whose partitions nobody leads yet.
_NOT_YET: Final = (UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno)
_POLL_S: Final = 0.05
COMPACTED = frozenset({"items", "users", "recommendations", "models"})


@dataclass(frozen=True)
class TopicNames:
    """The topics' full names under one prefix."""

    events: str
    items: str
    users: str
    recommendations: str
    models: str
    dead_letters: str

    @classmethod
    def under(cls, prefix: str) -> "TopicNames":
        return cls(*(prefix + name for name in KEYED_BY))

    def all(self) -> dict[str, str]:
        """Role -> full name."""
        return dict(zip(KEYED_BY, vars(self).values(), strict=True))


class BrokerAway(Exception):
    """The broker could not be reached in time."""


def connect(settings: Settings, *, patience_s: float = 60.0) -> KafkaAdminClient:
    """An admin client, waited for with back-off while the broker is away.

    Raises:
        BrokerAway: the broker did not answer within `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    delay = 0.25
    while True:
        try:
            left_ms = int(max(deadline - time.monotonic(), 1.0) * 1000)
            return KafkaAdminClient(bootstrap_timeout_ms=left_ms, **settings.kafka.kafka_python_options())
        except (KafkaError, OSError) as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise BrokerAway(
                    f"no Kafka broker answers at {settings.kafka.display}: {error or type(error).__name__}. "
                    "Is it running, and is MILLSTREAM_BROKER_URL right?"
                ) from None
            log.warning("broker %s is away (%s); trying again in %.1f s", settings.kafka.display, error, delay)
            time.sleep(min(delay, left))
            delay = min(delay * 2, 5.0)


def create(settings: Settings, *, patience_s: float = 60.0) -> dict[str, str]:
    """Create the topics that are missing; returns the identity of each topic's log, by full name.

    A topic that was deleted and made again has a new identity, so positions kept under the old one no longer count.

    Raises:
        BrokerAway: the broker did not answer, or did not know the topics that it made, within `patience_s` seconds.
    """
    admin = connect(settings, patience_s=patience_s)
    try:
        names = TopicNames.under(settings.topic_prefix).all()
        existing = set(admin.list_topics())
        for role, name in names.items():
            if name not in existing:
                try:
                    admin.create_topics([_new_topic(settings, role, name)])
                    log.info("created topic %s", name)
                except TopicAlreadyExistsError:
                    pass  # another process was quicker
        described = _described(admin, list(names.values()), patience_s)
        cluster = admin.describe_cluster().get("cluster_id") or "cluster"
        return {
            topic["name"]: _log_identity(topic.get("topic_id"), f"{cluster}/{topic['name']}") for topic in described
        }
    finally:
        admin.close()


def _described(admin: KafkaAdminClient, names: list[str], patience_s: float) -> list[dict[str, Any]]:
    """What the broker knows of the topics, once it knows them all.

    A broker hears of a new topic a moment after the controller has made it. Until then it gives no identity of the
    topic's log, and positions would be kept under a name that nobody looks for later.
    """
    deadline = time.monotonic() + patience_s
    while True:
        described: list[dict[str, Any]] = admin.describe_topics(names)
        unknown = [topic["name"] for topic in described if topic["error_code"] in _NOT_YET]
        if not unknown:
            return described
        if time.monotonic() > deadline:
            raise BrokerAway(
                f"the broker knows nothing of {', '.join(unknown)}, {patience_s:.0f} s after their creation"
            )
        time.sleep(_POLL_S)


def _new_topic(settings: Settings, role: str, name: str) -> NewTopic:
    configs = {"message.timestamp.type": "LogAppendTime"}
    if role in COMPACTED:
        configs["cleanup.policy"] = "compact"
    # a model announcement concerns everyone: one partition keeps them in one order
    partitions = 1 if role in ("models", "dead-letters") else settings.partitions
    return NewTopic(name, partitions, settings.replication, topic_configs=configs)


def _log_identity(topic_id: object, name: str) -> str:
    text = str(topic_id or "").replace("-", "")
    # brokers before 2.8 have no topic ids and answer with zeros: there a topic is known by its name alone
    return text if text.strip("0") else name
