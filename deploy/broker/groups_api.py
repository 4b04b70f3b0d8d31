"""Consumer groups on the wire: membership, committed offsets, and what the admin tools ask."""

from typing import Any, Final

from kafka.errors import (
    BrokerResponseError,
    GroupIdNotFoundError,
    InvalidGroupIdError,
    InvalidRequestError,
    MemberIdRequiredError,
    NonEmptyGroupError,
)
from kafka.protocol.admin import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
)
from kafka.protocol.consumer import group as messages
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest, FindCoordinatorResponse

from deploy.broker.groups import Group, Joining, State
from deploy.broker.offsets import Committed, Offsets
from deploy.broker.topics import Topics
from deploy.broker.topics_api import NODE_ID, Node
from deploy.broker.wire import Api, Client

#: From this version on a new member is given its id first and joins with it.
_JOIN_WITH_ID: Final = 4
#: From this version on several members leave at once, each with an error code of its own.
_LEAVE_SEVERAL: Final = 3
#: From this version on offsets are asked for by many groups at once.
_FETCH_BY_GROUPS: Final = 8
_NO_OFFSET: Final = Committed(-1)
#: What the protocol calls a group that nobody knows.
_DEAD: Final = "Dead"

_FetchedOld = messages.OffsetFetchResponse.OffsetFetchResponseTopic
_FetchedGroup = messages.OffsetFetchResponse.OffsetFetchResponseGroup
_FetchedNew = _FetchedGroup.OffsetFetchResponseTopics
_CommittedTopic = messages.OffsetCommitResponse.OffsetCommitResponseTopic
_Described = DescribeGroupsResponse.DescribedGroup


