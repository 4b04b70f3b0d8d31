"""What learning on the stream is worth: three ways to serve the same simulated worlds, each through the real system.

    python -m benchmarks.quality.worlds [--plot worlds.png] [--report worlds.json] [--world drift] [--users 150]
        [--days 5]

The arms live through the same world, with the same seed, one after the other, each on an embedded broker, a Redis and a
worker of its own. Up to the first day given, all do the same: lists of what is trending, from which the first model is
then trained. After that:

- `streaming`: the trainer goes on, fine-tuning every six hours of event time; lists are refreshed at every event.
- `frozen`: the trainer is stopped, and that first model serves on. State is live, and so are the lists.
- `nightly`: what a nightly batch job does. Once in 24 hours of event time the model is trained anew on all there is, a
  list is made for everybody, and these lists are shown until the next night; what somebody dealt with since is left
  out of them, as an application would. Whoever came since has no list yet.

All of them play in step: nobody looks at a list before the one is out that answers what they did last, and the world
stands still while a training runs, as the clock nearly would: the seconds of a training are little against six hours.
The models are small, as the town is. Arms may be played side by side (`--jobs`): in step little depends on speed, only
whether neighbours have taken in the newest likes of others.
Engagement is the share of visits in which something from the list was watched to the end; the interval of a gap is a
bootstrap over people, of the time from the turn, or the story, on.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import click

from models.config import BlendConfig, SequenceConfig, TowersConfig, TrainingConfig
from serving.cli.up import System, roles, scratch_settings
from streams.replay.probe import ANSWER_PATIENCE_S, NoAnswer, Wire
from streams.replay.training_gate import Trainings
from streams.settings.settings import ListSettings, Settings, TrainingSettings
from streams.simulator import PROFILES, World, WorldConfig
from streams.simulator.ledger import Ledger, gap
from streams.simulator.player import Player
from streams.simulator.profiles import DAY_MS

ARMS: Final = ("streaming", "frozen", "nightly")
_NEVER: Final = 10**9
_PERIOD_MS: Final = DAY_MS // 4
_WORKER, _TRAINER = roles(1)
#: A small town that watches a lot: what takes a large one weeks to show, it shows in days.
TOWN: Final = WorldConfig(
    users=150, items=600, creators=80, arrivals_per_day=60.0, sessions_per_day=5.0, session_length=8.0
)
SMALL: Final = TrainingConfig(
    sequence=SequenceConfig(dim=32, blocks=1, length=30),
    towers=TowersConfig(dim=32, hidden=64, batch=256, negatives=128),
    blend=BlendConfig(candidates=60, past_choices=1_000),
)
#: Trainings by event time alone.
STREAMING: Final = TrainingSettings(
    first_events=_NEVER, every_events=_NEVER, min_events=100, every_s=6 * 3_600.0, retrain_every_events=_NEVER
)


@asynccontextmanager
async def running_trainer(settings: Settings, training: TrainingSettings) -> AsyncIterator[None]:
    """A trainer beside the system, in this block."""
    system = System(settings.model_copy(update={"training": training}), processes=[_TRAINER])
    await asyncio.to_thread(system.start)
    try:
        yield
    finally:
        await asyncio.to_thread(system.stop)


class Batch:
    """Trainings as a batch job: a trainer that is started, trains anew on all there is, and ends."""

    def __init__(self, settings: Settings, wire: Wire, player: Player) -> None:
        self._settings = settings
        self._wire = wire
        self._player = player
        self._trained = 0

    async def train(self) -> None:
        events = self._player.events
        training = TrainingSettings(
            # the first training is due at `first_events`, a later one `every_events` after the last
            first_events=_NEVER if self._trained else events,
            every_events=events - self._trained,
            every_s=float(_NEVER),
            retrain_every_events=1,
        )
        self._trained = events
        await self._player.settle()
        started = time.time()
        async with running_trainer(self._settings, training):
            while True:
                status = await self._wire.trainer()
                if status is not None and status.at > started and status.trainings:
                    break
                if time.time() - started > 5 * ANSWER_PATIENCE_S:
                    raise NoAnswer(f"no training ended within {5 * ANSWER_PATIENCE_S:.0f} s")
                await asyncio.sleep(0.2)
        while await self._wire.serving() != {status.version or "trending"}:
            await asyncio.sleep(0.2)


async def live(settings: Settings, arm: str, world: World, days: float, first_day: float) -> dict[str, Any]:
    """One arm's life; returns what is told of it."""
    start = world.config.start_ms
    end = start + int(days * DAY_MS)
    async with Wire.open(settings) as wire:
        while not await wire.serving():
            await asyncio.sleep(0.1)
        player = Player(wire, world, in_step=True)
        batch = Batch(settings, wire, player)
        await player.load()
        await player.play(start + int(first_day * DAY_MS))
        await batch.train()
        if arm == "streaming":
            async with running_trainer(settings, STREAMING):
                player.trainings = Trainings(wire, in_step=True, tell=lambda _: None)
                await player.trainings.meet(player.events)
                await player.play(end)
        elif arm == "frozen":
            await player.play(end)
        else:
            night = start + int(first_day * DAY_MS)
            while night < end:
                player.shelf = await player.ask_for_all()
                night += DAY_MS
                await player.play(min(night, end))
                if night < end:
                    await batch.train()
        await asyncio.sleep(0.5)  # the announcement of the last training may be on its way
        return {
            "events": player.events,
            "models": len(wire.models),
            "promoted": sum(model.promoted for model in wire.models),
            "prequential": {key: player.score.report()[key] for key in ("recall_at_10", "trending", "item_item")},
        }


