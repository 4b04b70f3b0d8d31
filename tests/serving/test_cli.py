"""The command line: what each command says, and what it says to do when something is wrong."""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator

import click
import kafka.codec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaProducer

from serving.cli.console import out
from serving.cli.main import main
from streams.contract import topics
from streams.contract.events import BadRecord, encode
from streams.contract.topics import TopicNames
from streams.kafka.dead_letters import dead_letter
from streams.settings.settings import Settings
from streams.state.status import TRAINER, Due, TrainerStatus
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.streams.records import record

Run = Callable[..., Result]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(topic_prefix=f"cli-{uuid.uuid4().hex[:8]}.")


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command under the settings; `MILLSTREAM_…` given by keyword win."""
    monkeypatch.chdir(settings.data_dir)
    monkeypatch.setattr(out, "width", 200)

    def invoke(*arguments: str, **variables: str) -> Result:
        environment: dict[str, str | None] = {**settings.environment({}), **variables}
        return CliRunner().invoke(main, arguments, env=environment)

    return invoke


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_helps(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help, "it says what it is for"
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert all(each.help for each in options), "each option says what it is for"


def test_config_shows_each_value_and_where_it_comes_from(run: Run, settings: Settings) -> None:
    (settings.data_dir / ".env").write_text("MILLSTREAM_LOG_LEVEL=ERROR\n")
    result = run("config", MILLSTREAM_REDIS_URL="redis://me:secret@localhost:7", MILLSTREAM_PARTITIONS="9")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert "9" in rows["partitions"] and "environment" in rows["partitions"]
    assert "secret" not in result.output and "me:***@localhost:7" in rows["redis_url"]


def test_a_setting_that_cannot_be_used_is_named(run: Run) -> None:
    result = run("config", MILLSTREAM_PARTITIONS="none")
    assert result.exit_code != 0 and "MILLSTREAM_PARTITIONS" in result.output


def findings(result: Result) -> dict[str, dict[str, str]]:
    """The doctor's findings by subject; of several on one subject the first that is no ok."""
    found: dict[str, dict[str, str]] = {}
    for finding in json.loads(result.output):
        if finding["subject"] not in found or found[finding["subject"]]["verdict"] == "ok":
            found[finding["subject"]] = finding
    return found


def test_the_doctor_tells_of_missing_topics_and_roles_with_the_remedy(run: Run) -> None:
    result = run("doctor", "--json")
    found = findings(result)
    assert result.exit_code == 1 and found["broker"]["verdict"] == found["redis"]["verdict"] == "ok"
    assert "topics create" in found["topics"]["remedy"] and "missing" in found["topics"]["text"]
    assert "millstream worker" in found["workers"]["remedy"]
    assert "millstream trainer" in found["trainer"]["remedy"]
    assert run("topics", "create").exit_code == 0
    found = findings(run("doctor", "--json"))
    assert found["topics"]["verdict"] == "ok"


def test_the_doctor_tells_of_a_topic_with_other_partitions_than_set(run: Run) -> None:
    run("topics", "create")
    found = findings(run("doctor", "--json", MILLSTREAM_PARTITIONS="5"))
    assert found["topics"]["verdict"] == "fault" and "MILLSTREAM_PARTITIONS=2" in found["topics"]["remedy"]


def test_the_doctor_tells_of_servers_that_are_away(run: Run, free_port: int) -> None:
    away = run("doctor", "--json", MILLSTREAM_BROKER_URL=f"kafka://127.0.0.1:{free_port}")
    found = findings(away)
    assert away.exit_code == 1 and found["redis"]["verdict"] == "ok"
    assert found["broker"]["verdict"] == "fault" and "MILLSTREAM_BROKER_URL" in found["broker"]["remedy"]
    away = run("doctor", "--json", MILLSTREAM_REDIS_URL=f"redis://127.0.0.1:{free_port}")
    found = findings(away)
    assert away.exit_code == 1 and found["broker"]["verdict"] == "ok"
    assert found["redis"]["verdict"] == "fault" and "MILLSTREAM_REDIS_URL" in found["redis"]["remedy"]


