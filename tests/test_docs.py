"""The pages under docs/ name only what exists: files, folders, commands and settings."""

import ast
import re
import tomllib
from pathlib import Path

import click
import pytest

from serving.cli.main import main
from streams.settings.settings import Settings, variable

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
NOT_SETTINGS = {"MILLSTREAM_CONFIG", "MILLSTREAM_TEST_BROKER", "MILLSTREAM_TEST_REDIS", "MILLSTREAM_TEST_KAFKA_HOME"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_is_a_setting(page: Path) -> None:
    known = {variable(name) for name in Settings.model_fields} | NOT_SETTINGS
    named = {name.partition("__")[0] for name in re.findall(r"MILLSTREAM_[A-Z_]*[A-Z]", page.read_text())}
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    for words in re.findall(r"`(?:\S*/)?millstream ([a-z][a-z -]*)", page.read_text()):
        command: click.Command = main
        for word in words.split():
            if word.startswith("-") or not isinstance(command, click.Group):
                break
            found = command.get_command(click.Context(main), word)
            assert found is not None, f"millstream {words}"
            command = found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_ours_that_is_named_is_there(page: Path) -> None:
    for path in re.findall(r"`((?:deploy|docs|models|serving|streams|tests)/[\w./]+\.\w+)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [page for page in PAGES if "```toml" in page.read_text()], ids=lambda page: page.name)
def test_every_example_of_settings_can_be_used(page: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        Settings(**tomllib.loads(block))


def test_the_lives_of_an_event_and_of_a_training_name_functions_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    steps = re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", page, re.MULTILINE)
    assert len(steps) >= 30
    missing = [step for step in steps if step[1] not in functions(ROOT / step[0])]
    assert not missing


def functions(path: Path) -> set[str]:
    """The functions of a file, and the methods of its classes as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{method.name}" for method in node.body if hasattr(method, "name")}
    return found
