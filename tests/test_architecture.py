"""The architecture holds: floors import downward only, and every file tells what it is for."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from benchmarks import structure

ROOT = Path(__file__).parents[1]

#: What of ours each floor may import beside itself.
ALLOWED = {
    "models": set[str](),
    "streams": {"models"},
    "serving": {"models", "streams", "deploy"},
    "deploy": set[str](),
}
#: All that the models are made of: nothing that knows Kafka, Redis, HTTP or settings.
MODELS_MADE_OF = {"threadpoolctl", "torch", "numpy", "faiss", "lightgbm", "implicit", "scipy", "safetensors", "msgspec"}
OPTIONAL = ("requirements-dev.txt", "requirements-plots.txt")
LINES_MAX = 600
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base2", "tools"}

FILES = sorted(
    path for folder in (*ALLOWED, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: imports name the package in full"
            found.add((node.module or "").partition(".")[0])
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_only_what_lies_below_it(floor: str) -> None:
    upward = {
        name(path): sorted(wrong)
        for path in (ROOT / floor).rglob("*.py")
        if (wrong := (imports(path) & {*ALLOWED, "tests", "benchmarks"}) - ALLOWED[floor] - {floor})
    }
    assert not upward


@pytest.mark.parametrize("package", structure.ORDER)
def test_a_unit_of_a_package_imports_only_units_listed_before_it_and_no_module_imports_itself(package: str) -> None:
    assert not structure.faults(package), "see `python -m benchmarks.structure`"


@pytest.mark.parametrize("package", [*ALLOWED, "benchmarks"])
def test_a_module_has_a_name_of_its_own_within_its_package(package: str) -> None:
    names = [path.name for path in (ROOT / package).rglob("*.py") if not path.name.startswith("__")]
    assert not {name for name in names if names.count(name) > 1}


def test_the_models_know_no_kafka_redis_or_http() -> None:
    foreign = {
        name(path): sorted(wrong)
        for path in (ROOT / "models").rglob("*.py")
        if (wrong := imports(path) - MODELS_MADE_OF - {"models"} - sys.stdlib_module_names)
    }
    assert not foreign


def test_what_is_imported_is_what_the_requirements_name_first() -> None:
    first_part = (ROOT / "requirements.txt").read_text().split("\n\n")[1]
    named = {line.partition("==")[0] for line in first_part.splitlines()}
    of_package = packages_distributions()
    imported = {
        of_package[package][0]
        for floor in ALLOWED
        for path in (ROOT / floor).rglob("*.py")
        for package in imports(path) - {*ALLOWED} - sys.stdlib_module_names
    }
    # redis-py imports hiredis, and the Kafka clients import the codecs; pip needs setuptools; matplotlib is an extra
    by_others = {"hiredis", "setuptools", "cramjam", "lz4", "python-snappy", "zstandard"}
    assert imported == (named - by_others) | {"matplotlib"}


def test_what_draws_plots_is_pinned_as_it_is_tested() -> None:
    pins = [set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE)) for name in OPTIONAL]
    assert pins[1] and pins[1] < pins[0]


def test_every_requirement_is_pinned() -> None:
    for file in ("requirements.txt", *OPTIONAL):
        for line in (ROOT / file).read_text().splitlines():
            assert re.fullmatch(r"(?:[\w-]+==\d[\w.]*)?\s*(?:#.*)?", line), line


def test_every_file_opens_with_a_line_that_says_what_it_is_for() -> None:
    silent = [name(path) for path in FILES if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()]
    assert not silent


def test_no_file_is_longer_than_one_idea_needs() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {path: lines for path, lines in lengths.items() if lines > LINES_MAX}


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert not [name(path) for path in FILES if EMPTY_NAMES & set(path.stem.split("_"))]


def test_no_file_reads_what_could_run_code() -> None:
    unsafe = [
        name(path) for path in FILES if imports(path) & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    ]
    assert not unsafe


def test_only_the_settings_and_the_start_of_processes_read_the_environment() -> None:
    readers = {
        name(path)
        for floor in ALLOWED
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= {"streams/settings/settings.py", "deploy/embedded.py", "models/networks/threads.py"}
