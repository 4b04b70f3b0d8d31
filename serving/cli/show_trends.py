"""What is trending, on a terminal: the decayed list and the windowed counts behind it."""

import asyncio

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.data.popularity import Popularity
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store
from streams.state.trends import EVERYONE, Trends


def show(settings: Settings, out: Console, *, segment: str, half_life: int, size: int) -> int:
    """Print the `size` most popular items at a half-life, among all users or one segment's; exit status 1 for none."""
    return asyncio.run(_show(settings, out, segment=segment, half_life=half_life, size=size))


async def _show(settings: Settings, out: Console, *, segment: str, half_life: int, size: int) -> int:
    store = Store(settings)
    try:
        await store.wait(patience_s=5.0)
        catalogue = Catalogue(store)
        trends = Trends(store, settings)
        await asyncio.gather(catalogue.sync(), trends.sync())
    finally:
        await store.close()
    known = trends.all()
    if segment not in known:
        others = ", ".join(sorted(name for name in known if name != EVERYONE)) or "none yet"
        out.print(f"no events{f' of segment {escape(segment)}' if segment else ''} yet; segments: {escape(others)}")
        return 1
    popularity = Popularity(settings.popularity, len(catalogue))
    numbers, records = known[segment]
    popularity.put(numbers, records)
    now_ms = int(records[:, 0].max())
    windows = popularity.windows(now_ms)
    spans = [_span(seconds) for seconds in settings.popularity.windows_s]
    heads = [f"{what} in {span}" for what in ("events", "liked") for span in spans]
    table = Table("", "item", "title", "share", *heads, box=None, header_style="bold")
    for place, row in enumerate(popularity.top(half_life, size), 1):
        item = catalogue.items[row]
        share = f"{popularity.shares()[row, half_life]:.2%}"
        counts = [f"{count:,.0f}" for count in np.round(windows[row])]
        table.add_row(str(place), escape(item.item_id), escape(item.title), share, *counts)
    span = _span(settings.popularity.half_lives_s[half_life])
    out.print(f"trending at a half-life of {span}, {escape(segment) or 'all users'}")
    out.print(table)
    return 0


def _span(seconds: float) -> str:
    return f"{seconds / 86_400:g} d" if seconds >= 86_400 else f"{seconds / 3_600:g} h"
