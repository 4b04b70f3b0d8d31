"""Single requests to the broker, outside of any client: what it answers is read with the library's own codec."""

import asyncio
import struct
import time
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.producer import ProduceRequest


class Asking:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked = 0

    @classmethod
    async def open(cls, address: str) -> "Asking":
        host, port = address.split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, request: Any, version: int) -> None:
        self._asked += 1
        request.API_VERSION = version
        request.with_header(self._asked)
        self._writer.write(request.encode(header=True, framed=True))

    async def receive(self, request: Any) -> Any:
        (size,) = struct.unpack(">i", await self._reader.readexactly(4))
        data = await self._reader.readexactly(size)
        response = ResponseClassRegistry._response_class_registry[request.API_KEY]
        return response.decode(data, version=request.API_VERSION, header=True)

    async def ask(self, request: Any, version: int) -> Any:
        self.send(request, version)
        return await asyncio.wait_for(self.receive(request), 10)

    async def closed(self) -> bool:
        """Whether the broker has closed the connection, waited for."""
        try:
            return not await asyncio.wait_for(self._reader.read(), 10)
        except ConnectionError:
            return True

    def close(self) -> None:
        self._writer.close()


def batch(*values: bytes, at_ms: int | None = None, producer: int = -1, sequence: int = -1) -> bytes:
    """A record batch; each value's timestamp is one ms after the one before, the first by default now."""
    first_ms = int(time.time() * 1000) if at_ms is None else at_ms
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer, 0 if producer >= 0 else -1, sequence, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, first_ms + number, None, value, [])
    return bytes(builder.build())


def produce(topic: str, records: bytes, *, partition: int = 0, acks: int = -1) -> Any:
    """A produce request of one batch."""
    topic_class = ProduceRequest.TopicProduceData
    data = topic_class.PartitionProduceData(index=partition, records=records)
    return ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=1_000,
        topic_data=[topic_class(name=topic, partition_data=[data])],
    )


async def append(address: str, topic: str, records: bytes) -> Any:
    """Produce one batch over a connection of its own; the partition's part of the answer."""
    asking = await Asking.open(address)
    response = await asking.ask(produce(topic, records), 9)
    asking.close()
    return response.responses[0].partition_responses[0]
