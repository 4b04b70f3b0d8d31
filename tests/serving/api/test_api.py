"""The HTTP API on a real broker and a real Redis: what it answers, what it sends, and what it refuses."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, TopicPartition

from deploy.embedded import Embedded
from serving.api.access import digest
from serving.api.app import make_api
from serving.api.live import Asked
from serving.api.reads import RecommendationList
from streams.contract import topics
from streams.contract.events import MAX_ID, Cause, ListItem, Recommendations, encode
from streams.contract.topics import TopicNames
from streams.ingest import Lane, ingest, read_batch
from streams.kafka.batching import RecordBatch
from streams.settings.settings import ApiSettings, Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.serving.api.client import api_client
from tests.streams.records import batch, record
from tests.waiting import wait_until

NOW = int(time.time() * 1000)


def like(user: str, item: str, **more: object) -> dict[str, object]:
    return {"type": "like", "user_id": user, "item_id": item, "ts": NOW} | more


class Api:
    """The app, and the system behind it."""

    def __init__(self, settings: Settings, client: TestClient) -> None:
        self.settings = settings
        self.client = client
        self.names = TopicNames.under(settings.topic_prefix)

    def sent(self, topic: str, count: int) -> list[tuple[bytes, bytes | None]]:
        """The first `count` records of a topic, as (key, value)."""
        consumer = KafkaConsumer(
            auto_offset_reset="earliest", enable_auto_commit=False, **self.settings.kafka.kafka_python_options()
        )
        consumer.assign([TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()])
        found: list[tuple[bytes, bytes | None]] = []
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                found += [(r.key, r.value) for r in records]
        consumer.close()
        return found

    def in_store(self, work: Any) -> Any:
        """What a coroutine function does with the store, on the app's own event loop."""
        assert self.client.portal is not None
        return self.client.portal.call(work, self.client.app.state.live.store)  # type: ignore[attr-defined]

    def apply(self, *events: dict[str, object], start: int = 0) -> None:
        """Put events into the state as a worker would."""

        async def work(store: Store) -> None:
            rows: RecordBatch = batch([record(start + at, json.dumps(e).encode()) for at, e in enumerate(events)])
            await ingest(await read_batch(rows, Catalogue(store), self.settings), "log", store, Lane())

        self.in_store(work)

    def publish(self, made: Recommendations) -> None:
        async def work(store: Store) -> None:
            await store.put_lists([(made.user_id, encode(made))])

        self.in_store(work)

    def listed(self, user: str, **query: object) -> dict[str, Any]:
        answer = self.client.get(f"/v1/users/{user}/recommendations", params=query)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        told = dict(answer.json())
        assert RecommendationList.model_validate(told).model_dump(mode="json") == told, "it is as documented"
        return told


@pytest.fixture
def api(make_settings: MakeSettings) -> Iterator[Api]:
    settings = make_settings(api=ApiSettings(sync_s=0.05))
    topics.create(settings)
    with api_client(settings) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
        yield Api(settings, client)


def items(answer: dict[str, Any]) -> list[str]:
    return [place["item_id"] for place in answer["items"]]


def published(user: str, *names: str, ts: int = NOW) -> Recommendations:
    places = [ListItem(item_id=name, score=1.0, sources=["trending"], reason="popular now") for name in names]
    cause = Cause(event_id="e", ts=ts, arrived_at=ts)
    return Recommendations(
        rec_id="r1", user_id=user, seq=3, items=places, model="v1", index="flat", generated_at=ts, cause=cause
    )


def test_an_empty_system_says_why_the_list_is_empty(api: Api) -> None:
    answer = api.listed("ann")
    assert answer["items"] == [] and "no item is known" in answer["explanation"]
    api.apply(like("ann", "only"))
    wait_until(lambda: "has not seen" in (api.listed("ann")["explanation"] or ""), "the only item is seen")


def test_a_list_is_the_published_one_until_its_user_does_more(api: Api) -> None:
    api.apply(*(like(f"u{n}", "a") for n in range(3)), like("ann", "b"))
    api.publish(published("ann", "a", "c"))
    first = api.listed("ann")
    assert (first["origin"], first["rec_id"], first["seq"], items(first)) == ("published", "r1", 3, ["a", "c"])
    assert items(api.listed("ann", n=1)) == ["a"]
    api.apply(like("ann", "c", ts=NOW + 1), start=10)
    wait_until(lambda: items(api.listed("ann")) == ["a"], "what was done since is known: c is seen")
    assert api.listed("ann")["origin"] == "computed"


