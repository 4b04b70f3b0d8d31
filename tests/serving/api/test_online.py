"""Online metrics and experiments over HTTP: lists and events on a real broker in, numbers out, after a restart too."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaProducer

from serving.api.live import Live
from streams.contract import topics
from streams.contract.events import Event, ListItem, Recommendations, UserRecord, encode
from streams.contract.topics import TopicNames
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings, OnlineSettings, ShadowSettings
from streams.settings.pipeline import PipelineSettings, RuleSettings
from streams.settings.settings import ApiSettings, Settings, SettingsError
from streams.state.status import WorkerStatus
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.serving.api.client import api_client
from tests.serving.api.test_api import Api, like
from tests.waiting import wait_until

NOW = int(time.time() * 1000)
ARMS = (ArmSettings(name="as-is", share=0.5), ArmSettings(name="fresh", share=0.5, pipeline="fresh"))
#: What the pipeline of the second arm makes differ: it never lists the item b.
FRESH = PipelineSettings(rules=(RuleSettings(match="item=b", action="remove"),))


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    made = make_settings(
        api=ApiSettings(sync_s=0.05),
        pipelines={"fresh": FRESH},
        experiments=ExperimentsSettings(
            running=(ExperimentSettings(name="mix", arms=ARMS),),
            shadows=(
                ShadowSettings(name="beside", pipeline="fresh", share=1.0),
                ShadowSettings(name="candidate", model="newest", share=1.0),
            ),
        ),
    )
    topics.create(made)
    return made


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with api_client(settings) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
        yield client


class Stream:
    """Puts lists and events on the topics."""

    def __init__(self, settings: Settings) -> None:
        self._names = TopicNames.under(settings.topic_prefix)
        self._producer = KafkaProducer(acks="all", linger_ms=0, **settings.kafka.kafka_python_options())

    def list(self, user: str, *items: str, variant: str, drawn: float | None = None) -> None:
        places = [ListItem(item_id=item, score=1.0, sources=["trending"], reason="") for item in items]
        if drawn is not None:
            places[-1] = msgspec.structs.replace(places[-1], propensity=drawn)
        made = Recommendations(
            rec_id=f"r-{user}", user_id=user, seq=1, items=places, model="v1", index="flat", generated_at=NOW,
            variant=variant,
        )  # fmt: skip
        self._send(self._names.recommendations, user, encode(made))

    def event(self, kind: str, user: str, **more: Any) -> None:
        self._send(self._names.events, user, encode(Event(type=kind, user_id=user, ts=NOW, **more)))  # type: ignore[arg-type]

    def junk(self) -> None:
        for topic in (self._names.recommendations, self._names.events):
            self._send(topic, "x", b"{]")

    def _send(self, topic: str, key: str, value: bytes) -> None:
        self._producer.send(topic, key=key.encode(), value=value).get(10)

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def stream(settings: Settings) -> Iterator[Stream]:
    made = Stream(settings)
    yield made
    made.close()


def online(client: TestClient, **query: object) -> dict[str, Any]:
    answer = client.get("/v1/metrics/online", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_what_users_make_of_their_lists_is_told_and_found_again_after_a_restart(
    settings: Settings, client: TestClient, stream: Stream
) -> None:
    portal = client.portal
    assert portal is not None
    profile = encode(UserRecord(user_id="ann", categorical={"country": ["KR"]}))

    async def describe(store: Store) -> None:
        await store.put_user("f", 0, "ann", profile, [])

    portal.call(describe, client.app.state.live.store)  # type: ignore[attr-defined]
    stream.junk()
    for user, variant in (("ann", "mix:fresh"), ("ben", "mix:as-is")):
        stream.list(user, "a", "b", variant=variant)
        stream.event("visit", user)
        stream.event("impression", user, item_id="a", rec_id=f"r-{user}", position=0)
    stream.event("click", "ann", item_id="a", rec_id="r-ann", position=0)
    stream.event("watch", "ann", item_id="b", rec_id="r-none", watch_s=150.0, duration_s=160.0)
    wait_until(lambda: online(client)["total"]["counts"]["watches"] == 1.0, "the events are counted")

    first = online(client)
    assert first["values"]["mix:fresh"]["rates"] == {
        "engagement_rate": 1.0,
        "click_through": 1.0,
        "completion_rate": 1.0,
        "long_watches_per_session": 1.0,
        "watch_s_per_session": 150.0,
    }
    assert first["values"]["mix:as-is"]["rates"]["engagement_rate"] == 0.0
    assert first["total"]["rates"]["click_through"] == 0.5 and first["unmatched"] == {"unknown": 1}
    assert online(client, by="source")["values"]["trending"]["rates"]["engagement_rate"] == 0.5
    assert online(client, by="country")["values"]["KR"]["counts"]["clicks"] == 1.0
    assert sum(moment["counts"]["events"] for moment in online(client, seconds=600)["series"]) == 6.0
    refused = client.get("/v1/metrics/online", params={"by": "mood"})
    assert refused.status_code == 404 and "variant, model" in refused.json()["detail"]

    with api_client(settings) as again:
        wait_until(lambda: online(again)["total"]["counts"]["watches"] == 1.0, "the events are counted again")
        for name in ("total", "values", "series", "unmatched", "since", "until", "behind"):
            assert online(again)[name] == online(client)[name]


def test_a_list_computed_for_a_request_is_known_when_its_click_comes(client: TestClient, stream: Stream) -> None:
    made = client.get("/v1/users/zoe/recommendations").json()
    assert made["origin"] == "computed"
    stream.event("click", "zoe", item_id="a", rec_id=made["rec_id"])
    wait_until(lambda: online(client)["total"]["counts"]["clicks"] == 1.0, "the click is counted")
    assert online(client)["unmatched"] == {"absent": 1}  # the list is known, and is empty


def test_experiments_are_told_arm_by_arm(client: TestClient, stream: Stream) -> None:
    for n in range(40):
        stream.event("visit", f"u{n}")
    wait_until(lambda: online(client)["total"]["counts"]["sessions"] == 40.0, "the visits are counted")
    [told] = client.get("/v1/experiments").json()["experiments"]
    assert told["verdict"].startswith("Too early") and told["metric"] == "engagement_rate"
    assert [arm["name"] for arm in told["arms"]] == ["as-is", "fresh"]
    assert sum(arm["users"] for arm in told["arms"]) == 40
    assert told["arms"][1]["against_control"]["sessions_per_user"]["raw"]["p_always"] == 1.0
    text = client.get("/metrics").text
    assert 'millstream_experiment_users{arm="fresh",experiment="mix"}' in text


def test_a_shadow_ranks_beside_what_was_published_and_is_scored(
    settings: Settings, client: TestClient, stream: Stream
) -> None:
    Api(settings, client).apply(*(like(f"fan-{n}", item) for n in range(3) for item in "abc"))
    wait_until(lambda: client.get("/readyz").json()["items"] == 3, "the items are known")
    shadow, candidate = client.app.state.live.tally.shadows  # type: ignore[attr-defined]
    stream.list("zoe", "b", variant="control")
    wait_until(lambda: shadow.lists == 1, "the shadow has made a list")
    stream.event("like", "zoe", item_id="c")
    wait_until(lambda: shadow.result(0.05).events == 1, "the find is scored")
    told, waits = client.get("/v1/experiments").json()["shadows"]
    assert (told["served"]["value"], told["own"]["value"], told["model"]) == (0.0, 1.0, "trending")
    assert waits["lists"] == 0 and "not among the artefacts" in waits["verdict"], "there is no trained model yet"
    assert candidate.passed_over == 0
    assert 'millstream_shadow_recall{of="own",shadow="beside"} 1.0' in client.get("/metrics").text


def test_what_exploring_earned_is_told_and_its_log_can_be_had(client: TestClient, stream: Stream) -> None:
    for n in range(6):
        stream.list(f"u{n}", "a", "b", variant="control", drawn=0.05 if n < 3 else None)
        stream.event("impression", f"u{n}", item_id="b", rec_id=f"r-u{n}", position=1)
    stream.event("click", "u0", item_id="b", rec_id="r-u0", position=1)
    choices = client.app.state.live.tally.exploring.choices  # type: ignore[attr-defined]
    wait_until(lambda: sum(each.reward for each in choices()) == 1.0, "the click is counted")
    plain, drawn, alike = client.get("/v1/experiments").json()["exploring"]
    assert (plain["policy"], plain["rows"], plain["value"]["value"]) == ("no exploring", 3, 0.0)
    assert (drawn["policy"], drawn["rows"]) == ("as drawn", 3) and alike["ips"]["value"] > 0
    rows = [json.loads(line) for line in client.get("/v1/experiments/choices").text.splitlines()]
    assert len(rows) == 3 and rows[0] == {"rec_id": "r-u0", "item_id": "b", "logged": 0.5, "reward": 1.0}


def test_an_arm_changes_the_lists_of_its_users_and_theirs_alone(settings: Settings, client: TestClient) -> None:
    api = Api(settings, client)
    api.apply(*(like(f"fan-{n}", item) for n in range(3) for item in "abc"))
    wait_until(lambda: len(api.listed("u0")["items"]) >= 2, "the items are known")
    engine = client.app.state.live.engine  # type: ignore[attr-defined]
    users = [f"u{n}" for n in range(40)]
    made = api.in_store(lambda _: engine.lists(dict.fromkeys(users), publish=False))
    assert [each.user_id for each in made] == users
    assert {each.variant for each in made} == {"mix:as-is", "mix:fresh"}
    assert all(
        {place.item_id for place in each.items} == (set("abc") if each.variant == "mix:as-is" else set("ac"))
        for each in made
    )
    fresh = next(each.user_id for each in made if each.variant == "mix:fresh")
    assert client.get(f"/v1/users/{fresh}/explain", params={"item": "b"}).json()["fate"] != "ranked"
    named = api.in_store(lambda _: engine.lists({fresh: None}, publish=False, pipeline="fresh"))
    assert named[0].variant == "control"  # who names a pipeline gets it, experiment or not


def test_an_interleaved_list_is_drafted_from_both_pipelines(make_settings: MakeSettings) -> None:
    running = (ExperimentSettings(name="mix", arms=ARMS, interleave=True),)
    settings = make_settings(
        api=ApiSettings(sync_s=0.05), pipelines={"fresh": FRESH}, experiments=ExperimentsSettings(running=running)
    )
    topics.create(settings)
    with api_client(settings) as client:
        api = Api(settings, client)
        wait_until(lambda: client.get("/readyz").status_code == 200, "the API is ready")
        api.apply(*(like(f"fan-{n}", item) for n in range(3) for item in "abcd"))
        wait_until(lambda: len(api.listed("u0")["items"]) == 4, "the items are known")
        engine = client.app.state.live.engine  # type: ignore[attr-defined]
        made = api.in_store(lambda _: engine.lists({f"u{n}": None for n in range(20)}, publish=False))
    for each in made:
        assert each.variant == "mix:interleaved" and sorted(place.item_id for place in each.items) == list("abcd")
        assert {place.team for place in each.items if place.item_id == "b"} == {0}  # the second one never lists it
    assert {place.team for each in made for place in each.items} == {0, 1}


def test_an_arm_of_a_pipeline_that_is_not_there_is_refused(make_settings: MakeSettings) -> None:
    settings = make_settings(
        experiments=ExperimentsSettings(running=(ExperimentSettings(name="mix", arms=ARMS),)),
    )
    with pytest.raises(SettingsError, match="there is no pipeline 'fresh'; known are default"):
        Live(settings)


def test_the_system_is_told_at_a_scrape(client: TestClient) -> None:
    assert "millstream_workers 0.0" in client.get("/metrics").text
    worker = WorkerStatus(
        "worker:a:1", started_at=1.0, at=time.time(), applied=7, lag=3, model="v1", freshness_ms=[5.0, 9.0, 20.0]
    )

    async def tell(store: Store) -> None:
        await store.put_status(worker.name, encode(worker))

    assert client.portal is not None
    client.portal.call(tell, client.app.state.live.store)  # type: ignore[attr-defined]
    text = client.get("/metrics").text
    for line in (
        "millstream_redis_up 1.0",
        "millstream_workers 1.0",
        'millstream_worker_applied_total{worker="worker:a:1"} 7.0',
        'millstream_worker_lag{worker="worker:a:1"} 3.0',
        'millstream_freshness_seconds{quantile="0.99",worker="worker:a:1"} 0.02',
        'millstream_worker_model{version="v1",worker="worker:a:1"} 1.0',
        "millstream_trainer_up 0.0",
    ):
        assert line in text, line


def test_a_process_that_does_not_count_says_so(make_settings: MakeSettings) -> None:
    settings = make_settings(online=OnlineSettings(enabled=False))
    topics.create(settings)
    with api_client(settings) as client:
        for path in ("/v1/metrics/online", "/v1/experiments"):
            answer = client.get(path)
            assert answer.status_code == 503 and "online.enabled" in answer.json()["detail"]
