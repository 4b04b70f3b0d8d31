"""The client for those who integrate, on a real broker; its HTTP side is asked in the end-to-end tests."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from serving.client import Http, Producer, follow, now_ms
from streams.contract import topics
from streams.contract.events import BadRecord, Event, ItemRecord, Recommendations, UserRecord, decode_event, encode
from streams.contract.topics import TopicNames
from streams.settings.settings import Settings
from tests.conftest import MakeSettings


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    settings = make_settings()
    topics.create(settings)
    return settings


def url(settings: Settings) -> str:
    return settings.broker_url.get_secret_value()


def records(settings: Settings, topic: str, count: int) -> list[tuple[bytes, bytes | None]]:
    consumer = KafkaConsumer(**settings.kafka.kafka_python_options(), enable_auto_commit=False)
    partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    found: list[tuple[bytes, bytes | None]] = []
    while len(found) < count:
        batches = consumer.poll(timeout_ms=5_000)
        assert batches, f"only {found} came"
        found += [(record.key, record.value) for some in batches.values() for record in some]
    consumer.close()
    return found


def test_events_and_records_arrive_under_their_keys(settings: Settings) -> None:
    names = TopicNames.under(settings.topic_prefix)
    event = Event(type="like", user_id="ann", item_id="a", ts=now_ms())
    with Producer(url(settings), topic_prefix=settings.topic_prefix) as producer:
        event_id = producer.send(event)
        assert producer.send(event) == event_id
        producer.put_item(ItemRecord(item_id="a", title="The A"))
        producer.withdraw_item("a")
        producer.put_user(UserRecord(user_id="ann", categorical={"country": ["KR"]}))
        producer.erase_user("ann")
    sent = records(settings, names.events, 2)
    assert [(key, decode_event(raw).event_id) for key, raw in sent] == [(b"ann", event_id)] * 2
    assert [(key, json.loads(raw)["title"] if raw else None) for key, raw in records(settings, names.items, 2)] == [
        (b"a", "The A"),
        (b"a", None),
    ]
    assert [key for key, _ in records(settings, names.users, 2)] == [b"ann", b"ann"]


def test_an_event_that_lacks_what_its_type_needs_is_not_sent(settings: Settings) -> None:
    producer = Producer(url(settings), topic_prefix=settings.topic_prefix)
    with pytest.raises(BadRecord, match="watch_s"):
        producer.send(Event(type="watch", user_id="ann", item_id="a", ts=1))
    producer.close()


def test_a_record_that_cannot_be_sent_is_told_of(settings: Settings) -> None:
    producer = Producer(url(settings), topic_prefix=settings.topic_prefix)
    huge = ItemRecord(item_id="a", text={f"f{n}": "x" * 20_000 for n in range(60)})  # beyond the request's bound
    with pytest.raises(KafkaError):
        producer.put_item(huge)
    producer.close()


def made(user: str, seq: int) -> Recommendations:
    return Recommendations(
        rec_id=f"{user}{seq}", user_id=user, seq=seq, items=[], model="v1", index="flat", generated_at=seq
    )


def test_lists_are_followed_of_all_or_of_one_from_the_beginning_or_from_now(settings: Settings) -> None:
    topic = TopicNames.under(settings.topic_prefix).recommendations
    producer = KafkaProducer(**settings.kafka.kafka_python_options())

    def publish(*lists: Recommendations) -> None:
        for each in lists:
            producer.send(topic, key=each.user_id.encode(), value=encode(each))
        producer.flush()

    publish(made("ann", 1), made("ben", 1), made("ann", 2))
    producer.send(topic, key=b"ben", value=None)
    where = {"topic_prefix": settings.topic_prefix, "silence_s": 1.0}
    everyones = list(follow(url(settings), **where))  # type: ignore[arg-type]
    assert sorted(each.rec_id for each in everyones) == ["ann1", "ann2", "ben1"]
    assert [each.seq for each in follow(url(settings), user="ann", **where)] == [1, 2]  # type: ignore[arg-type]
    from_now = follow(url(settings), from_beginning=False, **where)  # type: ignore[arg-type]
    assert list(from_now) == []
    producer.close()
    assert msgspec.structs.asdict(everyones[0])["v"] == 1


def test_a_topic_that_is_not_there_is_said_to_be_missing(settings: Settings) -> None:
    with pytest.raises(KafkaError, match="prefix"):
        next(follow(url(settings), topic_prefix="elsewhere."))


@pytest.mark.parametrize("address", ["localhost:8080", "ftp://localhost", "http://", "http://localhost/v1"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="http://host"):
        Http(address)


def test_importing_it_loads_nothing_that_the_roles_run_on() -> None:
    script = (
        "import sys, serving.client; "
        "print(sorted({'torch', 'faiss', 'faust', 'redis', 'aiokafka', 'fastapi'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _Slow(BaseHTTPRequestHandler):
    """Lets the first request wait until `goes_on`, breaks off the second answer, and answers the rest with its path."""

    protocol_version = "HTTP/1.1"
    goes_on = threading.Event()
    asked = 0

    def do_GET(self) -> None:
        _Slow.asked += 1
        place = _Slow.asked
        if place == 1:
            self.goes_on.wait(5.0)
        body = json.dumps({"experiments": [{"name": place}]}).encode()
        with contextlib.suppress(BrokenPipeError):  # who asked first has gone
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + (place == 2)))
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = place == 2

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return


@pytest.fixture
def slow() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Slow.goes_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_that_failed_leaves_nothing_behind_for_the_next(slow: str) -> None:
    with Http(
        slow, timeout_s=2.0
    ) as client:  # the first answer takes longer; a busy machine answers the others in time
        with pytest.raises(TimeoutError):
            client.experiments()
        with pytest.raises(ConnectionError, match="whole answer"):
            client.experiments()
        assert client.experiments() == [{"name": 3}]
