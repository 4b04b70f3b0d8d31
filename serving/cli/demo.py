"""The demo: a simulated world plays on a whole system of its own, and one of its people is looked over the shoulder."""

import io
import re
import socket
from collections import deque
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from serving.cli.simulation import Simulation
from streams.contract.events import Event, Recommendations
from streams.replay.probe import Wire
from streams.simulator import WorldConfig
from streams.simulator.player import Player

#: A world of this size trains in seconds: models follow each other closely enough to be watched.
TRAINING: Final = {"first_events": 5_000, "every_events": 20_000, "min_events": 10_000, "every_s": 86_400.0 * 2}
#: People who come often and stay long, so that a model has something to learn from within the first minute.
TOWN: Final = WorldConfig(users=400, items=800, creators=100, sessions_per_day=5.0, session_length=8.0)
#: As many events a second as two cores serve beside the trainings.
SPEED: Final = 400.0


class Demo(Simulation):
    """The simulation with one person beside it: what the person does, and the list that comes of it."""

    title = "demo"

    def __init__(self, *args: Any, picture: Path | None = None, **options: Any) -> None:
        """As a `Simulation`; the last view is kept as `picture`, an SVG."""
        super().__init__(*args, **options)
        self._picture = picture
        self._followed = ""
        self._did: deque[tuple[str, str]] = deque(maxlen=6)

    def on_event(self, event: Event) -> None:
        if event.item_id is None or event.type == "impression":
            return
        self._followed = self._followed or event.user_id
        if event.user_id == self._followed:
            share = f" {event.watch_s / event.duration_s:.0%}" if event.watch_s and event.duration_s else ""
            self._did.append((f"{event.type}{share}", self._title(event.item_id)))

    def at_end(self, wire: Wire, player: Player) -> None:
        if self._picture is not None:
            save_picture(self.view(wire, player), self._picture)

    def view(self, wire: Wire, player: Player) -> RenderableType:
        return Group(super().view(wire, player), self._person_panel(wire))

    def _person_panel(self, wire: Wire) -> Panel:
        user = self._followed
        published = wire.lists.get(user)
        did = Text("\n".join(f"{what}  {title}" for what, title in reversed(self._did)))
        columns = Table.grid(padding=(0, 4))
        columns.add_row(Text("did (newest first)", style="bold"), Text("and is shown", style="bold"))
        columns.add_row(did, self._list_table(published) if published else "no list yet")
        number = f", list {published.seq} by {published.model}" if published else ""
        return Panel(columns, title=f"one of them: {user or '…'}{number}", title_align="left")

    def _list_table(self, published: Recommendations) -> Table:
        table = Table.grid(padding=(0, 2))
        for place, item in enumerate(published.items[:8], 1):
            table.add_row(str(place), escape(self._title(item.item_id)), "+".join(item.sources), escape(item.reason))
        return table

    def _title(self, item_id: str) -> str:
        number = self.world.catalogue.numbers.get(item_id)
        return item_id if number is None else self.world.catalogue.records[number].title


def free_port(host: str, preferred: int) -> int:
    """The preferred port, or any free one where something listens on it already."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no port is free on {host}")


def save_picture(view: RenderableType, path: Path) -> None:
    """Draw the view as an SVG that needs nothing from the network."""
    console = Console(width=118, record=True, file=io.StringIO(), force_terminal=True)
    console.print(view)
    svg = console.export_svg(title="millstream demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