def test_an_impression_does_not_make_a_list_outdated(api: Api) -> None:
    api.apply(*(like(f"u{n}", "a") for n in range(3)), like("ann", "b"))
    api.publish(published("ann", "a", "c"))
    shown = [
        {"type": "impression", "user_id": "ann", "item_id": item, "ts": NOW + 1, "rec_id": "r1", "position": at}
        for at, item in enumerate(("a", "c"))
    ]
    api.apply(*shown, start=10)
    assert api.listed("ann")["origin"] == "published"


def test_what_is_excluded_or_beyond_the_published_size_is_made_now(api: Api) -> None:
    api.apply(*(like(f"u{n}-{i}", f"i{i}") for i in range(30) for n in range(31 - i)))
    api.publish(published("ann", "i5", ts=NOW + 5))
    wait_until(lambda: len(items(api.listed("ann", n=30))) == 30, "all items are known")
    assert items(api.listed("ann", n=30))[:3] == ["i0", "i1", "i2"]
    fewer = api.listed("ann", n=3, exclude=["i0", "i2"])
    assert (fewer["origin"], items(fewer)) == ("computed", ["i1", "i3", "i4"])


def test_requests_that_come_together_get_each_their_own_list_of_few_batches(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{n}" for n in range(40)]
    api.apply(*(like(user, f"i{n}") for n, user in enumerate(users)), *(like(f"v{n}", f"i{n}") for n in range(40)))
    wait_until(lambda: len(items(api.listed("ann", n=40))) == 40, "all items are known")
    live = api.client.app.state.live  # type: ignore[attr-defined]
    batches: list[int] = []
    lists = live.engine.lists

    async def counted(causes: dict[str, None], **more: Any) -> Any:
        batches.append(len(causes))
        return await lists(causes, **more)

    monkeypatch.setattr(live.engine, "lists", counted)

    async def all_at_once(_: Store) -> Any:
        return await asyncio.gather(
            *(live.recommendations(user, Asked(10 + n, frozenset({"i39"}))) for n, user in enumerate(users))
        )

    served = api.in_store(all_at_once)
    assert sum(batches) == 40 and len(batches) < 20, "a batch holds what came while the one before it was made"
    for n, (user, each) in enumerate(zip(users, served, strict=True)):
        named = [place.item_id for place in each.recommendations.items]
        assert each.recommendations.user_id == user and each.origin == "computed"
        assert f"i{n}" not in named and "i39" not in named  # what the user has seen, what was excluded
        assert len(named) == min(10 + n, 38 + (n == 39))


def test_published_lists_asked_for_together_are_read_together(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{n}" for n in range(40)]
    api.apply(*(like(user, "a") for user in users))
    for n, user in enumerate(users):
        api.publish(published(user, f"i{n}", ts=NOW + 5))
    live = api.client.app.state.live  # type: ignore[attr-defined]
    batches: list[int] = []
    read = live.store.client.pipeline

    def counted(**more: Any) -> Any:
        batches.append(1)
        return read(**more)

    monkeypatch.setattr(live.store.client, "pipeline", counted)

    async def all_at_once(_: Store) -> Any:
        return await asyncio.gather(*(live.recommendations(user, Asked(10)) for user in users))

    for n, served in enumerate(api.in_store(all_at_once)):
        assert served.origin == "published"
        assert [place.item_id for place in served.recommendations.items] == [f"i{n}"]
    assert len(batches) < 20, "one call reads what is asked for together"


def test_a_list_that_was_published_empty_is_filled_once_there_is_something_to_list(api: Api) -> None:
    api.publish(published("ann"))
    api.apply(like("ben", "a"))
    wait_until(lambda: items(api.listed("ann")) == ["a"], "what ben likes is listed")
    assert api.listed("ann")["origin"] == "computed"


def test_a_list_is_the_same_past_the_framework_and_through_it(api: Api) -> None:
    api.publish(published("ann ö", "x", "y"))
    assert api.listed("ann%20%C3%B6") == api.listed("ann%20%C3%B6", n=api.settings.lists.size)
    assert api.client.get(f"/v1/users/{'u' * (MAX_ID + 1)}/recommendations").status_code == 422
    assert api.client.post("/v1/users/ann/recommendations").status_code == 405


def test_a_computed_list_takes_no_number_of_the_published_ones(api: Api) -> None:
    api.apply(like("ann", "a"))
    assert api.listed("ann")["origin"] == "computed"

    async def next_number(store: Store) -> int:
        [state] = await store.read_users(["ann"], length=1, histogram=1)
        return state.list_number

    assert api.in_store(next_number) == 1


def test_the_fate_of_an_item_is_told(api: Api) -> None:
    api.apply(*(like(f"u{n}", "a") for n in range(3)), like("u1", "b"), like("ann", "c"))
    wait_until(lambda: items(api.listed("ann")) == ["a", "b"], "the trends are known")

    def fate(item: str) -> dict[str, Any]:
        return dict(api.client.get("/v1/users/ann/explain", params={"item": item}).json())

    assert (fate("a")["fate"], fate("a")["rank"], fate("b")["rank"]) == ("ranked", 1, 2)
    assert "rank 2 by score of 2 candidates" in fate("b")["says"] and fate("b")["parts"]
    assert fate("c")["fate"] == "seen" and fate("c")["rank"] is None
    assert api.client.get("/v1/users/ann/explain", params={"item": "z"}).status_code == 404


def test_what_is_like_an_item_is_not_known_before_a_model_is(api: Api) -> None:
    assert api.client.get("/v1/items/a/related").status_code == 404
    api.apply(like("ann", "a"))
    wait_until(lambda: api.client.get("/v1/items/a/related").status_code == 200, "the item is known")
    answer = api.client.get("/v1/items/a/related").json()
    assert answer["items"] == [] and "no model" in answer["explanation"]


def test_titles_come_with_the_items(api: Api) -> None:
    assert api.client.put("/v1/items/a", json={"title": "The A"}).status_code == 204
    [(key, value)] = api.sent(api.names.items, 1)
    assert (key, json.loads(value or b"")) == (b"a", {"item_id": "a", "title": "The A"})


def test_events_are_answered_one_by_one_and_sent_under_their_users(api: Api) -> None:
    extra = like("ben", "i2", mood="good")
    sent = [like("ann", "i1", event_id="e1"), {"type": "kick"}, extra, like("ann", "i1", ts=NOW + 10**9)]
    answer = api.client.post("/v1/events", json=sent)
    assert answer.status_code == 202
    verdicts = answer.json()
    assert (verdicts["accepted"], verdicts["refused"]) == (2, 2)
    assert [v["status"] for v in verdicts["events"]] == ["accepted", "refused", "accepted", "refused"]
    assert verdicts["events"][0]["event_id"] == "e1" and len(verdicts["events"][2]["event_id"]) == 32
    assert verdicts["events"][1]["field"] == "type" and "future" in verdicts["events"][3]["reason"]
    found = api.sent(api.names.events, 2)
    assert sorted((key, json.loads(value or b"")) for key, value in found) == [(b"ann", sent[0]), (b"ben", extra)]


def test_one_event_needs_no_array_and_a_retry_has_the_same_id(api: Api) -> None:
    first, again = (api.client.post("/v1/events", json=like("ann", "i1")).json() for _ in range(2))
    assert first == again and first["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no value"),
        (b"[]", "at least one"),
        (b"[1", "no JSON array"),
        (b"\xff", "not JSON"),
        (b'{"type":"watch","user_id":"u","item_id":"i","ts":1}', "watch_s"),
        (b"[" + b",".join([b"1"] * 1001) + b"]", "1,000"),
    ],
)
def test_a_body_without_a_usable_event_is_refused(api: Api, body: bytes, says: str) -> None:
    answer = api.client.post("/v1/events", content=body)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"], answer.text
    assert {"type", "title", "status", "detail"} <= set(answer.json())


