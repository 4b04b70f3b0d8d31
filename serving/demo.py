"""The demo: a simulated world plays on a whole system of its own, and a live view shows what becomes of it."""

import asyncio
import io
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models.labels import CONSUMING, POSITIVE
from streams.events import Event, ItemRecord, Recommendations, derived_event_id, encode
from streams.prequential import PrequentialScore
from streams.settings import Settings
from streams.simulator import Shown, World, WorldConfig
from streams.status import TrainerStatus
from streams.wire import Wire

#: A world of this size trains in seconds: models follow each other closely enough to be watched.
DEMO_TRAINING = {"first_events": 3_000, "every_events": 12_000, "min_events": 6_000, "every_s": 86_400.0 * 2}
#: As many events a second as two cores serve beside the trainings.
DEMO_WORLD = WorldConfig(speed=500.0)
_VIEW_S = 0.5
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Standing:
    """What the demo has seen so far."""

    started: float = field(default_factory=time.monotonic)
    first_list_s: float | None = None
    events: int = 0
    lists: int = 0
    rates: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=11))
    recalls: list[tuple[float, float]] = field(default_factory=list)
    trainer: TrainerStatus | None = None
    in_service: str = "none"
    followed: str = ""
    changes: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=6))
    event_time_ms: int = 0


class Demo:
    """Plays a world for `seconds` seconds and shows it."""

    def __init__(
        self,
        settings: Settings,
        seconds: float,
        console: Console,
        *,
        config: WorldConfig | None = None,
        picture: Path | None = None,
    ) -> None:
        self._settings = settings
        self._seconds = seconds
        self._console = console
        self._picture = picture
        self._world = World(config or DEMO_WORLD)
        self._standing = Standing()
        self._score = PrequentialScore()
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._titles: dict[str, str] = {}
        self._recent: deque[tuple[int, int]] = deque(maxlen=1000)

    async def run(self) -> None:
        """Play until the time is over or the task is cancelled; prints what it came to."""
        async with Wire.open(self._settings) as wire:
            for item in self._world.catalogue:
                await self._publish(wire, item)
            for user in self._world.users():
                await wire.producer.send(wire.names.users, key=user.user_id.encode(), value=encode(user))
            await wire.producer.flush()
            playing = asyncio.create_task(self._play(wire))
            try:
                if self._console.is_terminal:
                    with Live(self._view(wire), console=self._console, refresh_per_second=4) as live:
                        await self._watch(wire, playing, lambda: live.update(self._view(wire)))
                else:
                    await self._watch(wire, playing, lambda: self._line(wire), every_s=5.0)
            finally:
                playing.cancel()
                self._console.print(self._summary(wire), soft_wrap=True)
                if self._picture is not None:
                    save_picture(self._view(wire), self._picture)

    # -- playing

    async def _play(self, wire: Wire) -> None:
        began = time.monotonic()
        for happening in self._world.play(lambda user: self._shown(wire, user)):
            ahead = happening.due_s - (time.monotonic() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
            elif self._standing.events % 50 == 0:
                await asyncio.sleep(0)
            if isinstance(happening.record, ItemRecord):
                await self._publish(wire, happening.record)
            else:
                await self._act(wire, happening.record)

    async def _publish(self, wire: Wire, item: ItemRecord) -> None:
        self._titles[item.item_id] = item.title
        await wire.producer.send(wire.names.items, key=item.item_id.encode(), value=encode(item))

    async def _act(self, wire: Wire, event: Event) -> None:
        raw = encode(event)
        self._learn(wire, event, derived_event_id(raw))
        await wire.producer.send(wire.names.events, key=event.user_id.encode(), value=raw)
        self._standing.events += 1
        self._standing.event_time_ms = event.ts
        if not self._standing.followed and event.item_id:
            self._standing.followed = event.user_id
        if event.user_id == self._standing.followed and event.item_id:
            title = self._titles.get(event.item_id, event.item_id)
            share = f" {event.watch_s / event.duration_s:.0%}" if event.watch_s and event.duration_s else ""
            self._standing.changes.append((f"{event.type}{share}", title))

    def _learn(self, wire: Wire, event: Event, event_id: str) -> None:
        graded = event.grade(self._settings.labels)
        if event.item_id is None or graded.action not in CONSUMING:
            return
        published = wire.lists.get(event.user_id)
        self._score.add(
            event_id=event_id,
            user=self._users.setdefault(event.user_id, len(self._users)),
            item=self._item(event.item_id),
            ts=event.ts,
            positive=graded.label == POSITIVE,
            listed=None if published is None else [self._item(place.item_id) for place in published.items],
            scored=event.rec_id is None,  # what somebody took from the list itself proves nothing of it
        )

    def _item(self, item_id: str) -> int:
        return self._items.setdefault(item_id, len(self._items))

    @staticmethod
    def _shown(wire: Wire, user_id: str) -> Shown | None:
        published = wire.lists.get(user_id)
        if published is None or not published.items:
            return None
        return Shown(published.rec_id, [place.item_id for place in published.items])

    # -- watching

    async def _watch(
        self, wire: Wire, playing: "asyncio.Task[None]", show: Callable[[], None], every_s: float = _VIEW_S
    ) -> None:
        standing = self._standing
        shown_at = 0.0
        while time.monotonic() - standing.started < self._seconds and not playing.done():
            await asyncio.sleep(_VIEW_S)
            now = time.monotonic()
            wire.check()
            standing.trainer = await wire.trainer()
            standing.in_service = ", ".join(sorted(await wire.serving())) or "none"
            standing.lists = wire.n_lists
            if wire.n_lists and standing.first_list_s is None:
                standing.first_list_s = now - standing.started
            standing.rates.append((now, standing.events, wire.n_lists))
            standing.recalls.append(self._score.so_far())
            if now - shown_at >= every_s:
                shown_at = now
                show()
        if playing.done() and not playing.cancelled():
            playing.result()

    def _rates(self) -> tuple[float, float]:
        rates = self._standing.rates
        if len(rates) < 2:
            return 0.0, 0.0
        (t0, events0, lists0), (t1, events1, lists1) = rates[0], rates[-1]
        return (events1 - events0) / (t1 - t0), (lists1 - lists0) / (t1 - t0)

    def _freshness(self, wire: Wire) -> str:
        newest = wire.freshness_ms[-2000:]
        if not newest:
            return "waiting for the first list"
        p50, p95, p99 = np.percentile(newest, [50, 95, 99])
        return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"

    def _training(self) -> str:
        trainer = self._standing.trainer
        if trainer is None:
            return "the trainer starts"
        if trainer.busy:
            return f"{trainer.stage or 'training begins'} {trainer.done:.0%}"
        return f"next at {trainer.due.events:,} events, {trainer.logged:,} logged"

    def _view(self, wire: Wire) -> Group:
        standing = self._standing
        events, lists = self._rates()
        recall, trending = self._score.so_far()
        loop = Table.grid(padding=(0, 2))
        loop.add_row("events", f"{standing.events:,}", f"{events:,.0f}/s")
        loop.add_row("lists", f"{wire.n_lists:,}", f"{lists:,.0f}/s")
        loop.add_row("freshness", self._freshness(wire), "event in Kafka to list in Kafka")
        loop.add_row("model", standing.in_service, f"{len(wire.models)} trained")
        loop.add_row("training", self._training(), "")
        loop.add_row("recall@10", f"[bold]{recall:.4f}[/bold] system", f"{trending:.4f} trending")
        loop.add_row("since start", self._curve(), "system less trending")
        day = (standing.event_time_ms - self._world.config.start_ms) / 86_400_000
        title = f"millstream demo: {len(self._users):,} people, day {max(day, 0):.1f} of their world"
        return Group(Panel(loop, title=title, title_align="left"), self._user_panel(wire))

    def _curve(self) -> str:
        gains = [system - trending for system, trending in self._standing.recalls]
        if len(gains) < 2:
            return ""
        picked = [gains[int(at)] for at in np.linspace(0, len(gains) - 1, min(len(gains), 40))]
        low, high = min(picked), max(picked)
        return "".join(_BARS[int((gain - low) / ((high - low) or 1.0) * (len(_BARS) - 1))] for gain in picked)

    def _user_panel(self, wire: Wire) -> Panel:
        user = self._standing.followed
        published = wire.lists.get(user)
        did = Text("\n".join(f"{what}  {title}" for what, title in reversed(self._standing.changes)))
        columns = Table.grid(padding=(0, 4))
        columns.add_row(Text("did (newest first)", style="bold"), Text("and is shown", style="bold"))
        columns.add_row(did, self._list_table(published) if published else "no list yet")
        number = f", list {published.seq} by {published.model}" if published else ""
        return Panel(columns, title=f"one of them: {user or '…'}{number}", title_align="left")

    def _list_table(self, published: Recommendations) -> Table:
        table = Table.grid(padding=(0, 2))
        for place, item in enumerate(published.items[:8], 1):
            title = escape(self._titles.get(item.item_id, item.item_id))
            table.add_row(str(place), title, "+".join(item.sources), escape(item.reason))
        return table

    def _line(self, wire: Wire) -> None:
        events, lists = self._rates()
        recall, trending = self._score.so_far()
        self._console.print(
            f"{self._standing.events:,} events ({events:,.0f}/s), {wire.n_lists:,} lists ({lists:,.0f}/s), "
            f"freshness {self._freshness(wire)}, model {self._standing.in_service}, "
            f"recall@10 {recall:.4f} against {trending:.4f} of trending; {self._training()}",
            soft_wrap=True,
        )

    def _summary(self, wire: Wire) -> str:
        report = self._score.report()
        promoted = [model.version for model in wire.models if model.promoted]
        first = self._standing.first_list_s
        return (
            f"{self._standing.events:,} events, {wire.n_lists:,} lists, the first after "
            f"{'?' if first is None else f'{first:.0f}'} s; freshness {self._freshness(wire)}\n"
            f"{len(wire.models)} models trained, {len(promoted)} of them promoted\n"
            f"recall@10 {report['recall_at_10']:.4f} against {report['trending']['recall_at_10']:.4f} of trending and "
            f"{report['item_item']['recall_at_10']:.4f} of item-item, on {report['events_scored']:,} events"
        )


def save_picture(view: Group, path: Path) -> None:
    """Draw the view as an SVG that needs nothing from the network."""
    console = Console(width=118, record=True, file=io.StringIO(), force_terminal=True)
    console.print(view)
    svg = console.export_svg(title="millstream demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
