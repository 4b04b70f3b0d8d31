"""Produce, Fetch and what else concerns records: offsets by time, deletion, the ids of idempotent producers."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from kafka.errors import (
    BrokerResponseError,
    InvalidRequiredAcksError,
    InvalidTxnStateError,
    KafkaStorageError,
    UnsupportedVersionError,
)
from kafka.protocol.admin import DeleteRecordsRequest, DeleteRecordsResponse
from kafka.protocol.consumer import (
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetSpec,
)
from kafka.protocol.producer import (
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
)

from deploy.broker.log import PartitionLog
from deploy.broker.topics import Topics
from deploy.broker.wire import Api, Client

log = logging.getLogger(__name__)

#: A fetch brings no more at once, whatever it asks for: the answer is built in memory.
_FETCH_MAX_BYTES: Final = 16 << 20
_LEADER_EPOCH: Final = 0

_Produced = ProduceResponse.TopicProduceResponse
_ProducedPartition = _Produced.PartitionProduceResponse
_Fetched = FetchResponse.FetchableTopicResponse
_FetchedPartition = _Fetched.PartitionData
_Listed = ListOffsetsResponse.ListOffsetsTopicResponse
_Deleted = DeleteRecordsResponse.DeleteRecordsTopicResult
_Epochs = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult


class RecordsApi:
    """Answers requests on the records of the topics."""

    def __init__(self, topics: Topics, new_producer_id: Callable[[], int]) -> None:
        self._topics = topics
        self._new_producer_id = new_producer_id

    def apis(self) -> list[Api]:
        # from Fetch 13 and Produce 13 on topics are asked for by id, which brings a single broker nothing
        return [
            Api(ProduceRequest, 9, self.produce),
            Api(FetchRequest, 12, self.fetch),
            Api(ListOffsetsRequest, 7, self.list_offsets),
            Api(DeleteRecordsRequest, 2, self.delete_records),
            Api(InitProducerIdRequest, 4, self.init_producer_id),
            Api(OffsetForLeaderEpochRequest, 4, self.offset_for_leader_epoch),
        ]

    # -- producing

    def produce(self, request: Any, _: Client) -> Any:
        """Append each batch; acks 0 gets no answer, 1 and all are the same with a single copy."""
        responses = [
            _Produced(
                name=topic.name,
                partition_responses=[
                    self._append(topic.name, partition, request.acks) for partition in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
        return ProduceResponse(responses=responses) if request.acks else None

    def _append(self, topic: str, partition: Any, acks: int) -> Any:
        answer = _ProducedPartition(index=partition.index, error_code=0, base_offset=-1)
        try:
            if acks not in (-1, 0, 1):
                raise InvalidRequiredAcksError(f"acks {acks}")
            partition_log = self._topics.partition(topic, partition.index)
            appended = partition_log.append(partition.records or b"")
            answer.base_offset = appended.base_offset
            answer.log_append_time_ms = appended.time_ms
            answer.log_start_offset = partition_log.start_offset
        except BrokerResponseError as error:
            answer.error_code, answer.error_message = error.errno, str(error)
        except OSError as error:
            log.error("cannot write to %s-%d: %s", topic, partition.index, error)
            answer.error_code, answer.error_message = KafkaStorageError.errno, str(error)
        return answer

    def init_producer_id(self, request: Any, _: Client) -> Any:
        if request.transactional_id is not None:
            return InitProducerIdResponse(error_code=InvalidTxnStateError.errno)
        return InitProducerIdResponse(producer_id=self._new_producer_id(), producer_epoch=0)

    # -- fetching

    async def fetch(self, request: Any, _: Client) -> Any:
        """Wait until there is enough, then read it."""
        if request.max_wait_ms > 0:
            await self._wait(request)
        left = min(request.max_bytes, _FETCH_MAX_BYTES)
        empty = True
        responses = []
        for topic in request.topics:
            partitions = []
            for wanted in topic.partitions:
                answer = self._read(topic.topic, wanted, left, at_least_one=empty)
                left = max(left - len(answer.records), 0)
                empty = empty and not answer.records
                partitions.append(answer)
            responses.append(_Fetched(topic=topic.topic, partitions=partitions))
        # session id 0: there are no fetch sessions, each request names all it wants
        return FetchResponse(responses=responses)

    async def _wait(self, request: Any) -> None:
        wanted: list[tuple[PartitionLog, int]] = []
        try:
            for topic in request.topics:
                for partition in topic.partitions:
                    found = self._topics.partition(topic.topic, partition.partition)
                    wanted.append((found, partition.fetch_offset))
            loop = asyncio.get_running_loop()
            deadline = loop.time() + request.max_wait_ms / 1000
            while sum(found.bytes_from(offset) for found, offset in wanted) < request.min_bytes:
                if loop.time() >= deadline:
                    return
                woken = loop.create_future()
                timer = loop.call_at(deadline, _resolve, woken)
                for found, _ in wanted:
                    found.waiting.add(woken)
                try:
                    await woken
                finally:
                    timer.cancel()
                    for found, _ in wanted:
                        found.waiting.discard(woken)
        except BrokerResponseError:
            return  # an error is told of at once

    def _read(self, topic: str, wanted: Any, left: int, *, at_least_one: bool) -> Any:
        try:
            found = self._topics.partition(topic, wanted.partition)
        except BrokerResponseError as error:
            return _FetchedPartition(
                partition_index=wanted.partition, error_code=error.errno, high_watermark=-1, records=b""
            )
        answer = _FetchedPartition(
            partition_index=wanted.partition,
            error_code=0,
            high_watermark=found.end_offset,
            last_stable_offset=found.end_offset,
            log_start_offset=found.start_offset,
            records=b"",
        )
        try:
            if found.bytes_from(wanted.fetch_offset):
                max_bytes = max(min(left, wanted.partition_max_bytes), 0)
                answer.records = found.read(wanted.fetch_offset, max_bytes, at_least_one=at_least_one)
        except BrokerResponseError as error:
            answer.error_code = error.errno
        return answer

    # -- offsets

    def list_offsets(self, request: Any, _: Client) -> Any:
        return ListOffsetsResponse(
            topics=[
                _Listed(
                    name=topic.name,
                    partitions=[self._list_offset(topic.name, wanted) for wanted in topic.partitions],
                )
                for topic in request.topics
            ]
        )

    def _list_offset(self, topic: str, wanted: Any) -> Any:
        answer = _Listed.ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=0)
        try:
            found = self._topics.partition(topic, wanted.partition_index)
            if wanted.timestamp == OffsetSpec.LATEST:
                answer.offset = found.end_offset
            elif wanted.timestamp == OffsetSpec.EARLIEST:
                answer.offset = found.start_offset
            elif wanted.timestamp >= 0 or wanted.timestamp == OffsetSpec.MAX_TIMESTAMP:
                at = found.find_time(wanted.timestamp) if wanted.timestamp >= 0 else found.newest()
                answer.offset, answer.timestamp = at or (-1, -1)
            else:
                raise UnsupportedVersionError(f"timestamp {wanted.timestamp}")
            answer.leader_epoch = _LEADER_EPOCH
        except BrokerResponseError as error:
            answer.error_code = error.errno
        return answer

    def offset_for_leader_epoch(self, request: Any, _: Client) -> Any:
        """Where the records of the only leader's epoch end: a client asks before it trusts its position."""
        return OffsetForLeaderEpochResponse(
            topics=[
                _Epochs(
                    topic=topic.topic,
                    partitions=[self._epoch_end(topic.topic, wanted.partition) for wanted in topic.partitions],
                )
                for topic in request.topics
            ]
        )

    def _epoch_end(self, topic: str, partition: int) -> Any:
        answer = _Epochs.EpochEndOffset(partition=partition, error_code=0)
        try:
            answer.end_offset = self._topics.partition(topic, partition).end_offset
            answer.leader_epoch = _LEADER_EPOCH
        except BrokerResponseError as error:
            answer.error_code = error.errno
        return answer

    def delete_records(self, request: Any, _: Client) -> Any:
        return DeleteRecordsResponse(
            topics=[
                _Deleted(
                    name=topic.name,
                    partitions=[self._delete(topic.name, wanted) for wanted in topic.partitions],
                )
                for topic in request.topics
            ]
        )

    def _delete(self, topic: str, wanted: Any) -> Any:
        answer = _Deleted.DeleteRecordsPartitionResult(
            partition_index=wanted.partition_index, low_watermark=-1, error_code=0
        )
        try:
            found = self._topics.partition(topic, wanted.partition_index)
            found.delete_before(found.end_offset if wanted.offset == -1 else wanted.offset)
            answer.low_watermark = found.start_offset
        except BrokerResponseError as error:
            answer.error_code = error.errno
        return answer


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
