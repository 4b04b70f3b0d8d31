"""A client in Python for those who integrate: events and records in, lists out, over Kafka or over HTTP.

Over Kafka:

    with Producer("kafka://localhost:9092") as producer:
        producer.send(Event(type="like", user_id="ann", item_id="film-7", ts=now_ms()))
    for made in follow("kafka://localhost:9092", user="ann"):
        print([place.item_id for place in made.items])

Over HTTP: `Http("http://localhost:8080").recommendations("ann")`. Importing it loads kafka-python, msgspec and what
reads the URLs, nothing of what the roles run on.
"""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from streams.contract.events import Event, ItemRecord, Recommendations, UserRecord, decode_event, encode
from streams.contract.topics import TopicNames
from streams.settings.endpoints import KafkaTarget


def now_ms() -> int:
    """Event time now: milliseconds since 1970."""
    return int(time.time() * 1000)


class Producer:
    """Puts events and records on the topics, each under its key. Use it as a context manager, or `close` it."""

    def __init__(self, broker_url: str, *, topic_prefix: str = "") -> None:
        """Connect.

        Args:
            broker_url: as the setting `broker_url`: kafka://[user:password@]host:port/[?option=value].

        Raises:
            ValueError: the URL is not of that form.
            KafkaError: no broker answers there.
        """
        self._names = TopicNames.under(topic_prefix)
        self._producer = KafkaProducer(acks="all", **KafkaTarget.parse(broker_url).kafka_python_options())
        self._failed: KafkaError | None = None

    def send(self, event: Event) -> str:
        """Send an event; returns its id, derived from the content when the event brings none.

        It travels by itself; `flush` waits until all that was sent has arrived. Sending it again changes nothing.

        Raises:
            BadRecord: the event lacks what its type needs.
            KafkaError: an earlier record could not be sent.
        """
        raw = encode(event)
        event_id = decode_event(raw).event_id or ""
        self._send(self._names.events, event.user_id, raw)
        return event_id

    def put_item(self, item: ItemRecord) -> None:
        """Describe an item, new or known."""
        self._send(self._names.items, item.item_id, encode(item))

    def withdraw_item(self, item_id: str) -> None:
        """Have no list made from now on hold the item."""
        self._send(self._names.items, item_id, None)

    def put_user(self, user: UserRecord) -> None:
        """Set a user's profile."""
        self._send(self._names.users, user.user_id, encode(user))

    def erase_user(self, user_id: str) -> None:
        """Erase a user: profile, history, list, and the events that training reads."""
        self._send(self._names.users, user_id, None)

    def flush(self) -> None:
        """Wait until all that was sent has arrived.

        Raises:
            KafkaError: something has not.
        """
        self._producer.flush()
        self._raise_failed()

    def close(self) -> None:
        """Flush, and disconnect."""
        try:
            self.flush()
        finally:
            self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, topic: str, key: str, value: bytes | None) -> None:
        self._raise_failed()
        self._producer.send(topic, key=key.encode(), value=value).add_errback(self._on_failure)

    def _on_failure(self, error: KafkaError) -> None:
        self._failed = error

    def _raise_failed(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed


def follow(
    broker_url: str,
    *,
    user: str | None = None,
    topic_prefix: str = "",
    from_beginning: bool = True,
    silence_s: float | None = None,
) -> Iterator[Recommendations]:
    """Lists as they are published, of one user or of all; it goes on until the caller stops, or after a silence.

    Args:
        from_beginning: those already on the topic first, which has at least the last of each user.
        silence_s: end when none has come for so long.

    Raises:
        ValueError: the URL is not of the form that `Producer` tells.
        KafkaError: no broker answers there, or there is no such topic.
    """
    from streams.kafka.damaged import skip_damaged_in_kafka_python

    topic = TopicNames.under(topic_prefix).recommendations
    consumer = KafkaConsumer(**KafkaTarget.parse(broker_url).consumer_options())
    skip_damaged_in_kafka_python(consumer)
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise KafkaError(f"there is no topic {topic!r}: is the prefix right, and does millstream run?")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*partitions)
        for partition in partitions:
            consumer.position(partition)  # resolves it now: what is published from here on is not missed
        heard = time.monotonic()
        while silence_s is None or time.monotonic() - heard < silence_s:
            for records in consumer.poll(timeout_ms=100).values():
                heard = time.monotonic()
                for record in records:
                    if record.value is not None and (user is None or record.key == user.encode()):
                        yield msgspec.json.decode(record.value, type=Recommendations)
    finally:
        consumer.close()


