"""The table of what the models must show: each goal, what is measured, and whether it holds.

    python -m benchmarks.quality.claims --data DIR --to RESULTS [--rectools PYTHON] [--page FILE] [CLAIM …]

Every claim is measured by the benchmark that is there for it, log by log, in a process of its own, with one thread but
for the epoch. All of them take about two hours of one core. Their reports are kept in RESULTS, a file for each, and a
report that is there is not measured again; so the command can be stopped and continued, or split among machines.
`benchmarks/rectools/sasrec.py` says how to install RecTools; without it the rows that compare with it say so.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.quality.baselines import METRICS, SASREC, against, verdict
from benchmarks.quality.models import SETS, interval
from benchmarks.tables import table

ROOT: Final = Path(__file__).parents[2]
ML_1M: Final = "ml-1m"
#: RecTools' HSTU-large, the highest published figures known to us, and HSTU-large of its paper (docs/models.md).
HIGHEST_HIT_RATE, HIGHEST_NDCG, HSTU_NDCG = 0.3642, 0.2164, 0.1893
HEAD: Final = """# Claims

What the models must show, and whether they do: all of it measured and written by one command, on public logs.

```
python -m benchmarks.quality.claims --data DIR --to RESULTS --rectools PYTHON --page docs/claims.md
```

How each is measured, what was tried, and what lies behind a goal that is missed is told in [models.md](models.md)
(MovieLens 1M, against others, one epoch) and in [measurements.md](measurements.md) (fine-tuning, new items).

