"""The round trip of one record through the embedded broker, as its partition grows by batches of one record.

python -m benchmarks.speed.broker [BATCHES …]
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.embedded import Embedded
from streams.settings.endpoints import KafkaTarget

TOPIC = "trip"
TRIPS = 200


async def measure(target: KafkaTarget, marks: list[int]) -> None:
    producer = AIOKafkaProducer(acks="all", **target.aiokafka_options())
    consumer = AIOKafkaConsumer(**target.consumer_options())
    await producer.start()
    await consumer.start()
    partition = TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    have = 0
    for mark in marks:
        while have < mark:  # one at a time, so that each is a batch of its own
            await producer.send_and_wait(TOPIC, b"x" * 300, partition=0)
            have += 1
        await consumer.seek_to_end(partition)
        await consumer.position(partition)
        trips = []
        for _ in range(TRIPS):
            began = time.perf_counter()
            await producer.send_and_wait(TOPIC, b"x" * 300, partition=0)
            await consumer.getone()
            trips.append(1000 * (time.perf_counter() - began))
        have += TRIPS
        p50, p95 = np.percentile(trips, [50, 95])
        print(f"{mark:>8,} batches: {p50:.2f} ms at the median, {p95:.2f} ms at the 95th percentile", flush=True)
    await consumer.stop()
    await producer.stop()


def main() -> None:
    marks = [int(argument) for argument in sys.argv[1:]] or [0, 10_000, 50_000]
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder), redis=False) as servers:
        assert servers.broker_url is not None
        target = KafkaTarget.parse(servers.broker_url)
        admin = KafkaAdminClient(**target.kafka_python_options())
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        admin.close()
        asyncio.run(measure(target, marks))


if __name__ == "__main__":
    main()
