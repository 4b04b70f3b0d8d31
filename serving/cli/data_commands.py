"""The commands that work on data: data sets and replay."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from serving.cli.console import end_like_ctrl_c, err, out, read_settings, set_up_logging, tells_errors
from streams.replay.replay import Replay
from streams.settings.settings import Settings

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="The folder that holds the data set's files, as its publisher names them.",
)
DATASET = click.option("--dataset", "name", required=True, help="The data set's name; `millstream datasets list`.")
REPORT = click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here (JSON).")


@contextmanager
def running_system(settings: Settings) -> Iterator[tuple[Settings, Callable[[], str | None]]]:
    """The system that runs under the settings, or, with embedded servers that do not run, one for this block alone.

    The latter has a data folder of its own, removed afterwards, so that each run starts from nothing. With the settings
    comes what tells why the system cannot go on, once it cannot.
    """
    from serving.cli.up import System, scratch_settings

    if not settings.uses_embedded:
        yield settings, lambda: None
        return
    end_like_ctrl_c()
    with scratch_settings(settings) as scratch:
        system = System(scratch)
        with system:
            yield system.settings, lambda: system.fault


@click.group()
def datasets() -> None:
    """Published interaction logs that can be played and evaluated on."""


@datasets.command("list")
@tells_errors
def datasets_list() -> None:
    """List the data sets that can be read."""
    from streams.datasets import READERS

    table = Table("name", "what", "licence", "from", box=None, header_style="bold")
    for name, reader in READERS.items():
        table.add_row(name, reader.title, reader.licence, reader.homepage)
    out.print(table)


@datasets.command("get")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="The folder to put it in (data/NAME).")
@tells_errors
def datasets_get(name: str, to: Path | None) -> None:
    """Download data set NAME from its publisher, and check it."""
    from streams.datasets.download import get

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), console=err) as progress:
        task = progress.add_task(f"downloading {name}", total=None)
        folder = get(
            name, to or Path("data") / name, progress=lambda n, of: progress.update(task, completed=n, total=of)
        )
    out.print(f"{name} is in {folder}")


def _speed(_: click.Context, __: click.Parameter, value: str) -> float | None:
    if value == "max":
        return None
    try:
        speed = float(value.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise click.BadParameter(f"{value!r} is not a speed: give max, 1x, 100x, …")
    return speed


@click.command()
@DATASET
@DATA
@click.option(
    "--speed", default="max", show_default=True, callback=_speed, help="max, or times the log's own pace: 1x."
)
@click.option("--limit", type=click.IntRange(1), help="Play the first N events only.")
@click.option("--wait/--no-wait", default=True, help="Keep in step with the lists and trainings, or send flat out.")
@REPORT
@tells_errors
def replay(name: str, data: Path, speed: float | None, limit: int | None, wait: bool, report: Path | None) -> None:
    """Play a log through the running system and score its lists on what each user did next.

    Where the settings say embedded:// and nothing runs, a whole system is started for the replay alone. In step (the
    default) the score does not depend on the machine's speed. Exit status 1 when an event was lost, or when no row of
    the log could be used. How many rows were refused, and why, is printed. Ctrl-C plays no further and reports what was
    played; a second one ends at once.
    """
    from streams.datasets import open_dataset
    from streams.datasets.refusals import Refusals
    from streams.replay.replay import Progress as Playing

    settings = read_settings()
    set_up_logging(settings)
    dataset = open_dataset(name, data)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(name, total=limit, state="starting the system")

        def show(now: Playing) -> None:
            state = f"recall@10 {now.recall:.4f}, trending {now.trending:.4f}, model {now.model or 'none'}"
            bar.update(task, completed=now.events, state=f"{state} {now.waiting_for}")

        with running_system(settings) as (running, fault):
            played = Replay(running, dataset, speed=speed, limit=limit, in_step=wait, on_progress=show, fault=fault)
            result = asyncio.run(_until_stopped(played))
    if report is not None:
        report.write_text(json.dumps(result, indent=2) + "\n")
    _show_report(result)
    if result["dead_letters"]:
        refused = Refusals(result["dead_letter_reasons"]).among(result["events_read"])
        err.print(f"{refused}\n{_where_letters_are(settings)}", markup=False, style="yellow", soft_wrap=True)
    if result["events_lost"]:
        err.print(f"[red]{result['events_lost']:,} events were lost[/red]")
        sys.exit(1)
    if result["dead_letters"] == result["events_read"] and not result["stopped_early"]:
        played_rows = f"none of the {result['events_read']:,} rows played from {data}"
        err.print(f"no row of the log could be used: {played_rows}", markup=False, style="red", soft_wrap=True)
        sys.exit(1)


def _where_letters_are(settings: Settings) -> str:
    """How to look at the dead letters of a replay; a system that was started for it alone has taken its own along."""
    if settings.uses_embedded:
        return "to look at each one, start `millstream up`, replay again, and run `millstream dead-letters list`"
    return "each one is a dead letter: `millstream dead-letters list` shows them"


async def _until_stopped(played: Replay) -> dict[str, Any]:
    """Run a replay; the first Ctrl-C or SIGTERM stops its reading, the second ends it at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(played.run())

    def stop() -> None:
        if played.stopping:
            task.cancel()
        played.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        raise click.Abort from None


def _show_report(result: dict[str, Any]) -> None:
    table = Table("", "recall@10", "ndcg@10", "mrr", box=None, header_style="bold")
    for name in ("system", "trending", "item_item"):
        row = result if name == "system" else result[name]
        table.add_row(name, *(f"{row[metric]:.4f}" for metric in ("recall_at_10", "ndcg_at_10", "mrr")))
    out.print(table)
    for name in ("events_read", "events_applied", "events_duplicate", "dead_letters", "events_lost", "lists_published"):
        out.print(f"{name:18} {result[name]:>12,}")
    promoted = sum(1 for version in result["model_versions"] if version["promoted"])
    out.print(f"{'model_versions':18} {len(result['model_versions']):>12,} ({promoted} promoted)")
    out.print(f"{'events_per_s':18} {result['events_per_s']:>12,}")
    out.print(f"{'freshness_ms':18} " + ", ".join(f"{name} {value}" for name, value in result["freshness_ms"].items()))
