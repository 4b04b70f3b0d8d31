"""The topics: their identities and configurations on disk, and the logs of their partitions."""

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from deploy.broker.log import LogRules, PartitionLog

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_PARTITIONS_MAX: Final = 1_000
#: What a topic gets where its configuration says nothing: Kafka's own defaults, with smaller segments since only
#: whole ones are deleted.
DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": str(64 << 20),
}


@dataclass(frozen=True)
class Topic:
    """A topic and the logs of its partitions; `configs` is what was given when it was made."""

    name: str
    id: uuid.UUID
    configs: Mapping[str, str]
    partitions: tuple[PartitionLog, ...]

    def partition(self, index: int) -> PartitionLog:
        """Raises UnknownTopicOrPartitionError for one that it does not have."""
        if not 0 <= index < len(self.partitions):
            raise UnknownTopicOrPartitionError(f"{self.name} has no partition {index}")
        return self.partitions[index]


class Topics:
    """All topics under one folder. Each has a folder named by its id, so a topic made again starts from nothing."""

    def __init__(self, folder: Path) -> None:
        """Read what the folder holds."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._by_name: dict[str, Topic] = {}
        for path in folder.iterdir():
            described = path / "topic.json"
            if not described.exists():
                shutil.rmtree(path)  # its making or its deletion was cut short
                continue
            found = json.loads(described.read_text())
            topic = self._open(found["name"], uuid.UUID(found["id"]), found["configs"], found["partitions"])
            self._by_name[topic.name] = topic

    def _open(self, name: str, topic_id: uuid.UUID, configs: Mapping[str, str], n_partitions: int) -> Topic:
        rules = _rules(configs)
        folder = self._folder / topic_id.hex
        return Topic(name, topic_id, configs, tuple(PartitionLog(folder / str(n), rules) for n in range(n_partitions)))

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Topic:
        """Raises UnknownTopicOrPartitionError where there is none."""
        topic = self._by_name.get(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"no topic {name}")
        return topic

    def get_by_id(self, topic_id: uuid.UUID) -> Topic | None:
        return next((topic for topic in self if topic.id == topic_id), None)

    def partition(self, name: str, index: int) -> PartitionLog:
        """Raises UnknownTopicOrPartitionError where there is none."""
        return self.get(name).partition(index)

    def create(
        self,
        name: str,
        n_partitions: int = 1,
        replication: int = 1,
        configs: Mapping[str, str] | None = None,
        *,
        validate_only: bool = False,
    ) -> Topic | None:
        """Make a topic; -1 partitions or replicas mean one. None where it was only to be validated.

        Raises:
            BrokerResponseError: the one that names what is wrong.
        """
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise InvalidTopicError("a topic's name is 1 to 249 of the characters A-Z a-z 0-9 . _ -")
        if name in self._by_name:
            raise TopicAlreadyExistsError(f"topic {name} is there already")
        n_partitions = 1 if n_partitions == -1 else n_partitions
        if not 1 <= n_partitions <= _PARTITIONS_MAX:
            raise InvalidPartitionsError(f"{n_partitions} partitions; possible are 1 to {_PARTITIONS_MAX}")
        if replication not in (1, -1):
            raise InvalidReplicationFactorError(f"{replication} replicas, and one broker")
        configs = dict(configs or {})
        _rules(configs)
        if validate_only:
            return None
        topic_id = uuid.uuid4()
        topic = self._open(name, topic_id, configs, n_partitions)
        described = {"name": name, "id": str(topic_id), "partitions": n_partitions, "configs": configs}
        # the folder is a topic's from here on
        (self._folder / topic_id.hex / "topic.json").write_text(json.dumps(described, indent=2) + "\n")
        self._by_name[name] = topic
        return topic

    def delete(self, topic: Topic) -> None:
        """Delete the topic and all its records."""
        folder = self._folder / topic.id.hex
        (folder / "topic.json").unlink()
        del self._by_name[topic.name]
        for partition in topic.partitions:
            partition.close()
        shutil.rmtree(folder)

    def retain(self) -> None:
        """Delete what the topics' configurations say is too old or too much."""
        for topic in self:
            for partition in topic.partitions:
                partition.retain()

    def close(self) -> None:
        """Bring everything onto the disk and let go of the files."""
        for topic in self:
            for partition in topic.partitions:
                partition.sync()
                partition.close()


def _rules(configs: Mapping[str, str]) -> LogRules:
    """Raises InvalidConfigurationError for a value that cannot be followed; what is not known is kept, as told."""
    effective = {**DEFAULTS, **configs}
    policies = set(effective["cleanup.policy"].replace(" ", "").split(","))
    if not policies <= {"delete", "compact"}:
        raise InvalidConfigurationError(f"cleanup.policy is delete or compact, not {effective['cleanup.policy']!r}")
    stamping = effective["message.timestamp.type"]
    if stamping not in ("CreateTime", "LogAppendTime"):
        raise InvalidConfigurationError(f"message.timestamp.type is CreateTime or LogAppendTime, not {stamping!r}")
    # nothing is compacted: keeping every record is what compaction allows, deleting by age is not
    deletes = "delete" in policies
    return LogRules(
        log_append_time=stamping == "LogAppendTime",
        segment_bytes=_number(effective, "segment.bytes", lambda value: value >= 1),
        batch_max_bytes=_number(effective, "max.message.bytes", lambda value: value >= 0),
        retention_ms=_number(effective, "retention.ms", lambda value: value >= -1) if deletes else -1,
        retention_bytes=_number(effective, "retention.bytes", lambda value: value >= -1) if deletes else -1,
    )


def _number(configs: Mapping[str, str], name: str, allowed: Callable[[int], bool]) -> int:
    try:
        value = int(configs[name])
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise InvalidConfigurationError(f"{name} cannot be {configs[name]!r}")
    return value