class GroupsApi:
    """Answers requests on consumer groups, all of which this broker coordinates."""

    def __init__(self, topics: Topics, offsets: Offsets, node: Node) -> None:
        self._topics = topics
        self._offsets = offsets
        self._node = node
        self._groups: dict[str, Group] = {}

    def apis(self) -> list[Api]:
        return [
            Api(FindCoordinatorRequest, 4, self.find_coordinator),
            Api(messages.JoinGroupRequest, 9, self.join),
            Api(messages.SyncGroupRequest, 5, self.sync),
            Api(messages.HeartbeatRequest, 4, self.heartbeat),
            Api(messages.LeaveGroupRequest, 5, self.leave),
            Api(messages.OffsetCommitRequest, 8, self.commit),
            Api(messages.OffsetFetchRequest, 8, self.fetch_offsets),
            Api(ListGroupsRequest, 4, self.list_groups),
            Api(DescribeGroupsRequest, 5, self.describe),
            Api(DeleteGroupsRequest, 2, self.delete),
        ]

    def close(self) -> None:
        """Stop the groups' timers."""
        for group in self._groups.values():
            group.close()

    def find_coordinator(self, request: Any, _: Client) -> Any:
        """It is always this broker; a transaction has none."""
        here = {"node_id": NODE_ID, "host": self._node.host, "port": self._node.port, "error_code": 0}
        if request.key_type != CoordinatorType.GROUP:
            here = {"node_id": -1, "host": "", "port": -1, "error_code": InvalidRequestError.errno}
        coordinators = [
            FindCoordinatorResponse.Coordinator(key=key, error_message=None, **here)
            for key in request.coordinator_keys or ()
        ]
        return FindCoordinatorResponse(coordinators=coordinators, error_message=None, **here)

    # -- membership

    async def join(self, request: Any, client: Client) -> Any:
        answer = messages.JoinGroupResponse(
            error_code=0, member_id=request.member_id, leader="", protocol_name="", members=[]
        )
        # version 0 has one timeout for both
        rebalance_ms = request.rebalance_timeout_ms if request.rebalance_timeout_ms >= 0 else request.session_timeout_ms
        said = Joining(
            client.name,
            client.host,
            request.session_timeout_ms,
            rebalance_ms,
            request.protocol_type,
            tuple((protocol.name, protocol.metadata) for protocol in request.protocols),
        )
        try:
            if not request.group_id:
                raise InvalidGroupIdError("a group has a name")
            group = self._groups.setdefault(request.group_id, Group(request.group_id))
            id_required = request.version >= _JOIN_WITH_ID and request.group_instance_id is None
            member = await group.join(request.member_id, said, id_required=id_required)
        except MemberIdRequiredError as error:
            answer.error_code, answer.member_id = error.errno, error.args[0]
            return answer
        except BrokerResponseError as error:
            answer.error_code = error.errno
            return answer
        answer.generation_id = group.generation
        answer.protocol_type, answer.protocol_name = group.protocol_type, group.protocol
        answer.leader, answer.member_id = group.leader, member.id
        if member.id == group.leader:
            answer.members = [
                messages.JoinGroupResponse.JoinGroupResponseMember(
                    member_id=each.id, group_instance_id=None, metadata=each.metadata(group.protocol)
                )
                for each in group.members.values()
            ]
        return answer

    async def sync(self, request: Any, _: Client) -> Any:
        answer = messages.SyncGroupResponse(error_code=0, assignment=b"")
        try:
            group = self._group(request.group_id)
            assignments = {each.member_id: each.assignment for each in request.assignments}
            answer.assignment = await group.sync(request.member_id, request.generation_id, assignments)
            answer.protocol_type, answer.protocol_name = group.protocol_type, group.protocol
        except BrokerResponseError as error:
            answer.error_code = error.errno
        return answer

    def heartbeat(self, request: Any, _: Client) -> Any:
        try:
            self._group(request.group_id).heartbeat(request.member_id, request.generation_id)
        except BrokerResponseError as error:
            return messages.HeartbeatResponse(error_code=error.errno)
        return messages.HeartbeatResponse(error_code=0)

    def leave(self, request: Any, _: Client) -> Any:
        several = request.version >= _LEAVE_SEVERAL
        ids = [member.member_id for member in request.members] if several else [request.member_id]
        results = []
        for member_id in ids:
            try:
                self._group(request.group_id).leave(member_id)
                results.append((member_id, 0))
            except BrokerResponseError as error:
                results.append((member_id, error.errno))
        members = [
            messages.LeaveGroupResponse.MemberResponse(member_id=member_id, group_instance_id=None, error_code=code)
            for member_id, code in results
        ]
        return messages.LeaveGroupResponse(error_code=0 if several else results[0][1], members=members)

    def _group(self, group_id: str) -> Group:
        """The group, or one that nobody is in."""
        return self._groups.get(group_id) or Group(group_id)

    # -- offsets

    def commit(self, request: Any, _: Client) -> Any:
        code = 0
        try:
            generation = request.generation_id_or_member_epoch
            self._group(request.group_id).check_commit(request.member_id, generation)
        except BrokerResponseError as error:
            code = error.errno
        topics = [
            _CommittedTopic(
                name=topic.name,
                partitions=[
                    _CommittedTopic.OffsetCommitResponsePartition(
                        partition_index=partition.partition_index,
                        error_code=code or self._commit(request.group_id, topic.name, partition),
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        self._offsets.flush()
        return messages.OffsetCommitResponse(topics=topics)

    def _commit(self, group: str, topic: str, partition: Any) -> int:
        try:
            self._topics.partition(topic, partition.partition_index)
        except BrokerResponseError as error:
            return int(error.errno)
        committed = Committed(
            partition.committed_offset, partition.committed_leader_epoch, partition.committed_metadata or ""
        )
        self._offsets.commit(group, topic, partition.partition_index, committed)
        return 0

    def fetch_offsets(self, request: Any, _: Client) -> Any:
        if request.version < _FETCH_BY_GROUPS:
            return messages.OffsetFetchResponse(
                topics=self._committed(request.group_id, request.topics, _FetchedOld, "OffsetFetchResponsePartition")
            )
        return messages.OffsetFetchResponse(
            groups=[
                _FetchedGroup(
                    group_id=group.group_id,
                    topics=self._committed(group.group_id, group.topics, _FetchedNew, "OffsetFetchResponsePartitions"),
                    error_code=0,
                )
                for group in request.groups
            ]
        )

    def _committed(self, group: str, wanted: Any, topic_class: Any, partition_class: str) -> list[Any]:
        """The offsets of the partitions wanted, all that there are for None; -1 for one never committed."""
        committed = self._offsets.of(group)
        by_topic: dict[str, list[int]] = {}
        if wanted is None:
            for topic, partition in committed:
                by_topic.setdefault(topic, []).append(partition)
        else:
            by_topic = {topic.name: topic.partition_indexes for topic in wanted}
        answers = []
        for topic, partitions in by_topic.items():
            found = [(partition, committed.get((topic, partition), _NO_OFFSET)) for partition in partitions]
            answers.append(
                topic_class(
                    name=topic,
                    partitions=[
                        getattr(topic_class, partition_class)(
                            partition_index=partition,
                            committed_offset=each.offset,
                            committed_leader_epoch=each.leader_epoch,
                            metadata=each.metadata,
                            error_code=0,
                        )
                        for partition, each in found
                    ],
                )
            )
        return answers

    # -- administration

    def _known(self) -> set[str]:
        return {*self._offsets.groups(), *(name for name, group in self._groups.items() if group.members)}

    def list_groups(self, request: Any, _: Client) -> Any:
        groups = [self._group(name) for name in sorted(self._known())]
        return ListGroupsResponse(
            error_code=0,
            groups=[
                ListGroupsResponse.ListedGroup(
                    group_id=group.id, protocol_type=group.protocol_type, group_state=str(group.state)
                )
                for group in groups
                if not request.states_filter or str(group.state) in request.states_filter
            ],
        )

    def describe(self, request: Any, _: Client) -> Any:
        known = self._known()
        return DescribeGroupsResponse(groups=[self._described(name, name in known) for name in request.groups])

    def _described(self, name: str, known: bool) -> Any:
        group = self._group(name)
        settled = group.state is State.STABLE
        return _Described(
            error_code=0,
            group_id=name,
            group_state=str(group.state) if known else _DEAD,
            protocol_type=group.protocol_type,
            protocol_data=group.protocol or "" if settled else "",
            members=[
                _Described.DescribedGroupMember(
                    member_id=member.id,
                    group_instance_id=None,
                    client_id=member.said.client_name,
                    client_host=member.said.client_host,
                    member_metadata=member.metadata(group.protocol) if settled else b"",
                    member_assignment=member.assignment,
                )
                for member in group.members.values()
            ],
        )

    def delete(self, request: Any, _: Client) -> Any:
        return DeleteGroupsResponse(
            results=[
                DeleteGroupsResponse.DeletableGroupResult(group_id=name, error_code=self._delete(name))
                for name in request.groups_names
            ]
        )

    def _delete(self, name: str) -> int:
        if name not in self._known():
            return int(GroupIdNotFoundError.errno)
        if self._group(name).members:
            return int(NonEmptyGroupError.errno)
        self._offsets.forget_group(name)
        group = self._groups.pop(name, None)
        if group is not None:
            group.close()
        return 0
