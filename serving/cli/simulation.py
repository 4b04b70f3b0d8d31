"""A simulated world at play on a running system, and what becomes of it: a live view, then a report."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from streams.contract.events import Event
from streams.replay.probe import ANSWER_PATIENCE_S, NoAnswer, Wire
from streams.settings.settings import Settings
from streams.simulator import World
from streams.simulator.player import Player
from streams.simulator.profiles import DAY_MS
from streams.simulator.rivals import SYSTEM
from streams.state.status import TrainerStatus

_VIEW_S: Final = 0.5
_LINE_S: Final = 5.0
#: The live numbers of the truth are of the newest looks, so many.
_NEWEST_LOOKS: Final = 2_000
_BARS: Final = "▁▂▃▄▅▆▇█"
_HOUR_MS: Final = 3_600_000


@dataclass
class Standing:
    """What has been seen so far; a curve gets a point with each view."""

    started: float = field(default_factory=time.monotonic)
    first_list_s: float | None = None
    rates: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=11))
    curves: dict[str, list[float]] = field(default_factory=dict)
    trainer: TrainerStatus | None = None
    in_service: str = "none"


class Simulation:
    """Plays a world for some seconds, or until it is stopped, and shows it."""

    title = "simulate"

    def __init__(
        self,
        settings: Settings,
        world: World,
        *,
        seconds: float,
        speed: float,
        console: Console,
        fault: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Prepare to play; `fault` tells why the system cannot go on, once it cannot."""
        self.world = world
        self.standing = Standing()
        self._settings = settings
        self._seconds = seconds
        self._speed = speed
        self._console = console
        self._fault = fault

    async def run(self) -> dict[str, Any]:
        """Play until the time is over, or Ctrl-C or SIGTERM; prints what it came to, and returns the report."""
        async with Wire.open(self._settings) as wire:
            player = Player(wire, self.world, speed=self._speed, labels=self._settings.labels, on_event=self.on_event)
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, player.stop)
            await player.load()
            await self._meet_worker(wire)
            playing = asyncio.create_task(player.play())
            try:
                if self._console.is_terminal:
                    with Live(self.view(wire, player), console=self._console, refresh_per_second=4) as live:
                        await self._watch(wire, player, playing, lambda: live.update(self.view(wire, player)))
                else:
                    await self._watch(wire, player, playing, lambda: self._line(wire, player), every_s=_LINE_S)
            finally:
                player.stop()
                await playing
                await wire.producer.flush()
            self._sample(wire, player)
            self.at_end(wire, player)
            report = self._report(wire, player)
            self._console.print(_summary(report), soft_wrap=True)
            return report

    def on_event(self, event: Event) -> None:
        """Called with each event before it is sent."""

    def at_end(self, wire: Wire, player: Player) -> None:
        """Called when all is played."""

    async def _meet_worker(self, wire: Wire) -> None:
        """Wait until a worker serves: before, there would be nothing to look at."""
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        while not await wire.serving():
            self._check(wire)
            if time.monotonic() > deadline:
                raise NoAnswer("no worker runs: start `millstream up`, or look at `millstream doctor`")
            await asyncio.sleep(0.1)
        self.standing.started = time.monotonic()

    def _check(self, wire: Wire) -> None:
        wire.check()
        if (why := self._fault()) is not None:
            raise NoAnswer(f"the system stopped: {why}")

    # -- watching

    async def _watch(
        self,
        wire: Wire,
        player: Player,
        playing: "asyncio.Task[None]",
        show: Callable[[], None],
        every_s: float = _VIEW_S,
    ) -> None:
        standing = self.standing
        shown_at = 0.0
        while time.monotonic() - standing.started < self._seconds and not playing.done():
            await asyncio.wait({playing}, timeout=_VIEW_S)
            self._check(wire)
            standing.trainer = await wire.trainer()
            standing.in_service = ", ".join(sorted(await wire.serving())) or "none"
            self._sample(wire, player)
            if time.monotonic() - shown_at >= every_s:
                shown_at = time.monotonic()
                show()

    def _sample(self, wire: Wire, player: Player) -> None:
        standing, now = self.standing, time.monotonic()
        if wire.n_lists and standing.first_list_s is None:
            standing.first_list_s = now - standing.started
        standing.rates.append((now, player.events, wire.n_lists))
        recall, trending = player.score.so_far()
        newest = self.world.ledger.summary(max(len(self.world.ledger) - _NEWEST_LOOKS, 0))
        points = {"recall": recall, "trending": trending, "gain": recall - trending} | {
            name: newest[name] for name in ("engagement", "relevance", "best", "regret")
        }
        for name, value in points.items():
            standing.curves.setdefault(name, []).append(value)

    def _newest(self, name: str) -> float:
        return self.standing.curves.get(name, [0.0])[-1]

    def _rates(self) -> tuple[float, float]:
        rates = self.standing.rates
        if len(rates) < 2:
            return 0.0, 0.0
        (t0, events0, lists0), (t1, events1, lists1) = rates[0], rates[-1]
        return (events1 - events0) / (t1 - t0), (lists1 - lists0) / (t1 - t0)

    def _training(self) -> str:
        trainer = self.standing.trainer
        if trainer is None:
            return "no trainer yet"
        if trainer.busy:
            return f"{trainer.stage or 'training begins'} {trainer.done:.0%}"
        return f"next at {trainer.due.events:,} events, {trainer.logged:,} logged"

    def view(self, wire: Wire, player: Player) -> RenderableType:
        """What a terminal shows."""
        events, lists = self._rates()
        curves = self.standing.curves
        loop = Table.grid(padding=(0, 2))
        loop.add_row("events", f"{player.events:,}", f"{events:,.0f}/s")
        loop.add_row("lists", f"{wire.n_lists:,}", f"{lists:,.0f}/s")
        loop.add_row("freshness", _freshness(wire), "event in Kafka to list in Kafka")
        loop.add_row("model", self.standing.in_service, f"{len(wire.models)} trained")
        loop.add_row("training", self._training(), "")
        loop.add_row(
            "recall@10", f"[bold]{self._newest('recall'):.4f}[/bold] system", f"{self._newest('trending'):.4f} trending"
        )
        loop.add_row("", _curve(curves.get("gain", [])), "system less trending, since the start")
        loop.add_row(
            "engagement", f"[bold]{self._newest('engagement'):.1%}[/bold] of visits", "watched to the end from a list"
        )
        loop.add_row("", _curve(curves.get("engagement", [])), "")
        loop.add_row(
            "relevance",
            f"[bold]{self._newest('relevance'):.3f}[/bold] of {self._newest('best'):.3f}",
            f"regret {self._newest('regret'):.3f}: what the best list would add",
        )
        loop.add_row("", _curve(curves.get("regret", [])), "regret")
        config = self.world.config
        day = max(config.day(player.newest_ts), 0.0)
        title = f"millstream {self.title}: {config.users:,} people, day {day:.1f} of their world"
        return Panel(loop, title=title, title_align="left")

    def _line(self, wire: Wire, player: Player) -> None:
        events, lists = self._rates()
        self._console.print(
            f"{player.events:,} events ({events:,.0f}/s), {wire.n_lists:,} lists ({lists:,.0f}/s), "
            f"freshness {_freshness(wire)}, model {self.standing.in_service}, "
            f"recall@10 {self._newest('recall'):.4f} against {self._newest('trending'):.4f} of trending, "
            f"engagement {self._newest('engagement'):.1%}, regret {self._newest('regret'):.3f}; {self._training()}",
            soft_wrap=True,
        )

    def _report(self, wire: Wire, player: Player) -> dict[str, Any]:
        config, ledger = self.world.config, self.world.ledger
        seconds = time.monotonic() - self.standing.started
        return {
            "world": {name: getattr(config, name) for name in config.__dataclass_fields__},
            "speed": self._speed,
            "seconds": round(seconds, 1),
            "days": round((player.newest_ts - config.start_ms) / DAY_MS, 3),
            "events": player.events,
            "events_per_s": round(player.events / seconds, 1),
            "lists": wire.n_lists,
            "first_list_s": self.standing.first_list_s,
            "freshness_ms": _percentiles(wire),
            "truth": ledger.summary(),
            "truth_by_hour": ledger.by_period(config.start_ms, _HOUR_MS),
            "rivals": player.rivals.report(),
            "prequential": player.score.report(),
            "models": [
                {"version": model.version, "kind": model.kind, "promoted": model.promoted, "why": model.why}
                for model in wire.models
            ],
        }


