"""Metadata: the cluster, which is this process, and its topics; making, describing and deleting them."""

from dataclasses import dataclass
from typing import Any, Final

from kafka.errors import (
    BrokerResponseError,
    InvalidRequestError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.admin import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from kafka.protocol.metadata import MetadataRequest, MetadataResponse

from deploy.broker.offsets import Offsets
from deploy.broker.topics import DEFAULTS, Topic, Topics
from deploy.broker.wire import Api, Client

NODE_ID: Final = 0
_LEADER_EPOCH: Final = 0
_TOPIC_RESOURCE: Final = 2
_BROKER_RESOURCE: Final = 4
#: Where a topic's configuration value comes from.
_OF_TOPIC: Final = 1
_BY_DEFAULT: Final = 5

_TopicMetadata = MetadataResponse.MetadataResponseTopic
_TopicPartitions = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
_Configs = DescribeConfigsResponse.DescribeConfigsResult


@dataclass(frozen=True)
class Node:
    """Who this broker is, and where clients find it."""

    cluster_id: str
    host: str
    port: int


class TopicsApi:
    """Answers requests on topics and on the cluster."""

    def __init__(self, topics: Topics, offsets: Offsets, node: Node) -> None:
        self._topics = topics
        self._offsets = offsets
        self._node = node

    def apis(self) -> list[Api]:
        return [
            Api(MetadataRequest, 12, self.metadata),
            Api(DescribeClusterRequest, 1, self.describe_cluster),
            Api(CreateTopicsRequest, 7, self.create_topics),
            Api(DeleteTopicsRequest, 6, self.delete_topics),
            Api(DescribeConfigsRequest, 4, self.describe_configs),
            Api(DescribeTopicPartitionsRequest, 0, self.describe_topic_partitions),
        ]

    # -- metadata

    def metadata(self, request: Any, _: Client) -> Any:
        """The broker and the topics asked for: all for None, and for none of them in version 0."""
        if request.topics is None or (request.version == 0 and not request.topics):
            topics = [self._described(topic) for topic in self._topics]
        else:
            topics = [self._wanted(wanted, create=request.allow_auto_topic_creation) for wanted in request.topics]
        broker = MetadataResponse.MetadataResponseBroker(
            node_id=NODE_ID, host=self._node.host, port=self._node.port, rack=None
        )
        return MetadataResponse(
            brokers=[broker], cluster_id=self._node.cluster_id, controller_id=NODE_ID, topics=topics
        )

    def _wanted(self, wanted: Any, *, create: bool) -> Any:
        try:
            if wanted.name is None:
                by_id = self._topics.get_by_id(wanted.topic_id)
                if by_id is None:
                    raise UnknownTopicIdError(f"no topic of id {wanted.topic_id}")
                return self._described(by_id)
            try:
                return self._described(self._topics.get(wanted.name))
            except UnknownTopicOrPartitionError:
                topic = self._topics.create(wanted.name) if create else None
                if topic is None:
                    raise
                return self._described(topic)
        except BrokerResponseError as error:
            return _TopicMetadata(
                error_code=error.errno, name=wanted.name, topic_id=wanted.topic_id, is_internal=False, partitions=[]
            )

    def _described(self, topic: Topic) -> Any:
        return _TopicMetadata(
            error_code=0,
            name=topic.name,
            topic_id=topic.id,
            is_internal=False,
            partitions=[
                _TopicMetadata.MetadataResponsePartition(**_placement(index)) for index in range(len(topic.partitions))
            ],
        )

    def describe_topic_partitions(self, request: Any, _: Client) -> Any:
        """As metadata, by name and never making a topic; all is told at once, so the cursor is not used."""
        answers = []
        for name in sorted([wanted.name for wanted in request.topics] or [topic.name for topic in self._topics]):
            try:
                topic = self._topics.get(name)
            except BrokerResponseError as error:
                answers.append(_TopicPartitions(error_code=error.errno, name=name, topic_id=None, partitions=[]))
                continue
            partitions = [
                _TopicPartitions.DescribeTopicPartitionsResponsePartition(**_placement(index))
                for index in range(len(topic.partitions))
            ]
            answers.append(_TopicPartitions(error_code=0, name=name, topic_id=topic.id, partitions=partitions))
        return DescribeTopicPartitionsResponse(topics=answers, next_cursor=None)

    def describe_cluster(self, _: Any, __: Client) -> Any:
        broker = DescribeClusterResponse.DescribeClusterBroker(
            broker_id=NODE_ID, host=self._node.host, port=self._node.port, rack=None
        )
        return DescribeClusterResponse(
            error_code=0, cluster_id=self._node.cluster_id, controller_id=NODE_ID, brokers=[broker]
        )

    # -- making and deleting

    def create_topics(self, request: Any, _: Client) -> Any:
        return CreateTopicsResponse(topics=[self._create(wanted, request.validate_only) for wanted in request.topics])

    def _create(self, wanted: Any, validate_only: bool) -> Any:
        answer = CreateTopicsResponse.CreatableTopicResult(
            name=wanted.name, topic_id=None, error_code=0, error_message=None, configs=[]
        )
        try:
            if wanted.assignments:
                raise InvalidRequestError("replicas cannot be assigned: there is one broker")
            configs = {config.name: config.value for config in wanted.configs if config.value is not None}
            topic = self._topics.create(
                wanted.name,
                wanted.num_partitions,
                wanted.replication_factor,
                configs,
                validate_only=validate_only,
            )
            answer.replication_factor = 1
            if topic is not None:
                answer.topic_id, answer.num_partitions = topic.id, len(topic.partitions)
        except BrokerResponseError as error:
            answer.error_code, answer.error_message = error.errno, str(error)
        return answer

    def delete_topics(self, request: Any, _: Client) -> Any:
        named = [(name, None) for name in request.topic_names or ()]
        given = [(wanted.name, wanted.topic_id) for wanted in request.topics or ()]
        return DeleteTopicsResponse(responses=[self._delete(*wanted) for wanted in named + given])

    def _delete(self, name: str | None, topic_id: Any) -> Any:
        answer = DeleteTopicsResponse.DeletableTopicResult(name=name, topic_id=topic_id, error_code=0)
        try:
            topic = self._topics.get_by_id(topic_id) if name is None else self._topics.get(name)
            if topic is None:
                raise UnknownTopicIdError(f"no topic of id {topic_id}")
            self._topics.delete(topic)
            # a topic of the same name made later is another one
            self._offsets.forget_topic(topic.name)
            answer.name, answer.topic_id = topic.name, topic.id
        except BrokerResponseError as error:
            answer.error_code, answer.error_message = error.errno, str(error)
        return answer

    # -- configuration

    def describe_configs(self, request: Any, _: Client) -> Any:
        return DescribeConfigsResponse(results=[self._configured(wanted) for wanted in request.resources])

    def _configured(self, wanted: Any) -> Any:
        answer = _Configs(
            error_code=0,
            error_message=None,
            resource_type=wanted.resource_type,
            resource_name=wanted.resource_name,
            configs=[],
        )
        try:
            if wanted.resource_type == _BROKER_RESOURCE:
                return answer  # it has none: it is told everything when it is started
            if wanted.resource_type != _TOPIC_RESOURCE:
                raise InvalidRequestError(f"resources of type {wanted.resource_type} have no configuration here")
            given = self._topics.get(wanted.resource_name).configs
            answer.configs = [
                _Configs.DescribeConfigsResourceResult(
                    name=name,
                    value=value,
                    read_only=False,
                    config_source=_OF_TOPIC if name in given else _BY_DEFAULT,
                    is_sensitive=False,
                    synonyms=[],
                    documentation=None,
                )
                for name, value in sorted({**DEFAULTS, **given}.items())
                if wanted.configuration_keys is None or name in wanted.configuration_keys
            ]
        except BrokerResponseError as error:
            answer.error_code, answer.error_message = error.errno, str(error)
        return answer


def _placement(index: int) -> dict[str, Any]:
    return {
        "error_code": 0,
        "partition_index": index,
        "leader_id": NODE_ID,
        "leader_epoch": _LEADER_EPOCH,
        "replica_nodes": [NODE_ID],
        "isr_nodes": [NODE_ID],
        "offline_replicas": [],
    }