def test_a_profile_is_set_and_a_user_erased(api: Api) -> None:
    profile = {"user_id": "ann", "categorical": {"country": ["KR"]}}
    assert api.client.put("/v1/users/ann", json=profile).status_code == 204
    assert api.client.delete("/v1/users/ann").status_code == 204
    found = api.sent(api.names.users, 2)
    assert [(key, json.loads(value) if value else None) for key, value in found] == [(b"ann", profile), (b"ann", None)]


@pytest.mark.parametrize("path", ["/v1/items/a", "/v1/users/a"])
def test_a_record_that_breaks_the_contract_is_refused(api: Api, path: str) -> None:
    field = "item_id" if "items" in path else "user_id"
    for body, status, says in (
        ({field: "b"}, 409, "must agree"),
        ({"categorical": 3}, 422, "Expected"),
        ([], 422, "object is needed"),
    ):
        answer = api.client.put(path, json=body)
        assert answer.status_code == status and says in answer.json()["detail"], answer.text


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(make_settings: MakeSettings) -> None:
    settings = make_settings(api=ApiSettings(max_body_bytes=1_000))
    topics.create(settings)
    with api_client(settings) as client:
        assert client.post("/v1/events", content=b"x" * 1_001).status_code == 413
        in_parts = client.post("/v1/events", content=iter([b"x" * 600] * 2))  # tells no length beforehand
        assert in_parts.status_code == 413 and "1,000" in in_parts.json()["detail"]