def _summary(report: dict[str, Any]) -> str:
    truth, score, models, rivals = report["truth"], report["prequential"], report["models"], report["rivals"]
    first = report["first_list_s"]
    fresh = ", ".join(f"{name} {value:.0f} ms" for name, value in report["freshness_ms"].items()) or "no list"
    return (
        f"{report['events']:,} events, {report['lists']:,} lists, the first after "
        f"{'?' if first is None else f'{first:.0f}'} s; freshness {fresh}\n"
        f"{len(models)} models trained, {sum(model['promoted'] for model in models)} of them promoted\n"
        f"recall@10 {score['recall_at_10']:.4f} against {score['trending']['recall_at_10']:.4f} of trending and "
        f"{score['item_item']['recall_at_10']:.4f} of item-item, on {score['events_scored']:,} videos found "
        "without the lists\n"
        f"engagement {truth['engagement']:.1%} of {truth['visits']:,.0f} visits; relevance of the lists "
        f"{truth['relevance']:.3f} of {truth['best']:.3f}: regret {truth['regret']:.3f}"
        + "".join(f"\n{_told_of(name, rivals)}" for name in ("trending", "item_item") if name in rivals)
    )


def _told_of(rival: str, rivals: dict[str, Any]) -> str:
    ahead = rivals[rival]["behind"]
    return (
        f"by the truth the lists are worth {rivals[SYSTEM]['worth']:.3f} and those of {rival.replace('_', '-')} "
        f"{rivals[rival]['worth']:.3f}: {ahead['mean']:+.3f} (95 %: {ahead['low']:+.3f} to {ahead['high']:+.3f})"
    )


def _percentiles(wire: Wire) -> dict[str, float]:
    newest = wire.freshness_ms[-2000:]
    if not newest:
        return {}
    return dict(zip(("p50", "p95", "p99"), np.percentile(newest, [50, 95, 99]).round(1).tolist(), strict=True))


def _freshness(wire: Wire) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in _percentiles(wire).items()) or "no list yet"


def _curve(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    picked = [values[int(at)] for at in np.linspace(0, len(values) - 1, min(len(values), 40))]
    low, high = min(picked), max(picked)
    return "".join(_BARS[int((value - low) / ((high - low) or 1.0) * (len(_BARS) - 1))] for value in picked)
