"""Settings: where each value comes from, what is refused, and that no password is ever printed."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.labels import LabelRules
from streams.settings.endpoints import EMBEDDED, KafkaTarget, RedisTarget, redacted
from streams.settings.settings import Settings, SettingsError, explain, load, variable


@pytest.fixture(autouse=True)
def _empty_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("MILLSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def origin_of(settings: Settings, name: str) -> tuple[str, str]:
    return next((row.value, row.origin) for row in explain(settings) if row.name == name)


def test_without_anything_given_all_is_embedded() -> None:
    settings = load()
    assert settings.broker_url.get_secret_value() == settings.redis_url.get_secret_value() == EMBEDDED
    assert settings.data_dir == Path.cwd() / ".millstream"
    assert all(row.origin == "default" for row in explain(settings))


def test_the_command_line_wins_over_environment_env_file_and_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("millstream.toml").write_text(
        'partitions = 2\ntopic_prefix = "toml."\n[ingest]\nseen_max = 2\nbatch_max = 2\n'
    )
    Path(".env").write_text("MILLSTREAM_TOPIC_PREFIX=dotenv.\nMILLSTREAM_INGEST__SEEN_MAX=3\n")
    monkeypatch.setenv("MILLSTREAM_INGEST__SEEN_MAX", "4")
    monkeypatch.setenv("MILLSTREAM_LISTS__SIZE", "7")
    settings = load(lists={"size": 9}, replication=None)
    assert origin_of(settings, "lists.size") == ("9", "command line")
    assert origin_of(settings, "ingest.seen_max") == ("4", "environment")
    assert origin_of(settings, "topic_prefix") == ("dotenv.", ".env")
    assert origin_of(settings, "ingest.batch_max") == ("2", "millstream.toml")
    assert origin_of(settings, "replication") == ("1", "default")


def test_a_config_file_is_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('log_level = "DEBUG"\n')
    monkeypatch.setenv("MILLSTREAM_CONFIG", str(file))
    assert origin_of(load(), "log_level") == ("DEBUG", str(file))
    monkeypatch.setenv("MILLSTREAM_CONFIG", "absent.toml")
    with pytest.raises(SettingsError, match=r"MILLSTREAM_CONFIG: absent\.toml is not a file"):
        load()


def test_fields_of_the_models_own_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_LABELS__RATING_SCALE", "10")
    monkeypatch.setenv("MILLSTREAM_INGEST__SEGMENTS", '["country"]')
    monkeypatch.setenv("MILLSTREAM_MODEL__SEQUENCE__EPOCHS", "3")
    monkeypatch.setenv("MILLSTREAM_POPULARITY__HALF_LIVES_S", "[60, 3600]")
    settings = load()
    assert settings.model.sequence.epochs == 3
    assert settings.labels == LabelRules(rating_scale=10.0)
    assert settings.ingest.segments == ("country",)
    assert settings.popularity.half_lives_s == (60.0, 3600.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PARTITIONS", "none", "MILLSTREAM_PARTITIONS (from environment): 'none': Input should be a valid integer"),
        (
            "INGEST__BATCH_MAX",
            "0",
            "MILLSTREAM_INGEST__BATCH_MAX (from environment): '0': Input should be greater than 0",
        ),
        ("INGEST__BATCH", "1", "there is no such setting; did you mean 'batch_max'?"),
        ("INGEST__UNKNOWN_ITEMS", "drop", "Input should be 'accept' or 'reject'"),
        ("LABELS__WATCH_POSTIVE", "1", "'watch_postive' is unknown; did you mean 'watch_positive'?"),
        ("MODEL__SEQUENCE__EPOCH", "1", "'sequence.epoch' is unknown; did you mean 'epochs'?"),
        ("LABELS__WATCH_POSITIVE", "0", "need 0 <= watch_negative < watch_positive <= 1"),
        ("TOPIC_PREFIX", "a b", "MILLSTREAM_TOPIC_PREFIX (from environment): 'a b': String should match pattern"),
        ("BROKER_URL", "localhost:9092", "need kafka://host:port[,host:port] or embedded://"),
        ("REDIS_URL", "kafka://h:1", "need embedded:// or one of redis://"),
    ],
)
def test_a_fault_names_the_variable_the_value_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv("MILLSTREAM_" + name, value)
    with pytest.raises(SettingsError) as error:
        load()
    assert message in str(error.value)
    assert "MILLSTREAM_" + name.partition("__")[0] in str(error.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        load(partitions=0, replication=-1, nonsense=1)
    assert len(str(error.value).splitlines()) == 3


def test_a_mistyped_variable_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MILLSTREAM_BROKER_ULR", "kafka://h:1")
    monkeypatch.setenv("MILLSTREAM_TEST_BROKER", "kafka://h:1")
    with caplog.at_level(logging.WARNING):
        load()
    assert [record.getMessage() for record in caplog.records] == [
        "MILLSTREAM_BROKER_ULR is no setting of millstream and changes nothing; did you mean 'MILLSTREAM_BROKER_URL'?"
    ]


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", "kafka://ann:s3cret@h:not-a-port"),
        ("broker_url", "kafka://ann:s3cret@[h:9092"),
        ("broker_url", "ann:s3cret@h:9092"),
        ("broker_url", "amqp://ann:s3cret@h"),
        ("redis_url", "redis://:s3cret@h:6379/words"),
        ("redis_url", "redis://ann:x/s3cret@h:6379"),
        ("redis_url", "redis://ann:s3cret/x@h:6379"),
    ],
)
def test_a_fault_in_a_url_is_told_without_its_password(name: str, url: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(**{name: url})
    assert "s3cret" not in str(error.value)
    assert variable(name) in str(error.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", "kafka://ann:s3cret@h:9092"),
        ("redis_url", "rediss://:s3cret@h:6379/0"),
        ("redis_url", "redis://h:6379?password=s3cret"),
    ],
)
def test_no_password_is_printed(name: str, url: str) -> None:
    settings = load(**{name: url})
    printed = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        str(explain(settings)),
    ]
    if name == "broker_url":
        printed += [repr(settings.kafka), settings.kafka.display]
    else:
        printed += [repr(settings.redis), settings.redis.display]
    assert not [text for text in printed if "s3cret" in text]
    assert "***" in str(getattr(settings, name))


@given(st.text(min_size=1).filter(lambda text: "***" not in text))
def test_redaction_hides_any_password(password: str) -> None:
    hidden = "<" + password + ">"
    assert hidden not in redacted(f"kafka://user:{hidden}@host:9092/?security_protocol=SASL_SSL")


def test_a_kafka_url_gives_plain_options() -> None:
    assert KafkaTarget.parse("kafka://one,two:9093,[::1]:9094/").aiokafka_options() == {
        "bootstrap_servers": ["one:9092", "two:9093", "[::1]:9094"],
        "security_protocol": "PLAINTEXT",
    }
    target = KafkaTarget.parse("kafka://a%40b:p%3Aw@h:1/?security_protocol=SASL_PLAINTEXT&sasl_mechanism=SCRAM-SHA-256")
    assert target.kafka_python_options() == {
        "bootstrap_servers": ["h:1"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "a@b",
        "sasl_plain_password": "p:w",
    }
    assert target.faust_urls() == ["kafka://h:1"]


def test_credentials_travel_encrypted_unless_the_url_says_otherwise() -> None:
    target = KafkaTarget.parse("kafka://ann:pw@h:1")
    assert (target.security_protocol, target.sasl_mechanism) == ("SASL_SSL", "PLAIN")
    assert target.ssl_context() is not None
    assert KafkaTarget.parse("kafka://h:1/?ssl_cafile=/ca.pem").security_protocol == "SSL"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kafka://h:1/?sasl=x", "unknown option 'sasl'; known are security_protocol"),
        ("kafka://h:1/?security_protocol=TLS", "'TLS' is not one of PLAINTEXT, SSL"),
        ("kafka://h:1/?security_protocol=SASL_SSL", "needs user:password@ before the host"),
        ("kafka://a:b@h:1/?security_protocol=SSL", "takes no user and password"),
        ("kafka://a:b@h:1/?sasl_mechanism=MD5", "one of PLAIN, SCRAM-SHA-256"),
        ("kafka://a@h:1", "both a user and a password"),
        ("kafka://h:99999", "the port must be a number from 1 to 65535"),
        ("kafka://", "is not a host:port"),
        ("kafka://::1", "goes in brackets"),
        ("kafka://h:1/topic", "has no path"),
        ("kafka://h:1/?ssl_keyfile=k", "needs ssl_certfile"),
        ("kafka://h:1/?security_protocol=PLAINTEXT&ssl_cafile=c", "uses no ssl_ files"),
    ],
)
def test_a_kafka_url_that_contradicts_itself_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KafkaTarget.parse(url)


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(OSError, match=f"ssl_cafile {file} is not a file"):
        KafkaTarget.parse(f"kafka://h:1/?ssl_cafile={file}").aiokafka_options()
    file.write_text("no certificate")
    with pytest.raises(OSError, match=f"{file}.* cannot be used"):
        KafkaTarget.parse(f"kafka://h:1/?ssl_cafile={file}").aiokafka_options()


def test_redis_urls_name_a_server_a_cluster_or_a_socket() -> None:
    assert RedisTarget.parse("redis://h").cluster is False
    cluster = RedisTarget.parse("rediss+cluster://:pw@h:7000/0")
    assert cluster.cluster
    assert cluster.url.get_secret_value() == "rediss://:pw@h:7000/0"
    assert cluster.display == "rediss://:***@h:7000/0"
    assert RedisTarget.parse("unix:///run/redis.sock?db=1").url.get_secret_value() == "unix:///run/redis.sock?db=1"
    with pytest.raises(ValueError, match="database 0 only"):
        RedisTarget.parse("redis+cluster://h:7000/3")


def test_an_embedded_server_that_does_not_run_is_named_when_it_is_needed() -> None:
    settings = load()
    with pytest.raises(SettingsError, match="MILLSTREAM_BROKER_URL is embedded://, but no embedded server runs"):
        _ = settings.kafka
    connected = settings.connected(broker_url="kafka://127.0.0.1:1", redis_url="redis://127.0.0.1:2")
    assert connected.kafka.servers == ("127.0.0.1:1",)
    assert connected.redis.display == "redis://127.0.0.1:2"
    assert origin_of(connected, "redis_url") == ("redis://127.0.0.1:2", "embedded server")
    assert settings.uses_embedded
    assert not connected.uses_embedded


def test_a_server_that_was_named_is_never_replaced_by_an_embedded_one() -> None:
    settings = load(broker_url="kafka://h:1").connected(broker_url="kafka://127.0.0.1:1", redis_url=None)
    assert settings.kafka.servers == ("h:1",)
    assert settings.embeds_redis


def test_a_child_process_reads_the_very_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_INGEST__SEEN_MAX", "4")
    Path("millstream.toml").write_text("partitions = 2\n")
    settings = load(
        broker_url="kafka://ann:s3cret@h:1", topic_prefix="x.", ingest={"seen_max": 5}, labels={"rating_scale": 10}
    )
    root = Path(__file__).parents[2]
    code = "from streams.settings.settings import load; s = load(); print(s.broker_url.get_secret_value()); print(s)"
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=settings.environment() | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.splitlines() == ["kafka://ann:s3cret@h:1", str(settings)]
