"""The commands that work on models alone, without Kafka and Redis: training and evaluation on a data set."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from models.artefact import ArtefactStore
from models.networks.threads import use_threads
from models.training.positives import NothingToLearn
from serving.cli.console import err, out, tells_errors
from serving.cli.data_commands import DATA, DATASET, REPORT
from serving.cli.plots import can_draw, draw_evaluation
from streams.settings.settings import Settings, SettingsError, load

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='How models are built and trained, in JSON: {"ranker": {"kind": "deepfm"}}. What it leaves out is as set.',
)
THREADS = click.option("--threads", default=0, type=click.IntRange(0), help="Threads to train with; 0: all cores.")

_COLUMNS = ("recall_at_10", "ndcg_at_10", "map_at_10", "f1_at_10", "mrr", "grouped_auc", "coverage", "log_loss")


@click.command()
@DATASET
@DATA
@click.option(
    "--protocol",
    default="prequential",
    show_default=True,
    type=click.Choice(["prequential", "temporal", "rolling", "loo"]),
    help="What is asked: each later positive as of then; each user's later ones at the split; at several splits; "
    "each user's last one.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("system", "trending", "item_item"),
    show_default=True,
    help="blend, sequence, two_tower, slist, user_user, als, …; or all; may be repeated.",
)
@click.option(
    "--share", default=0.1, show_default=True, type=click.FloatRange(0.001, 0.3), help="Newest part to test on."
)
@click.option(
    "--trainings",
    default=1,
    show_default=True,
    type=click.IntRange(1, 50),
    help="For prequential: train anew so many times, evenly over the part tested on.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep here what is fitted. What lies here of the same data and configuration is asked again, not fitted anew.",
)
@CONFIG
@THREADS
@REPORT
@click.option("--plots", type=click.Path(path_type=Path, dir_okay=False), help="Draw a page of plots here (PNG).")
@tells_errors
def evaluate(
    name: str,
    data: Path,
    protocol: Any,
    models: tuple[str, ...],
    share: float,
    trainings: int,
    keep: Path | None,
    config: Path | None,
    threads: int,
    report: Path | None,
    plots: Path | None,
) -> None:
    """Train on the older part of a log, and compare the lists of several models with what users liked later.

    Offline, without Kafka and Redis: the same models, blend, ranker and ranking code as in service. Every list is made
    out of the whole catalogue. For loo, where no --config is given, the sequence model is that of docs/models.md. Exit
    status 1 when no row can be used or none is a positive, with the reasons.
    """
    from models.evaluation.evaluate import MODELS
    from models.evaluation.evaluate import evaluate as compare
    from models.evaluation.standalone_sequence import quick

    chosen = MODELS if "all" in models else tuple(dict.fromkeys(models))
    if unknown := sorted(set(chosen) - set(MODELS)):
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(MODELS)}, and all", param_hint="--model")
    if plots is not None and not can_draw():
        raise click.ClickException(
            "--plots needs matplotlib, which is not installed: pip install 'millstream[plots]', or leave --plots out"
        )
    if trainings > 1 and protocol != "prequential":
        raise click.BadParameter(f"only prequential takes several, not {protocol}", param_hint="--trainings")
    settings = _configured(config)
    model = settings.model
    if protocol == "loo" and config is None:
        model = quick(model)
    dataset = _prepared(name, data, threads, settings)
    with _bar(f"reading {name}") as tell:
        read = _read(dataset, settings, tell)
        scores = compare(
            read,
            model,
            popularity=settings.popularity,
            protocol=protocol,
            models=chosen,
            share=share,
            trainings=trainings,
            keep=keep,
            progress=tell,
        )
    written = {"dataset": name, **scores}
    if report is not None:
        report.write_text(json.dumps(written, indent=2) + "\n")
    if plots is not None:
        draw_evaluation(written, plots)
    heads = (column.replace("_at_", "\n@").replace("_", "\n") for column in _COLUMNS)
    table = Table(Column(no_wrap=True), *heads, box=None, header_style="bold", padding=(0, 1, 0, 0))
    for model, metrics in scores["models"].items():
        table.add_row(model, *(f"{metrics[column]:.4f}" if column in metrics else "" for column in _COLUMNS))
    out.print(table)
    out.print(f"{scores['asks']:,} lists asked for, by {protocol}")
    if scores["found"]:
        out.print(f"found in {keep}, not fitted anew: {', '.join(scores['found'])}")
    for other, gain in scores["gains"].items():
        low, high = gain["ndcg_at_10_interval"]
        out.print(f"{chosen[0]} over {other}: ndcg@10 {gain['ndcg_at_10']:+.4f} ({low:+.4f} to {high:+.4f})")


@click.command()
@DATASET
@DATA
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder of artefacts that the model is put in, such as DATA_DIR/artefacts.",
)
@CONFIG
@THREADS
@tells_errors
def train(name: str, data: Path, to: Path, config: Path | None, threads: int) -> None:
    """Train on a whole data set, and put the model into a folder of artefacts, in service if it is no worse.

    Exit status 1, and nothing is written, when no row can be used or none is a positive; the reasons are printed.
    """
    from models.training.train import train as fit

    settings = _configured(config)
    dataset = _prepared(name, data, threads, settings)
    store = ArtefactStore(to)
    version = f"{name}-{int(time.time())}"
    with _bar(f"reading {name}") as tell:
        read = _read(dataset, settings, tell)
        staged = store.stage(version)
        current = store.current()
        try:
            outcome = fit(
                read,
                replace(settings.model, histogram_half_life_s=settings.ingest.histogram_half_life_s),
                kind="retrain",
                incumbent=None if current is None else store.path(current),
                out=staged,
                version=version,
                offsets={},
                popularity=settings.popularity,
                progress=tell,
                gate_min_events=settings.training.gate_min_events,
            )
        except NothingToLearn:
            staged.rmdir()
            raise
    place = store.publish(staged)
    if outcome.promoted:
        store.promote(version)
    out.print(f"{place} is {'in service' if outcome.promoted else 'not in service'}: {outcome.why}")


def _configured(config: Path | None) -> Settings:
    if config is None:
        return load()
    try:
        content = json.loads(config.read_bytes())
    except ValueError as error:
        raise SettingsError(f"{config} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f'{config}: expected an object such as {{"ranker": {{"kind": "deepfm"}}}}')
    return load(model=content)


def _prepared(name: str, data: Path, threads: int, settings: Settings) -> Any:
    from models.networks.compute import Compute
    from streams.datasets import open_dataset

    try:
        Compute.of(settings.model)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    use_threads(threads or os.cpu_count() or 1)
    return open_dataset(name, data)


def _read(dataset: Any, settings: Settings, tell: Any) -> Any:
    """The data set in the models' form; how many of its rows were refused, and why, is printed."""
    from streams.datasets.offline import training_data

    return training_data(
        dataset,
        settings.labels,
        on_event=lambda n: tell(f"{n:,} events", None),
        on_refusals=lambda refused: err.print(refused, markup=False, style="yellow", soft_wrap=True),
    )


@contextmanager
def _bar(first: str) -> Iterator[Any]:
    """A bar, and what moves it: the stage, and the share of all work done."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(first, total=None)

        def tell(stage: str, done: float | None) -> None:
            bar.update(task, description=stage, completed=done, total=None if done is None else 1.0)

        yield tell
