"""The commands that play a simulated world: simulate and demo."""

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from serving.cli.console import end_like_ctrl_c, err, out, read_settings, set_up_logging, tells_errors
from streams.settings.settings import load
from streams.simulator import PROFILES, World, WorldConfig

PROFILE = click.option(
    "--profile",
    default="calm",
    show_default=True,
    type=click.Choice(list(PROFILES)),
    help="What happens in it: tastes turn, an item explodes, half of all is new, or bots push a creator.",
)
SEED = click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="What all chance comes from.")


def _config(
    town: WorldConfig, profile: str, seconds: float, speed: float, start: datetime | None = None, **given: int | None
) -> WorldConfig:
    """The town for so many seconds. Without a start it ends at the present: no event lies in the future."""
    days = seconds * speed / 86_400.0
    start_s = start.replace(tzinfo=UTC).timestamp() if start is not None else time.time() - seconds * speed
    moments = {"start_ms": int(start_s * 1000), "turn_day": days / 2, "newcomer_days": days}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(town, **PROFILES[profile] | moments | chosen)  # type: ignore[arg-type]


@click.command()
@PROFILE
@click.option("--users", default=1_000, show_default=True, type=click.IntRange(1), help="How many people live in it.")
@click.option("--items", type=click.IntRange(1), help="How many videos there are, beside those that keep coming.")
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(1), help="How long to play.")
@click.option(
    "--speed",
    default=400.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="How many times faster than the clock their time passes: 400 is a day in 3.6 minutes.",
)
@SEED
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day (UTC) on which their time begins. When left out, it ends at the present.",
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here (JSON).")
@tells_errors
def simulate(
    profile: str,
    users: int,
    items: int | None,
    seconds: float,
    speed: float,
    seed: int,
    start: datetime | None,
    report: Path | None,
) -> None:
    """Let simulated people use the running system, and watch how well it serves them.

    People come, look at the lists that the system publishes for them, watch, skip, like, hide and leave, and their
    events go back to it. It is known what they would like, so the regret is shown: what the best list would have added.

    \b
    millstream up &                                      a system to play on
    millstream simulate --profile drift --seconds 120    tastes turn half way through
    millstream simulate --profile adversarial --report adversarial.json

    The same options, start and lists make the same world. Ctrl-C or SIGTERM ends it, with the report. What the
    profiles do is in docs/simulator.md.
    """
    from serving.cli.simulation import Simulation

    settings = read_settings()
    set_up_logging(settings)
    world = World(_config(WorldConfig(), profile, seconds, speed, start, users=users, items=items, seed=seed))
    result = asyncio.run(Simulation(settings, world, seconds=seconds, speed=speed, console=out).run())
    if report is not None:
        report.write_text(json.dumps(result, indent=2) + "\n")


@click.command()
@PROFILE
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(10), help="How long to play.")
@SEED
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Keep the last view here, as SVG.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here (JSON).")
@tells_errors
def demo(profile: str, seconds: float, seed: int, picture: Path | None, report: Path | None) -> None:
    """See the whole loop at work: a simulated world on a system of its own, with a live view. Ctrl-C ends it."""
    from serving.cli.demo import SPEED, TOWN, TRAINING, Demo, free_port
    from serving.cli.up import System, roles, scratch_settings

    end_like_ctrl_c()
    port = free_port("127.0.0.1", 8080)
    settings = load(
        training=TRAINING,
        broker_url="embedded://",
        redis_url="embedded://",
        log_level="WARNING",
        api={"host": "127.0.0.1", "port": port},
        online={"skew_every_s": 0.3},  # its models follow each other closely
    )
    err.print("starting broker, Redis, worker, trainer and HTTP API …")
    with scratch_settings(settings) as scratch:
        system = System(scratch, processes=roles(1, api=True))
        with system, contextlib.suppress(KeyboardInterrupt):
            out.print(f"open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends the demo")
            world = World(_config(TOWN, profile, seconds, SPEED, seed=seed))
            played = Demo(
                *(system.settings, world),
                seconds=seconds,
                speed=SPEED,
                console=out,
                fault=lambda: system.fault,
                picture=picture,
            )
            result = asyncio.run(played.run())
            end_like_ctrl_c()  # the loop took its own handlers away
            if report is not None:
                report.write_text(json.dumps(result, indent=2) + "\n")