class ApiError(Exception):
    """The API refused a request; the message is its problem's detail."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status


class Served(msgspec.Struct, frozen=True):
    """A list as the API serves it; `origin` and `degraded` are told in docs/api.md."""

    user_id: str
    rec_id: str
    seq: int
    origin: str
    model: str
    generated_at: int
    items: list["ServedItem"]
    degraded: str | None = None
    explanation: str | None = None


class ServedItem(msgspec.Struct, frozen=True):
    """One place of it."""

    item_id: str
    title: str
    score: float
    sources: list[str]
    reason: str


class Verdict(NamedTuple):
    """What became of an event: accepted under its id, or refused for a reason."""

    accepted: bool
    event_id: str | None
    reason: str | None


class Http:
    """The HTTP API. One request at a time: each thread needs a client of its own."""

    def __init__(self, address: str = "http://localhost:8080", *, token: str | None = None, timeout_s: float = 10.0):
        """Nothing is connected to before the first request.

        Raises:
            ValueError: the address is not http://host[:port] or https://host[:port].
        """
        parts = urlsplit(address)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"{address!r} is not http://host[:port] or https://host[:port]")
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def recommendations(self, user_id: str, *, n: int | None = None, exclude: Sequence[str] = ()) -> Served:
        """The user's list.

        Raises:
            ApiError: the API refuses.
            OSError: it cannot be reached.
        """
        query = [*([("n", n)] if n else []), *(("exclude", item) for item in exclude)]
        path = f"/v1/users/{quote(user_id, safe='')}/recommendations?{urlencode(query)}"
        return msgspec.json.decode(self._ask("GET", path), type=Served)

    def send(self, events: Iterable[Event]) -> list[Verdict]:
        """Send events; each is answered by itself.

        Raises:
            ApiError: none of them can be used, or Kafka is away: then the same may be sent again.
            OSError: the API cannot be reached.
        """
        answer = json.loads(self._ask("POST", "/v1/events", msgspec.json.encode(list(events))))
        return [Verdict(e["status"] == "accepted", e["event_id"], e["reason"]) for e in answer["events"]]

    def put_item(self, item: ItemRecord) -> None:
        """Describe an item, new or known."""
        self._ask("PUT", f"/v1/items/{quote(item.item_id, safe='')}", encode(item))

    def withdraw_item(self, item_id: str) -> None:
        """Have no list made from now on hold the item."""
        self._ask("DELETE", f"/v1/items/{quote(item_id, safe='')}")

    def put_user(self, user: UserRecord) -> None:
        """Set a user's profile."""
        self._ask("PUT", f"/v1/users/{quote(user.user_id, safe='')}", encode(user))

    def erase_user(self, user_id: str) -> None:
        """Erase a user."""
        self._ask("DELETE", f"/v1/users/{quote(user_id, safe='')}")

    def experiments(self) -> list[dict[str, Any]]:
        """The results of the experiments that run, as docs/openapi.json describes them.

        Raises:
            ApiError: the API refuses, or does not count.
            OSError: it cannot be reached.
        """
        return list(self._results()["experiments"])

    def shadows(self) -> list[dict[str, Any]]:
        """How the shadows do, as docs/openapi.json describes them.

        Raises:
            ApiError: the API refused.
        """
        return list(self._results()["shadows"])

    def exploring(self) -> list[dict[str, Any]]:
        """What policies for the place that explores earn, as docs/openapi.json describes them.

        Raises:
            ApiError: the API refused.
        """
        return list(self._results()["exploring"])

    def choices(self) -> bytes:
        """What stood at the exploring places that were shown, as JSON lines.

        Raises:
            ApiError: the API refused.
        """
        return self._ask("GET", "/v1/experiments/choices")

    def _results(self) -> dict[str, Any]:
        return dict(json.loads(self._ask("GET", "/v1/experiments")))

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            return self._ask_once(method, path, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # the server had closed the idle connection; all that is asked here may be asked twice
            return self._ask_once(method, path, body)

    def _ask_once(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            kind = {} if body is None else {"Content-Type": "application/json"}
            self._connection.request(method, path, body, self._headers | kind)
            answer = self._connection.getresponse()
            content: bytes = answer.read()
        except BaseException as error:
            # an answer that is still to come must not be taken for that of the next request
            self._connection.close()
            if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
                raise ConnectionError(f"no whole answer came: {error!r}") from error
            raise
        if answer.status < 400:
            return content
        try:
            problem: dict[str, Any] = json.loads(content)
        except ValueError:  # something before the API has answered
            problem = {"title": answer.reason, "detail": content[:200].decode(errors="replace")}
        raise ApiError(answer.status, str(problem.get("title", "")), str(problem.get("detail", "")))