"""
QUICK_S: Final = 1800.0
TIMES_THE_BEST: Final = 1.2
OF_RETRAIN, OF_TIME, FORGOTTEN = 0.98, 0.1, 0.02
TIMES_AS_FAST: Final = 4.0


@dataclass(frozen=True)
class Measured:
    """What a benchmark reported of one log, and how long it took."""

    report: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Row:
    """A goal, and whether it holds; None where there is nothing to reach."""

    goal: str
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Claim:
    """What is measured for a claim, and what is told of it.

    Attributes:
        command: the benchmark and its arguments, for the folder of all data sets, a log and RecTools' options.
        rows: what is told of the outcome on that log.
    """

    title: str
    logs: Sequence[str]
    command: Callable[[Path, str, Sequence[str]], list[str]]
    rows: Callable[[Measured, str], Iterator[Row]]


def _loo(*more: str) -> Callable[[Path, str, Sequence[str]], list[str]]:
    asked = ("--protocol", "loo", "--model", "sequence", "--threads", "1", *more)
    return lambda data, log, _: ["serving.cli", "evaluate", "--dataset", log, "--data", str(data / log), *asked]


def _against(protocol: str) -> Callable[[Path, str, Sequence[str]], list[str]]:
    asked = ("--protocol", protocol, "--sets")
    return lambda data, log, rectools: ["benchmarks.quality.baselines", "--data", str(data), *rectools, *asked, log]


def _of_models(claim: str) -> Callable[[Path, str, Sequence[str]], list[str]]:
    return lambda data, log, _: ["benchmarks.quality.models", "--data", str(data), "--set", log, claim]


def _epoch(data: Path, log: str, rectools: Sequence[str]) -> list[str]:
    return ["benchmarks.speed.epoch", "--data", str(data / log), *rectools]


def best_on_ml_1m(measured: Measured, _log: str) -> Iterator[Row]:
    told = measured.report["models"]["sequence"]
    hit_rate, ndcg = told["hit_rate_at_10"], told["ndcg_at_10"]
    yield Row(
        f"HR@10 and NDCG@10 above {HIGHEST_HIT_RATE} and {HIGHEST_NDCG}",
        f"{hit_rate:.4f} and {interval(told, 'ndcg_at_10')} in {_minutes(measured.seconds)}",
        hit_rate > HIGHEST_HIT_RATE and ndcg > HIGHEST_NDCG,
    )


def quick_on_ml_1m(measured: Measured, _log: str) -> Iterator[Row]:
    ndcg = measured.report["models"]["sequence"]["ndcg_at_10"]
    yield Row(
        f"NDCG@10 of {HSTU_NDCG} in less than {_minutes(QUICK_S)} of two cores",
        f"{ndcg:.4f} in {_minutes(measured.seconds)} of one core",
        ndcg >= HSTU_NDCG and measured.seconds < QUICK_S,
    )


def best_of_all(measured: Measured, log: str) -> Iterator[Row]:
    report = measured.report[log]
    for metric in METRICS:
        found = against(report, metric)
        left_out = "" if SASREC in report["models"] else "; RecTools was left out"
        yield Row(
            f"{metric.replace('_at_', '@')} {TIMES_THE_BEST} times the best of the others', intervals apart",
            verdict(report, metric) + left_out,
            found.ratio >= TIMES_THE_BEST and found.apart,
        )


def fine_tuned(measured: Measured, log: str) -> Iterator[Row]:
    told = measured.report["fine-tune"][log]["system"]
    yield Row(
        f"NDCG@10 at least {_percent(OF_RETRAIN, 0)} of a retrain's",
        _percent(told["of_retrain"]),
        told["of_retrain"] >= OF_RETRAIN,
    )
    yield Row(
        f"in at most {_percent(OF_TIME, 0)} of its time",
        "{} ({:.1f} of {:.1f} s)".format(_percent(told["of_time"]), *told["seconds"]),
        told["of_time"] <= OF_TIME,
    )
    yield Row(
        f"less than {_percent(FORGOTTEN, 0)} of the older part's NDCG@10 lost",
        "{} ({} to {})".format(*map(_percent, (told["forgotten"], *told["forgotten_interval"]))),
        told["forgotten"] < FORGOTTEN,
    )


def found_anew(measured: Measured, log: str) -> Iterator[Row]:
    told = measured.report["new-items"][log]
    content, ids = (interval(told[f"system {read}"], "recall_at_10") for read in ("content", "ids"))
    asks = told["system content"]["asks"]
    yield Row("recall@10 with the content net, and without", f"{content}, and {ids}, of {asks:,}", None)


def faster(measured: Measured, _log: str) -> Iterator[Row]:
    ours, theirs = measured.report["ours"], measured.report.get("rectools")
    goal = f"{TIMES_AS_FAST:g} times as fast as RecTools', at no worse NDCG@10"
    if theirs is None:
        yield Row(goal, f"{ours['seconds_an_epoch']:.1f} s; RecTools was left out", None)
        return
    times = measured.report["times_less_seconds_an_epoch"]
    yield Row(
        goal,
        f"{times:.1f} times: {ours['seconds_an_epoch']:.1f} s for {theirs['seconds_an_epoch']:.1f}, "
        f"with {ours['ndcg_at_10']:.4f} for {theirs['ndcg_at_10']:.4f}",
        times >= TIMES_AS_FAST and ours["ndcg_at_10"] >= theirs["ndcg_at_10"],
    )


BEST: Final = ("--config", str(ROOT / "docs/examples/ml-1m.json"))
CLAIMS: Final[Mapping[str, Claim]] = {
    "ml-1m": Claim("Leave-one-out, the kept configuration", [ML_1M], _loo(*BEST), best_on_ml_1m),
    "quick": Claim("Leave-one-out, the default configuration", [ML_1M], _loo(), quick_on_ml_1m),
    "prequential": Claim("Event by event, the whole stack", SETS, _against("prequential"), best_of_all),
    "rolling": Claim("At three splits, the whole stack", SETS, _against("rolling"), best_of_all),
    "fine-tune": Claim("A fine-tune on the newest tenth", SETS, _of_models("fine-tune"), fine_tuned),
    "new-items": Claim("Items first met after training", SETS, _of_models("new-items"), found_anew),
    "epoch": Claim("An epoch of SASRec's shape", [ML_1M], _epoch, faster),
}


def measure(command: Sequence[str], place: Path) -> None:
    """Run a benchmark, and put what it reports and what it took into a file.

    Raises:
        ClickException: it failed.
    """
    report = place.with_suffix(".report")
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-m", *command, "--report", str(report)], cwd=ROOT, check=False)
    seconds = time.monotonic() - began
    if ended.returncode:
        raise click.ClickException(f"it ended with {ended.returncode}: python -m {' '.join(command)}")
    found = Measured(json.loads(report.read_bytes()), seconds)
    report.write_text(json.dumps(asdict(found), indent=1) + "\n")
    report.rename(place)


def markdown(measured: Mapping[tuple[str, str], Measured]) -> str:
    """The table of what was measured, by claim and log."""
    said = {True: "yes", False: "**no**", None: ""}
    rows = [
        (CLAIMS[name].title, log, row.goal, row.measured, said[row.holds])
        for (name, log), outcome in measured.items()
        for row in CLAIMS[name].rows(outcome, log)
    ]
    return table(("what", "log", "goal", "measured", "holds"), rows) + "\n"


def _percent(share: float, digits: int = 1) -> str:
    return f"{share * 100:.{digits}f} %"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes"


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True), required=True)
@click.option("--to", type=click.Path(path_type=Path, file_okay=False, resolve_path=True), required=True)
@click.option("--rectools", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Python that has it.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here (Markdown).")
@click.argument("claims", nargs=-1, type=click.Choice(list(CLAIMS)))
def main(data: Path, to: Path, rectools: Path | None, page: Path | None, claims: tuple[str, ...]) -> None:
    to.mkdir(parents=True, exist_ok=True)
    of_rectools = [] if rectools is None else ["--rectools", str(rectools.absolute())]
    measured = {}
    for name in claims or CLAIMS:
        for log in CLAIMS[name].logs:
            place = to / f"{name} {log}.json"
            if not place.exists():
                click.echo(f"measuring {name} on {log}", err=True)
                measure(CLAIMS[name].command(data, log, of_rectools), place)
            measured[name, log] = Measured(**json.loads(place.read_bytes()))
    if page is None:
        click.echo(markdown(measured), nl=False)
    else:
        page.write_text(HEAD + markdown(measured))


if __name__ == "__main__":
    main()
