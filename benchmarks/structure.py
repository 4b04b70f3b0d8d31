"""The imports inside each package, unit by unit: `python -m benchmarks.structure` prints them.

A unit is a sub-package or a module at the top of a package. It may import the units listed before it, and no others.
The order is a list here rather than a rule in prose, so that `tests/test_architecture.py` can hold the code to it.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
#: The units of each package, lowest first.
ORDER: Final = {
    "models": (
        "config",
        "artefact",
        "statistics",
        "data",
        "metrics",
        "networks",
        "retrieval",
        "ranking",
        "reasons",
        "recommender",
        "training",
        "evaluation",
    ),
    "streams": (
        "settings",
        "contract",
        "kafka",
        "state",
        "ingest",
        "training",
        "datasets",
        "replay",
        "simulator",
    ),
    "serving": (
        "measures",
        "doctor",
        "pipeline",
        "lists",
        "experiments",
        "online",
        "worker",
        "api",
        "dashboard",
        "client",
        "cli",
    ),
}
#: More units than this are too many to take in at a glance.
UNITS_MAX: Final = 12


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their full names; a sub-package's own module has the sub-package's name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: str) -> dict[str, set[str]]:
    """For each module of a package the modules of the same package that it imports, also for types alone."""
    known = modules(package)
    return {name: {other for other in _imported(path, known) if other != name} for name, path in known.items()}


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [member if member in known else node.module for member in members]
        else:
            continue
        yield from (name for name in names if name in known)


def unit(module: str) -> str:
    """The unit that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def faults(package: str) -> list[str]:
    """What breaks the order of a package's units, one line each."""
    order = ORDER[package]
    graph = imports(package)
    units = {unit(module) for module in graph} - {""}
    found = [f"{package}.{name} has no place in the order" for name in sorted(units - set(order))]
    found += [f"{package}.{name} is in the order, and there is no such unit" for name in order if name not in units]
    if len(units) > UNITS_MAX:
        found.append(f"{package} has {len(units)} units, more than {UNITS_MAX}")
    place = {name: number for number, name in enumerate(order)}
    for module, others in graph.items():
        for other in sorted(others):
            if place.get(unit(other), -1) > place.get(unit(module), len(order)):
                found.append(f"{module} imports {other}, which comes later")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a cycle: {' -> '.join(error.args[1])}")
    return found


def table(package: str) -> list[str]:
    """A line for each unit: how many modules it has, and the units that it imports."""
    graph = imports(package)
    below: defaultdict[str, set[str]] = defaultdict(set)
    size: defaultdict[str, int] = defaultdict(int)
    for module, others in graph.items():
        size[unit(module)] += 1
        below[unit(module)] |= {unit(other) for other in others} - {unit(module), ""}
    order = ORDER[package]
    return [f"  {name:12} {size[name]:3}  {', '.join(sorted(below[name], key=order.index)) or '-'}" for name in order]


def main() -> None:
    found = []
    for package in ORDER:
        print(f"{package}: unit, modules, the units that it imports")
        print("\n".join(table(package)))
        found += faults(package)
    print("\n".join(found) or "no cycle, no import from a later unit")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
