"""Ids in paths: an id stays what it is on every route, and no spelling of a path leads to another id."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from kafka import KafkaConsumer, TopicPartition

from serving.api.app import make_api
from streams.contract import topics
from streams.settings.settings import ApiSettings
from tests.conftest import MakeSettings
from tests.serving.api.client import api_client, routes
from tests.serving.api.test_api import NOW, Api, like
from tests.waiting import wait_until

#: What a path spells otherwise: slashes, percent signs, and text that looks encoded.
IDS = ("a/b", "a//b", "/victim", "victim/", "https://x.y/z?q#f", "%2F", "a%2Fb", "%252F", "100%", "%", "ö %C3", "a+b;c")


@pytest.fixture
def api(make_settings: MakeSettings) -> Iterator[Api]:
    settings = make_settings(api=ApiSettings(sync_s=0.05))
    topics.create(settings)
    with api_client(settings) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
        yield Api(settings, client)


def written(api: Api) -> int:
    """The records on the topics that the API writes to."""
    consumer = KafkaConsumer(**api.settings.kafka.kafka_python_options())
    names = (api.names.events, api.names.items, api.names.users)
    found = [TopicPartition(name, n) for name in names for n in consumer.partitions_for_topic(name) or ()]
    count = int(sum(consumer.end_offsets(found).values()))
    consumer.close()
    return count


def test_no_route_takes_a_slash_at_its_end_for_nothing(api: Api) -> None:
    found = set(routes(api.client.app.routes))  # type: ignore[attr-defined]
    assert len(found) > 20
    for method, path in found:
        for wrong in (re.sub(r"{\w+}", "victim", path) + end for end in ("/", "%2F/", "//")):
            answer = api.client.request(method, wrong, json={"title": "x"}, follow_redirects=False)
            assert answer.status_code in (404, 405), f"{method} {wrong}: {answer.status_code}"
    assert written(api) == 0


def test_an_encoded_slash_at_the_end_is_part_of_the_id(api: Api) -> None:
    assert api.client.delete("/v1/users/victim%2F").status_code == 204
    assert api.client.put("/v1/items/shoe%2F", json={"title": "x"}).status_code == 204
    assert [key for key, _ in api.sent(api.names.users, 1)] == [b"victim/"]
    assert [key for key, _ in api.sent(api.names.items, 1)] == [b"shoe/"]


def test_every_id_is_itself_on_every_route(api: Api) -> None:
    posted = api.client.post("/v1/events", json=[like(name, name) for name in IDS])
    assert posted.json()["accepted"] == len(IDS)
    api.apply(*(like(name, name, ts=NOW + at) for at, name in enumerate(IDS)))
    wait_until(lambda: api.client.get("/readyz").json()["items"] == len(IDS), "the items are known")
    for name in IDS:
        path = quote(name, safe="")
        assert api.listed(path)["user_id"] == name  # past the framework
        assert api.listed(path, n=3)["user_id"] == name  # through it
        assert api.client.get(f"/v1/users/{path}/trace").status_code == 200
        explained = api.client.get(f"/v1/users/{path}/explain", params={"item": name}).json()
        assert (explained["user_id"], explained["item_id"], explained["fate"]) == (name, name, "seen")
        assert api.client.get(f"/v1/items/{path}/related").json()["item_id"] == name
        for kind in ("items", "users"):
            assert api.client.put(f"/v1/{kind}/{path}", json={}).status_code == 204
            assert api.client.delete(f"/v1/{kind}/{path}").status_code == 204
    for topic in (api.names.items, api.names.users):
        assert sorted(key.decode() for key, _ in api.sent(topic, 2 * len(IDS))) == sorted(IDS * 2)


def test_every_route_with_an_id_reads_it_as_it_was_sent(make_settings: MakeSettings) -> None:
    # a route that does not use `UserId` or `ItemId` would see the encoded id, which is another one
    described = make_api(make_settings()).openapi()["paths"]
    with_ids = {path: set(re.findall(r"{(\w+)}", path)) for path in described if "{" in path}
    assert with_ids and all(names <= {"user_id", "item_id"} for names in with_ids.values())
    for path in with_ids:
        for method in described[path].values():
            [parameter] = [each for each in method["parameters"] if each["in"] == "path"]
            assert "as events name it" in parameter["description"], path


@pytest.mark.parametrize("path", ["/v1/users/%FF", "/v1/users/a%C3", "/v1/items/%ED%A0%80"])
def test_a_path_that_is_not_utf8_is_refused(api: Api, path: str) -> None:
    answer = api.client.delete(path)
    assert answer.status_code == 422 and "not UTF-8" in answer.json()["detail"]
    assert written(api) == 0


def test_a_long_id_is_measured_as_it_is_and_not_as_it_is_encoded(api: Api) -> None:
    assert api.client.delete(f"/v1/users/{'%2F' * 256}").status_code == 204
    assert api.client.delete(f"/v1/users/{'%2F' * 257}").status_code == 422
    assert api.client.get(f"/v1/users/{'%2F' * 256}/recommendations").status_code == 200
    assert api.client.get(f"/v1/users/{'%2F' * 257}/recommendations").status_code == 422
