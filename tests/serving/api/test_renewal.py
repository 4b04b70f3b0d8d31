"""Published lists that are out of date are made again when they are read, once, and published."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from deploy.embedded import Embedded
from models.artefact import ArtefactStore, read_manifest, write_manifest
from models.data.popularity import PopularityConfig
from models.training.train import train
from serving.api.live import Asked, Live, Served
from streams.contract import topics
from streams.contract.events import Cause, ItemRecord, Recommendations, encode
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings
from streams.settings.pipeline import PipelineSettings, RuleSettings
from streams.settings.settings import ApiSettings, Settings
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.models import world
from tests.serving.api.client import api_client
from tests.serving.api.test_api import NOW, Api, items, like
from tests.waiting import wait_until

WITHDRAWN = ItemRecord(item_id="i0", available=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's artefact."""
    staged = tmp_path_factory.mktemp("model") / "trained"
    staged.mkdir()
    once = replace(
        world.SMALL,
        sequence=replace(world.SMALL.sequence, epochs=1),
        towers=replace(world.SMALL.towers, epochs=1),
    )
    train(
        world.data(world.first(world.interactions(), 200)), once, kind="retrain", incumbent=None, out=staged,
        version="v1", offsets={}, popularity=PopularityConfig(), progress=lambda _stage, _done: None,
    )  # fmt: skip
    return staged


