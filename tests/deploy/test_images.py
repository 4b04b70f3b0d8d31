"""The image and the compose file name only what exists: commands, settings, services and volumes."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from serving.cli.main import main
from streams.settings.settings import Settings, load, variable

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("millstream:")}


def dockerfile(instruction: str) -> list[str]:
    """The arguments of each such instruction that are given in the exec form, the last of them in force."""
    found = re.findall(rf"^{instruction}\s.*?(\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def assert_is_a_command(words: list[str]) -> None:
    command: click.Command = main
    context = click.Context(main)
    for word in words:
        if word.startswith("-"):
            return
        assert isinstance(command, click.Group), words
        found = command.get_command(context, word)
        assert found is not None, f"there is no command millstream {' '.join(words)}"
        command = found
    assert not isinstance(command, click.Group), f"millstream {' '.join(words)} is a group: it does nothing"


def test_every_role_has_its_service() -> None:
    assert list(SERVICES) == ["kafka", "redis", "topics", "worker", "trainer", "api", "prometheus", "grafana"]
    assert list(OURS) == ["topics", "worker", "trainer", "api"]


@pytest.mark.parametrize("service", OURS)
def test_every_command_of_the_compose_file_exists(service: str) -> None:
    assert_is_a_command(OURS[service]["command"])


def test_every_command_of_the_image_exists() -> None:
    assert dockerfile("ENTRYPOINT") == ["millstream"]
    assert_is_a_command(dockerfile("CMD"))
    program, *words = dockerfile("HEALTHCHECK")
    assert program == "millstream"
    assert_is_a_command(words)


def test_every_variable_is_a_setting_and_its_value_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable(name) for name in Settings.model_fields}
    named = set(re.findall(r"MILLSTREAM_\w+", DOCKERFILE))
    for service in OURS.values():
        named |= set(service["environment"])
        for name, value in service["environment"].items():
            if value is not None:  # without a value it is handed through from where compose runs
                assert isinstance(value, str), f"{name}: compose reads an unquoted number or yes as something else"
                monkeypatch.setenv(name, value)
    assert {name.partition("__")[0] for name in named} <= known
    settings = load()
    assert settings.kafka.servers == ("kafka:9092",)
    assert settings.redis.display == "redis://redis:6379/0"


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_needs_is_there_and_images_are_pinned(service: str) -> None:
    definition = SERVICES[service]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", definition["image"])
    for volume in definition["volumes"]:
        source = volume.partition(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    for name, condition in definition.get("depends_on", {}).items():
        needs_health = condition["condition"] == "service_healthy"
        assert not needs_health or "test" in SERVICES[name]["healthcheck"]
        if "profiles" in SERVICES[name]:
            assert set(definition["profiles"]) <= set(SERVICES[name]["profiles"]), f"{service} needs {name}"


def test_what_monitors_is_as_without_compose_but_for_where_it_looks() -> None:
    compose, alone = ROOT / "deploy" / "compose", ROOT / "deploy"
    for ours, theirs, where, there in (
        ("prometheus.yml", "prometheus/prometheus.yml", "api:8080", "localhost:8080"),
        ("grafana-source.yml", "grafana/provisioning/datasources/prometheus.yml", "prometheus:9090", "localhost:9090"),
    ):
        expected = (alone / theirs).read_text().replace(there, where)
        assert yaml.safe_load((compose / ours).read_text()) == yaml.safe_load(expected)
        service, port = where.split(":")
        assert service in SERVICES and any(each.endswith(f":{port}") for each in SERVICES[service]["ports"])


def test_trainer_and_workers_share_the_data_folder() -> None:
    assert SERVICES["trainer"]["volumes"] == SERVICES["worker"]["volumes"] == ["data:/data"]
    assert "MILLSTREAM_DATA_DIR=/data" in DOCKERFILE


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_copies_what_exists_and_does_not_run_as_root() -> None:
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert {name for name in copied if not (ROOT / name).exists()} <= {"README.md"}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert "USER millstream" in DOCKERFILE
    pinned = re.findall(r"^FROM python:(\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert set(pinned) == {"3.11.14-slim-bookworm"}


def _compose() -> list[str] | None:
    """The words that run compose here: as docker's own subcommand, or as a program by itself."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True).returncode == 0:
            return words
    return None


COMPOSE_COMMAND = _compose()


@pytest.mark.skipif(COMPOSE_COMMAND is None, reason="this machine has no docker compose")
def test_docker_compose_takes_the_file() -> None:
    assert COMPOSE_COMMAND is not None
    done = subprocess.run(
        [*COMPOSE_COMMAND, "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