def play(profile: str, arm: str, config: WorldConfig, days: float, first_day: float) -> tuple[Ledger, dict[str, Any]]:
    """An arm's life in a world, on a system of its own."""
    world = World(config)
    began = time.monotonic()
    bare = Settings(log_level="WARNING", lists=ListSettings(size=40), model=SMALL)
    with scratch_settings(bare) as scratch:
        system = System(scratch, processes=[_WORKER])
        with system:
            told = asyncio.run(live(system.settings, arm, world, days, first_day))
    summary = world.ledger.between(config.start_ms + int(first_day * DAY_MS), sys.maxsize)
    click.echo(
        f"{profile}/{arm}: engagement {summary['engagement']:.3f}, regret {summary['regret']:.3f}, {told['events']:,} "
        f"events, {told['models']} models ({told['promoted']} promoted), {time.monotonic() - began:.0f} s",
        err=True,
    )
    return world.ledger, told | {"seconds": round(time.monotonic() - began, 1), "after_first_model": summary}


def compare(config: WorldConfig, days: float, played: Mapping[str, tuple[Ledger, dict[str, Any]]]) -> dict[str, Any]:
    """What the arms made of a world: their curves, and by how much streaming is ahead of the others."""
    since, end = config.start_ms + int(config.turn_day * DAY_MS), config.start_ms + int(days * DAY_MS)
    counts = {
        arm: ledger.engagement_by_user(since, end, config.users + config.bots) for arm, (ledger, _) in played.items()
    }
    gaps = {arm: gap(counts["streaming"], counts[arm]) for arm in ARMS[1:]}
    return {
        "turn_day": config.turn_day,
        "arms": {
            arm: told
            | {"since_turn": ledger.between(since, end), "curve": ledger.by_period(config.start_ms, _PERIOD_MS)}
            for arm, (ledger, told) in played.items()
        },
        "gaps": {arm: {"gap": mean, "low": low, "high": high} for arm, (mean, low, high) in gaps.items()},
    }


def draw(report: dict[str, Any], path: Path) -> None:
    """Engagement over event time, a panel for each world."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    worlds = report["worlds"]
    figure, panels = pyplot.subplots(1, len(worlds), figsize=(6.2 * len(worlds), 4.2), sharey=True, squeeze=False)
    colours = {"streaming": "#0072b2", "frozen": "#d55e00", "nightly": "#777777"}
    for axis, (name, world) in zip(panels[0], worlds.items(), strict=True):
        for arm, told in world["arms"].items():
            days = [period["day"] + _PERIOD_MS / DAY_MS / 2 for period in told["curve"]]
            values = [100 * period["engagement"] for period in told["curve"]]
            axis.plot(days, values, color=colours[arm], label=arm, linewidth=2.2 if arm == "streaming" else 1.6)
        what = "tastes turn" if name == "drift" else "the story breaks"
        axis.axvline(report["first_day"], color="black", linewidth=0.8, linestyle=":")
        axis.axvline(world["turn_day"], color="black", linewidth=0.8, linestyle="--")
        for day, text in ((report["first_day"], "first model"), (world["turn_day"], what)):
            axis.annotate(
                text, (day, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points"
            )
        gaps = ", ".join(
            f"{arm} {100 * g['gap']:+.1f} ({100 * g['low']:+.1f} to {100 * g['high']:+.1f})"
            for arm, g in world["gaps"].items()
        )
        axis.set_title(f"{name}: streaming less {gaps}", fontsize=9)
        axis.set_xlabel("days of event time")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("engaged visits, %")
    panels[0][0].set_ylim(bottom=0)
    panels[0][-1].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


@click.command()
@click.option("--world", "names", multiple=True, type=click.Choice(list(PROFILES)), default=("drift", "breaking"))
@click.option("--users", default=TOWN.users, show_default=True, help="People in each world.")
@click.option("--days", default=5.0, show_default=True, help="Days of event time.")
@click.option("--first-day", default=1.0, show_default=True, help="When the first model is trained.")
@click.option("--turn-day", default=2.5, show_default=True, help="When tastes turn, or the story breaks.")
@click.option("--seed", default=TOWN.seed, show_default=True)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Arms played side by side.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curves here (PNG or SVG).")
@click.option("--report", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures (JSON).")
def main(
    names: tuple[str, ...],
    users: int,
    days: float,
    first_day: float,
    turn_day: float,
    seed: int,
    jobs: int,
    plot: Path | None,
    target: Path | None,
) -> None:
    town = replace(TOWN, users=users, turn_day=turn_day, seed=seed)
    configs = {name: replace(town, **PROFILES[name]) for name in names}  # type: ignore[arg-type]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        lives = {
            (name, arm): pool.submit(play, name, arm, config, days, first_day)
            for name, config in configs.items()
            for arm in ARMS
        }
        played = {key: life.result() for key, life in lives.items()}
    report: dict[str, Any] = {"users": users, "days": days, "first_day": first_day, "seed": seed} | {
        "worlds": {
            name: compare(config, days, {arm: played[name, arm] for arm in ARMS}) for name, config in configs.items()
        }
    }
    if target is not None:
        target.write_text(json.dumps(report, indent=2) + "\n")
    if plot is not None:
        draw(report, plot)
    click.echo(json.dumps({name: world["gaps"] for name, world in report["worlds"].items()}, indent=2))


if __name__ == "__main__":
    main()