class Renewing(Api):
    """The app, and what a worker and a trainer do to its system."""

    @property
    def live(self) -> Live:
        return self.client.app.state.live  # type: ignore[attr-defined, no-any-return]

    def refresh(self, *users: str) -> list[Recommendations]:
        """Make the users' lists by the model in service and publish them, as the refresh agent does."""

        async def work(store: Store) -> list[Recommendations]:
            cause = Cause(event_id="e", ts=NOW, arrived_at=NOW)
            made = await self.live.engine.lists(dict.fromkeys(users, cause))
            await store.put_lists([(each.user_id, encode(each)) for each in made])
            for each in made:
                await self.live.producer.send_and_wait(
                    self.names.recommendations, encode(each), key=each.user_id.encode()
                )
            return made

        return list(self.in_store(work))

    def promote(self, version: str, trained: Path) -> None:
        promote(self.settings, version, trained)
        self.await_model(version)

    def await_model(self, version: str) -> None:
        wait_until(lambda: self.live.engine.version == version, f"{version} is in service")

    def start(self, user: str) -> "Future[Served]":
        """Ask for a user's list, without waiting for it."""
        assert self.client.portal is not None
        return self.client.portal.start_task_soon(self.live.recommendations, user, Asked(10))

    def describe(self, record: ItemRecord) -> None:
        """Keep an item's record as a worker would."""

        async def work(store: Store) -> None:
            [number] = await store.number_items([record.item_id])
            await store.put_items("fence:items:0", [(self.offset, number, encode(record))])

        self.offset = getattr(self, "offset", 0) + 1
        self.in_store(work)

        def known() -> bool:
            catalogue = self.live.engine.catalogue
            return catalogue.items[catalogue.numbers[record.item_id]].available == record.available

        wait_until(known, "the API knows the record")

    def stored(self, user: str) -> Recommendations | None:
        raw = self.in_store(lambda store: store.get_list(user))
        return msgspec.json.decode(raw, type=Recommendations) if raw else None

    def on_topic(self, user: str, count: int) -> list[Recommendations]:
        """The user's lists on the topic, once `count` lists of all users are there."""
        lists = [value for key, value in self.sent(self.names.recommendations, count) if key == user.encode() and value]
        return [msgspec.json.decode(value, type=Recommendations) for value in lists]

    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Whose lists are made from now on."""
        made: list[str] = []
        make = self.live.engine.make

        async def counting(causes: dict[str, Any], *given: Any, **more: Any) -> Any:
            made.extend(causes)
            return await make(causes, *given, **more)

        monkeypatch.setattr(self.live.engine, "make", counting)
        return made


def promote(settings: Settings, version: str, trained: Path) -> None:
    artefacts = ArtefactStore(settings.data_dir / "artefacts")
    staged = artefacts.stage(version)
    shutil.copytree(trained, staged, dirs_exist_ok=True)
    write_manifest(staged, replace(read_manifest(trained), version=version))
    artefacts.publish(staged)
    artefacts.promote(version)


@contextmanager
def running(settings: Settings) -> Iterator[Renewing]:
    with api_client(settings) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
        yield Renewing(settings, client)


def seed(api: Api) -> None:
    """Users like items, i0 the most; ann liked i39."""
    api.apply(*(like(f"u{n}-{i}", f"i{i}") for i in range(20) for n in range(20 - i)), like("ann", "i39"))
    wait_until(lambda: api.client.get("/readyz").json()["items"] == 21, "the items are known")


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    settings = make_settings(api=ApiSettings(sync_s=0.05))
    topics.create(settings)
    return settings


@pytest.fixture
def api(settings: Settings) -> Iterator[Renewing]:
    with running(settings) as api:
        seed(api)
        yield api


def test_an_idle_user_gets_a_list_by_the_model_in_service_which_is_made_once_and_published(
    api: Renewing, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = api.refresh("ann")
    assert (old.model, old.seq, api.listed("ann")["rec_id"]) == ("trending", 1, old.rec_id)
    api.promote("v1", trained)
    made = api.counted(monkeypatch)
    new, again, fewer = api.listed("ann"), api.listed("ann"), api.listed("ann", n=2)
    assert (new["model"], new["seq"], new["origin"]) == ("v1", 2, "published")
    assert again == new and items(fewer) == items(new)[:2]
    assert made == ["ann"], "the stored list serves from then on"
    lists = api.on_topic("ann", 2)
    assert [(each.model, each.seq) for each in lists] == [("trending", 1), ("v1", 2)]
    stored = api.stored("ann")
    assert stored == lists[1] and stored.rec_id == new["rec_id"] and stored.cause == old.cause
    [following] = api.refresh("ann")
    assert following.seq == 3, "the next list of a worker has the next number"


def test_each_promotion_and_a_rollback_renew_a_list_once(api: Renewing, trained: Path) -> None:
    api.refresh("ann")
    for version in ("v1", "v2"):
        api.promote(version, trained)
        assert [api.listed("ann")["model"] for _ in range(2)] == [version] * 2
    ArtefactStore(api.settings.data_dir / "artefacts").promote("v1")
    api.await_model("v1")
    assert [(each["model"], each["seq"]) for each in (api.listed("ann"), api.listed("ann"))] == [("v1", 4)] * 2
    assert [each.seq for each in api.on_topic("ann", 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("listed", [["i0", "i1"], ["i0"]])
def test_a_withdrawn_item_is_served_no_more_and_one_put_back_is_no_reason_to_make_the_list_again(
    api: Renewing, listed: list[str]
) -> None:
    [old] = api.refresh("ann")
    kept = msgspec.structs.replace(old, items=[place for place in old.items if place.item_id in listed])
    api.publish(kept)
    assert items(api.listed("ann"))[0] == "i0"
    api.describe(WITHDRAWN)
    new = api.listed("ann")
    assert items(new)[0] == "i1" and "i0" not in items(new) and (new["seq"], new["origin"]) == (2, "published")
    api.describe(ItemRecord(item_id="i0"))
    assert api.listed("ann") == new


def test_a_pipeline_that_lists_withdrawn_items_keeps_its_lists(make_settings: MakeSettings) -> None:
    settings = make_settings(api=ApiSettings(sync_s=0.05), pipeline=PipelineSettings(filters=("seen",)))
    topics.create(settings)
    with running(settings) as api:
        seed(api)
        [old] = api.refresh("ann")
        api.describe(WITHDRAWN)
        assert api.listed("ann")["rec_id"] == old.rec_id and items(api.listed("ann"))[0] == "i0"


def test_requests_at_once_make_and_publish_a_list_once(
    api: Renewing, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = ["ann", *(f"u{n}-0" for n in range(5))]
    api.refresh(*users)
    api.promote("v1", trained)
    made = api.counted(monkeypatch)

    async def at_once(_: Store) -> Any:
        return await asyncio.gather(*(api.live.recommendations(user, Asked(10)) for user in users for _ in range(4)))

    served = api.in_store(at_once)
    assert sorted(made) == sorted(users)
    assert len({each.recommendations.rec_id for each in served}) == len(users)
    assert {each.origin for each in served} == {"published"}
    assert [each.seq for each in api.on_topic("ann", 12)] == [1, 2]


def test_two_apis_publish_a_list_once(api: Renewing, trained: Path) -> None:
    api.refresh("ann")
    with running(api.settings) as other:
        for number, version in enumerate(("v1", "v2", "v3"), 2):
            promote(api.settings, version, trained)
            for each in (api, other):
                each.await_model(version)
            asked = [each.start("ann") for each in (api, other)]
            assert {each.result().recommendations.model for each in asked} == {version}
            stored = api.stored("ann")
            assert stored is not None and (stored.seq, stored.model) == (number, version)
    assert [each.seq for each in api.on_topic("ann", 4)] == [1, 2, 3, 4]


def test_a_list_that_a_worker_numbered_meanwhile_or_of_an_erased_user_is_not_replaced(
    api: Renewing, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.refresh("ann", "u0-0")
    api.promote("v1", trained)
    make = api.live.engine.make

    async def overtaken(*given: Any, **more: Any) -> Any:
        made = await make(*given, **more)
        await api.live.store.read_users(["ann"], length=1, histogram=1, publish=True)
        await api.live.store.put_user("fence:users:0", 1, "u0-0", b"", [])
        return made

    monkeypatch.setattr(api.live.engine, "make", overtaken)

    async def both(_: Store) -> Any:
        return await asyncio.gather(*(api.live.recommendations(user, Asked(10)) for user in ("ann", "u0-0")))

    served = api.in_store(both)
    assert [(each.origin, each.recommendations.seq) for each in served] == [("computed", 1)] * 2
    monkeypatch.undo()
    assert api.stored("u0-0") is None, "what was erased stays erased"
    stored = api.stored("ann")
    assert stored is not None and stored.seq == 1, "the worker's list, number 2, is on its way"


def test_a_user_who_has_done_something_since_is_left_to_the_worker(api: Renewing, trained: Path) -> None:
    api.refresh("ann")
    api.promote("v1", trained)
    api.apply(like("ann", "i5", ts=NOW + 1), start=1_000)
    answer = api.listed("ann")
    assert (answer["origin"], answer["model"], answer["seq"]) == ("computed", "v1", 1)
    stored = api.stored("ann")
    assert stored is not None and stored.model == "trending"


def test_what_no_published_list_answers_renews_none(api: Renewing, trained: Path) -> None:
    api.refresh("ann")
    api.promote("v1", trained)
    for query in ({"n": 40}, {"exclude": "i3"}, {"context": "country=KR"}, {"explain": "true"}):
        answer = api.listed("ann", **query)
        assert (answer["origin"], answer["model"], answer["seq"]) == ("computed", "v1", 1), query
    stored = api.stored("ann")
    assert stored is not None and stored.model == "trending"


def test_a_list_by_a_model_that_this_process_has_not_loaded_is_served_without_what_is_withdrawn(api: Renewing) -> None:
    [old] = api.refresh("ann")
    api.publish(msgspec.structs.replace(old, model="v9"))
    api.describe(WITHDRAWN)
    answer = api.listed("ann")
    assert (answer["origin"], answer["model"], answer["rec_id"]) == ("published", "v9", old.rec_id)
    assert items(answer) == [place.item_id for place in old.items[1:]]


def test_an_arms_pipeline_makes_the_new_list_too(make_settings: MakeSettings, trained: Path) -> None:
    no_i1 = PipelineSettings(rules=(RuleSettings(match="item=i1", action="remove"),))
    arms = (ArmSettings(name="as-is", share=0.5), ArmSettings(name="without", share=0.5, pipeline="without"))
    settings = make_settings(
        api=ApiSettings(sync_s=0.05),
        pipelines={"without": no_i1},
        experiments=ExperimentsSettings(running=(ExperimentSettings(name="mix", arms=arms),)),
    )
    topics.create(settings)
    with running(settings) as api:
        seed(api)
        users = [f"new-{n}" for n in range(12)]
        before = {each.user_id: each.variant for each in api.refresh(*users)}
        assert set(before.values()) == {"mix:as-is", "mix:without"}
        api.promote("v1", trained)
        for user in users:
            answer, stored = api.listed(user, n=20), api.stored(user)
            assert stored is not None and answer["rec_id"] == stored.rec_id
            assert (stored.model, stored.variant, stored.seq) == ("v1", before[user], 2)
            assert ("i1" in items(answer)) == (before[user] == "mix:as-is")


def test_without_kafka_a_list_is_renewed_all_the_same_and_sent_when_kafka_is_back(
    tmp_path: Path, make_settings: MakeSettings, trained: Path
) -> None:
    folder = tmp_path / "own"
    with Embedded(folder, redis=False) as own, ExitStack() as afterwards:
        settings = make_settings(broker_url=own.broker_url, api=ApiSettings(sync_s=0.05))
        topics.create(settings)
        with running(settings) as api:
            seed(api)
            api.refresh("ann")
            api.promote("v1", trained)
            [pid] = json.loads((folder / "run" / "embedded.json").read_text())["processes"]
            process = psutil.Process(int(pid))
            process.kill()
            process.wait(10)
            new = api.listed("ann")
            assert (new["model"], new["seq"]) == ("v1", 2) and api.listed("ann") == new
            port = str(urlsplit(own.broker_url).port)
            command = [sys.executable, "-P", "-m", "deploy.broker", "--port", port, "--data", str(folder / "broker")]
            back = afterwards.enter_context(subprocess.Popen(command))
            afterwards.callback(back.terminate)
            wait_until(lambda: listening(int(port)), "the broker is back")
            assert [each.seq for each in api.on_topic("ann", 2)] == [1, 2]


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
