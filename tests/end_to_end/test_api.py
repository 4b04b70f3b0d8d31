"""The HTTP API as a role of a running system: what is posted comes back as a list, on the stream and on request."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from serving.client import ApiError, Http
from streams.contract.events import Event, ItemRecord, UserRecord
from tests.end_to_end.conftest import World
from tests.waiting import wait_until

NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def address(world: World) -> str:
    """Where the API of the world listens, once it is ready."""
    world.start("api", "api")
    address = f"http://127.0.0.1:{world.settings.api.port}"

    def ready() -> bool:
        try:
            return httpx2.get(f"{address}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    wait_until(ready, "the API is ready", within_s=120)
    return address


class Stream:
    """Follows the API's stream in a thread."""

    def __init__(self, address: str, **query: str) -> None:
        self.lists: list[dict[str, Any]] = []
        self.open = threading.Event()
        self._lines = self._follow(address, query)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.open.wait(20)

    def _follow(self, address: str, query: dict[str, str]) -> Iterator[str]:
        with httpx2.stream("GET", f"{address}/v1/stream", params=query, timeout=60) as answer:
            yield from answer.iter_lines()

    def _read(self) -> None:
        for line in self._lines:
            self.open.set()
            if line.startswith("data: "):
                self.lists.append(json.loads(line.removeprefix("data: ")))


def like(user: str, item: str) -> dict[str, object]:
    return {"type": "like", "user_id": user, "item_id": item, "ts": NOW}


def test_a_posted_event_comes_back_as_a_list(address: str) -> None:
    mine, all_of_them = Stream(address, user="api-ann"), Stream(address)
    posted = httpx2.post(f"{address}/v1/events", json=[like("api-ben", "api-1"), like("api-ann", "api-2")])
    assert posted.status_code == 202
    ids = [verdict["event_id"] for verdict in posted.json()["events"]]
    wait_until(lambda: len(mine.lists) >= 1 and len(all_of_them.lists) >= 2, "the lists come by")
    assert [each["user_id"] for each in mine.lists] == ["api-ann"]
    assert mine.lists[0]["cause"]["event_id"] == ids[1]
    served = httpx2.get(f"{address}/v1/users/api-ann/recommendations").json()
    assert served["origin"] == "published"
    # a model that goes into service meanwhile renews the list, which comes by as well
    wait_until(lambda: served["rec_id"] in {each["rec_id"] for each in mine.lists}, "the served list came by")


def test_an_item_put_over_http_is_recommendable_at_once(address: str) -> None:
    described = {"title": "The New One", "categorical": {"genre": ["drama"]}}
    assert httpx2.put(f"{address}/v1/items/api-new", json=described).status_code == 204

    def listed() -> list[dict[str, Any]]:
        answer = httpx2.get(f"{address}/v1/users/api-cat/recommendations", params={"n": 500}).json()
        return [place for place in answer["items"] if place["item_id"] == "api-new"]

    httpx2.post(f"{address}/v1/events", json=[like(f"api-fan-{n}", "api-new") for n in range(5)])
    wait_until(listed, "the new item is listed")
    assert listed()[0]["title"] == "The New One"
    httpx2.delete(f"{address}/v1/items/api-new")
    wait_until(lambda: not listed(), "the withdrawn item is gone")


def test_the_client_asks_and_sends_over_http(address: str) -> None:
    with Http(address) as client:
        good = Event(type="like", user_id="api-dan", item_id="api-7", ts=NOW)
        verdicts = client.send([good, Event(type="click", user_id="api-dan", ts=NOW)])
        assert [verdict.accepted for verdict in verdicts] == [True, False]
        assert verdicts[0].event_id and "item_id" in (verdicts[1].reason or "")
        client.put_item(ItemRecord(item_id="api-7", title="Seven"))
        client.put_user(UserRecord(user_id="api-eve"))

        def titled() -> bool:
            return any(place.title == "Seven" for place in client.recommendations("api-eve", n=500).items)

        wait_until(titled, "the item is listed under its title")
        assert all(p.item_id != "api-7" for p in client.recommendations("api-eve", n=500, exclude=["api-7"]).items)
        with pytest.raises(ApiError, match="422"):
            client.send([Event(type="click", user_id="api-dan", ts=NOW)])
        client.withdraw_item("api-7")
        client.erase_user("api-dan")
        wait_until(lambda: not titled(), "the withdrawn item is gone")


def test_the_stream_ends_with_the_api(world: World, address: str) -> None:
    stream = Stream(address)
    assert world.processes.pop("api").stop() == 0
    stream._thread.join(10)
    assert not stream._thread.is_alive()
