"""A user's lists on a terminal: the last one, and with `follow` each new one as it is published."""

import asyncio
from datetime import UTC, datetime

import click
import msgspec
from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.contract.events import Recommendations
from streams.contract.topics import TopicNames
from streams.kafka.damaged import skip_damaged
from streams.settings.settings import Settings
from streams.state.store import Store


def show(settings: Settings, user: str, out: Console, *, follow: bool, as_json: bool) -> int:
    """Print the user's lists; exit status 1 when there is none and none is waited for."""
    return asyncio.run(_show(settings, user, out, follow=follow, as_json=as_json))


async def _show(settings: Settings, user: str, out: Console, *, follow: bool, as_json: bool) -> int:
    store = Store(settings)
    try:
        await store.wait(patience_s=5.0)
        raw = await store.get_list(user)
    finally:
        await store.close()
    shown = 0
    if raw is not None:
        shown = _print(raw, out, as_json=as_json)
    elif not follow:
        out.print(f"no list was published for user {escape(repr(user))} yet: lists answer the user's events")
        return 1
    if follow:
        await _follow(settings, user, out, after=shown, as_json=as_json)
    return 0


async def _follow(settings: Settings, user: str, out: Console, *, after: int, as_json: bool) -> None:
    topic = TopicNames.under(settings.topic_prefix).recommendations
    consumer = AIOKafkaConsumer(auto_offset_reset="earliest", **settings.kafka.consumer_options())
    await consumer.start()
    skip_damaged(consumer)
    consumer.subscribe([topic])
    try:
        async for record in consumer:
            if record.key == user.encode() and record.value is not None:
                published = msgspec.json.decode(record.value, type=Recommendations)
                if published.seq > after:
                    after = _print(record.value, out, as_json=as_json)
    finally:
        await consumer.stop()


def _print(raw: bytes, out: Console, *, as_json: bool) -> int:
    published = msgspec.json.decode(raw, type=Recommendations)
    if as_json:
        click.echo(raw)
        return published.seq
    at = datetime.fromtimestamp(published.generated_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    table = Table("", "item", "score", "from", "why", box=None, header_style="bold")
    for place, item in enumerate(published.items, 1):
        table.add_row(
            str(place), escape(item.item_id), f"{item.score:.3f}", ", ".join(item.sources), escape(item.reason)
        )
    out.print(f"[bold]{escape(published.user_id)}[/bold] list {published.seq} at {at} UTC by model {published.model}")
    out.print(table if published.items else "  empty: nothing is known yet that could be recommended")
    return published.seq