def test_a_codec_that_is_missing_is_named_by_the_doctor_and_at_the_start_of_each_role(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(run("doctor", "--json"))["codecs"]["verdict"] == "ok"
    monkeypatch.setattr(kafka.codec, "lz4", None)
    assert findings(run("doctor", "--json"))["codecs"]["text"] == "batches cannot be read in lz4 (needs lz4)"
    for role in ("worker", "trainer", "api"):
        result = run(role)
        assert result.exit_code != 0 and "lz4 (needs lz4)" in result.output


def test_the_doctor_says_why_the_last_training_made_no_model(run: Run, settings: Settings) -> None:
    why = "no positives: nothing to train on; 10 interactions: 10 dislike (disliked)"
    told = TrainerStatus({}, 10, 1, Due(20, None, 20), False, "", 0.0, 1, None, time.time() + 3600, why)

    async def tell() -> None:
        store = Store(settings)
        try:
            await store.put_status(TRAINER, encode(told))
        finally:
            await store.close()

    asyncio.run(tell())
    found = findings(run("doctor", "--json"))["trainer"]
    assert found["verdict"] == "warning" and why in found["text"] and "next training at 20" in found["text"]


def test_the_doctor_prints_for_people_too(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 1 and "fault" in result.output and "→" in result.output


def test_an_event_is_sent_as_it_was_said(run: Run, settings: Settings) -> None:
    topics.create(settings)
    result = run("send", "watch", "ann", "film-7", "--watch-s", "62", "--duration-s", "75")
    assert result.exit_code == 0 and f"{settings.topic_prefix}events" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("watch", "ann", "film-7"), "watch_s"),
        (("click", "ann"), "item_id"),
        (("kick", "ann", "film-7"), "kick"),
        (("search", "ann"), "query"),
        (("rating", "ann", "film-7", "--value", "5000"), "value"),
    ],
)
def test_an_event_that_breaks_the_contract_is_not_sent(run: Run, arguments: tuple[str, ...], told: str) -> None:
    result = run("send", *arguments)
    assert result.exit_code == 1 and told in result.output and "Traceback" not in result.output


def test_a_user_without_a_list_is_told_so(run: Run) -> None:
    result = run("recs", "no[b]ody")
    assert result.exit_code == 1 and "no list was published for user 'no[b]ody'" in result.output


def test_dead_letters_are_listed_and_sent_again(run: Run, settings: Settings) -> None:
    topics.create(settings)
    names = TopicNames.under(settings.topic_prefix)
    producer = KafkaProducer(**settings.kafka.kafka_python_options())
    for offset, reason in enumerate(("not JSON", "the event lies ahead")):
        letter = dead_letter(record(offset, b"[red]\xff", key=b"ann", topic=names.events), BadRecord(reason, "ts"))
        producer.send(names.dead_letters, value=encode(letter))
    producer.flush()
    producer.close()
    listed = [json.loads(line) for line in run("dead-letters", "list", "--json").output.splitlines()]
    assert [(each["offset"], each["reason"]) for each in listed] == [(0, "not JSON"), (1, "the event lies ahead")]
    shown = run("dead-letters", "list", "--limit", "1").output
    assert f"{names.events}-0-1" in shown and "[red]" in shown and "not JSON" not in shown
    assert "sent 1 " in run("dead-letters", "replay", "--reason", "JSON").output
    assert "sent 0 " in run("dead-letters", "replay", "--position", "elsewhere-0-1").output


def test_no_embedded_server_is_started_just_to_look(run: Run) -> None:
    result = run("recs", "ann", MILLSTREAM_REDIS_URL="embedded://")
    assert result.exit_code == 1 and "millstream up" in result.output