def test_a_client_that_asks_too_often_is_told_when_to_come_again(make_settings: MakeSettings) -> None:
    settings = make_settings(api=ApiSettings(rate_per_s=0.5, burst=3))
    topics.create(settings)
    with api_client(settings) as client:
        answers = [client.get("/livez") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) in (1, 2, 3)


def test_every_endpoint_refuses_a_wrong_token_and_one_without_its_scope(make_settings: MakeSettings) -> None:
    tokens = {digest("r"): ("read",), digest("w"): ("write",), digest("a"): ("admin",)}
    settings = make_settings(api=ApiSettings(tokens=tokens))
    topics.create(settings)
    app = make_api(settings)
    paths = {
        (method.upper(), re.sub(r"{\w+}", "x", path))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    }
    assert len(paths) >= 7
    with api_client(app) as client:

        def status(method: str, path: str, token: str | None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return int(client.request(method, path, headers=headers, content=b"nothing").status_code)

        for method, path in paths:
            assert status(method, path, None) == 401, path
            assert status(method, path, "wrong") == 401, path
            if method != "GET":
                assert status(method, path, "r") == 403, path
        assert status("DELETE", "/v1/users/x", "w") == 403
        assert status("DELETE", "/v1/users/x", "a") == 204
        assert client.get("/livez").status_code == 200


def test_with_redis_away_the_last_list_serves_or_what_is_trending(tmp_path: Path, make_settings: MakeSettings) -> None:
    with Embedded(tmp_path / "own", broker=False) as own:
        settings = make_settings(redis_url=own.redis_url, api=ApiSettings(sync_s=0.05))
        topics.create(settings)
        with api_client(settings) as client:
            api = Api(settings, client)
            wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
            api.apply(like("u1", "a"), like("u2", "a"), like("u1", "b"))
            api.publish(published("ann", "b", "a"))
            wait_until(lambda: items(api.listed("zoe")) == ["a", "b"], "the trends are known")
            assert api.listed("ann")["origin"] == "published"
            kill_redis(tmp_path / "own")
            remembered, unknown = api.listed("ann"), api.listed("zoe")
            assert (remembered["origin"], items(remembered)) == ("remembered", ["b", "a"])
            assert (unknown["origin"], items(unknown)) == ("trending", ["a", "b"])
            assert "Redis is away" in remembered["degraded"] and "Redis is away" in unknown["degraded"]
            answer = client.get("/readyz")
            assert answer.status_code == 503 and "Redis" in answer.json()["detail"]


def kill_redis(folder: Path) -> None:
    [pid] = json.loads((folder / "run" / "embedded.json").read_text())["processes"]
    process = psutil.Process(int(pid))
    process.kill()
    process.wait(10)


def test_the_numbers_are_by_route_not_by_user(api: Api) -> None:
    for user in ("ann", "ben", "cat"):
        api.listed(user)
    text = api.client.get("/metrics").text
    assert 'route="/v1/users/{user_id}/recommendations",status="200"} 3.0' in text
    assert 'millstream_api_lists_total{origin="computed"} 3.0' in text
    assert "ann" not in text


def test_openapi_names_the_contracts_of_the_topics(api: Api) -> None:
    described = api.client.get("/openapi.json").json()
    assert {"Event", "ItemRecord", "UserRecord", "ProblemDetails"} <= set(described["components"]["schemas"])
    text = json.dumps(described)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in described["components"]["schemas"], reference


def test_unknown_paths_and_methods_are_problems_too(api: Api) -> None:
    for answer in (api.client.get("/v1/nothing"), api.client.patch("/v1/events")):
        assert answer.headers["content-type"] == "application/problem+json"
        assert "/docs" in answer.json()["detail"]
    assert api.client.patch("/v1/items/a").headers["allow"] == "DELETE, PUT"
