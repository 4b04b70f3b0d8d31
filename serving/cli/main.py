"""The command line: every role and every tool of millstream."""

import json
import sys
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from models.networks.threads import switch_often, use_threads
from serving.cli.console import err, out, read_settings, set_up_logging, tells_errors, without_logging
from serving.cli.data_commands import datasets, replay
from serving.cli.experiment_commands import experiments
from serving.cli.model_commands import evaluate, train
from serving.cli.world_commands import demo, simulate
from serving.lists.gc_tuning import collect_seldom
from streams.settings.settings import Settings, explain, load


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="millstream")
def main() -> None:
    """A streaming recommender: events in over Kafka, every user's refreshed top-N out over Kafka.

    \b
    millstream demo      see the whole loop at work on a simulated world
    millstream up        run every role on this machine
    millstream simulate  let simulated people use it
    millstream config    what is set, and from where

    Settings come from the environment (MILLSTREAM_BROKER_URL, …), .env and millstream.toml.
    """


@main.command()
@tells_errors
def config() -> None:
    """Show every setting in force, and where its value came from."""
    table = Table("setting", "value", "from", "what it is", box=None, header_style="bold")
    for row in explain(read_settings()):
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)


@main.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Worker processes to run.")
@click.option("--api/--no-api", default=True, show_default=True, help="Run the HTTP API as well.")
@tells_errors
def up(workers: int, api: bool) -> None:
    """Run every role on this machine, with embedded servers where the URLs say so. Ctrl-C ends it all."""
    from serving.cli.up import roles, run_up

    settings = load()
    set_up_logging(settings)
    sys.exit(run_up(settings, roles(workers, api=api)))


@main.command()
@click.option("--refresh/--no-refresh", default=True, help="Publish lists, or only keep the state (to catch up).")
@tells_errors
def worker(refresh: bool) -> None:
    """Run a worker: ingest, catalogue, profile and refresh agents. Start more for more throughput."""
    collect_seldom()
    use_threads(1)  # a role that ranks shares its machine
    switch_often()
    from serving.worker.worker import make_worker
    from streams.kafka.app import run

    settings, logs = _prepare_role()
    run(make_worker(settings, logs, refresh_lists=refresh))


@main.command()
@tells_errors
def trainer() -> None:
    """Run the trainer: sample log, fine-tunes, retrainings, index, gate and announcements. One is enough."""
    collect_seldom()
    from streams.kafka.app import run
    from streams.training.trainer import make_trainer

    settings, logs = _prepare_role()
    run(make_trainer(settings, logs))


@main.command()
@click.option("--host", help="The address to listen on; api.host when left out.")
@click.option("--port", type=click.IntRange(0, 65_535), help="The port; api.port when left out.")
@tells_errors
def api(host: str | None, port: int | None) -> None:
    """Run the HTTP API: lists out, events and records in. Its own description is at /docs."""
    collect_seldom()
    use_threads(1)
    switch_often()
    from serving.api.app import serve

    settings, _ = _prepare_role(
        api={name: value for name, value in (("host", host), ("port", port)) if value is not None}
    )
    if settings.api.dashboard:
        from serving.dashboard.mount import mount

        serve(settings, mount)
    else:
        serve(settings)


@main.command("api-token")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("read",),
    show_default=True,
    type=click.Choice(["read", "write", "admin"]),
    help="What it allows; may be repeated. write includes read, admin includes both.",
)
@tells_errors
def api_token(scopes: tuple[str, ...]) -> None:
    """Make a token for the HTTP API. Only its digest goes into the settings; the token is shown this once."""
    import secrets

    from serving.api.access import digest

    token = secrets.token_urlsafe(32)
    out.print(
        f"token     {token}\nsetting   MILLSTREAM_API__TOKENS='{json.dumps({digest(token): scopes})}'", soft_wrap=True
    )


def _prepare_role(**overrides: Any) -> tuple[Settings, dict[str, str]]:
    import asyncio

    from streams.contract import topics
    from streams.kafka import codecs
    from streams.state.store import Store

    settings = read_settings(**overrides)
    set_up_logging(settings)
    codecs.check()

    async def wait_for_redis() -> None:
        store = Store(settings)
        await store.wait()
        await store.close()

    asyncio.run(wait_for_redis())
    return settings, topics.create(settings)


@main.group()
def topics() -> None:
    """The topics."""


@topics.command("create")
@tells_errors
def topics_create() -> None:
    """Create the topics that are missing."""
    from streams.contract import topics

    settings = read_settings()
    set_up_logging(settings)
    for name, identity in topics.create(settings).items():
        out.print(f"{name}  [dim]{identity}[/dim]")


@main.command()
@click.argument("user")
@click.option("--follow", is_flag=True, help="Go on, and print each new list as it is published.")
@click.option("--json", "as_json", is_flag=True, help="Print the lists as they are on the wire.")
@tells_errors
def recs(user: str, follow: bool, as_json: bool) -> None:
    """Show the list last published for USER."""
    from serving.cli.show_lists import show

    sys.exit(show(read_settings(), user, out, follow=follow, as_json=as_json))


@main.command()
@click.option("--segment", default="", help="Among users of one segment only, as feature=value: country=KR.")
@click.option("--half-life", default=0, show_default=True, type=click.IntRange(0), help="Which of the half-lives set.")
@click.option("--size", default=20, show_default=True, type=click.IntRange(1), help="How many items.")
@tells_errors
def trending(segment: str, half_life: int, size: int) -> None:
    """Show what is trending, with each item's events and likes in the last hour, day and week of event time."""
    from serving.cli.show_trends import show

    settings = read_settings()
    if half_life >= len(settings.popularity.half_lives_s):
        raise click.BadParameter(f"there are {len(settings.popularity.half_lives_s)} half-lives, counted from 0")
    sys.exit(show(settings, out, segment=segment, half_life=half_life, size=size))


@main.command()
@click.argument("type_", metavar="TYPE")
@click.argument("user")
@click.argument("item", required=False)
@click.option("--watch-s", type=float, help="Seconds watched (a watch needs it).")
@click.option("--duration-s", type=float, help="The item's length in seconds (a watch needs it).")
@click.option("--value", type=float, help="The rating (a rating needs it).")
@click.option("--scale", type=float, help="The top of the rating's scale.")
@click.option("--query", help="What was searched for (a search needs it).")
@click.option("--target-user", help="Who is followed (a follow or unfollow needs it).")
@click.option("--ts", type=int, help="Event time in ms since 1970; now, when left out.")
@tells_errors
def send(type_: str, user: str, item: str | None, ts: int | None, target_user: str | None, **fields: Any) -> None:
    """Send one event: millstream send watch ann film-7 --watch-s 62 --duration-s 75"""
    from streams.kafka.send import send_event

    event = {"type": type_, "user_id": user, "item_id": item, "target_user_id": target_user, "ts": ts} | fields
    sent = send_event(read_settings(), {name: value for name, value in event.items() if value is not None})
    out.print(f"sent to {sent.topic}, partition {sent.partition}, offset {sent.offset}: event {escape(sent.event_id)}")


@main.group("dead-letters")
def dead_letters() -> None:
    """Records that could not be used."""


@dead_letters.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="The most to show, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, whole.")
@tells_errors
def dead_letters_list(limit: int, as_json: bool) -> None:
    """Show dead letters: where each came from, what is wrong with it, and how it begins."""
    from collections import deque

    from streams.contract.events import encode
    from streams.kafka.dead_letters import position, read

    letters = deque(read(read_settings()), maxlen=limit)
    if as_json:
        for letter in letters:
            click.echo(encode(letter))
        return
    table = Table("position", "field", "reason", "value", "kept", box=None, header_style="bold")
    for letter in reversed(letters):
        value = (letter.value or b"")[:60].decode(errors="replace")
        kept = f"{len(letter.value or b''):,} of {letter.size:,} bytes" if "value" in letter.cut else "whole"
        if cut := [part for part in letter.cut if part != "value"]:
            kept += f", {' and '.join(cut)} cut"
        row = (position(letter), letter.field, letter.reason, value, kept)
        table.add_row(*(escape(click.unstyle(cell)) for cell in row))
    out.print(table if letters else "no dead letters")


@dead_letters.command("replay")
@click.option("--position", "positions", multiple=True, help="Only this one, as `list` names it; may be repeated.")
@click.option("--reason", help="Only those whose reason contains this text.")
@tells_errors
def dead_letters_replay(positions: tuple[str, ...], reason: str | None) -> None:
    """Send dead letters to the topics they came from, once the cause is fixed.

    A record that was too large for its letter is fetched from its topic. Exit status 1 when one could not be sent.
    """
    from streams.kafka.dead_letters import position, read, replay

    settings = read_settings()
    chosen = [
        letter
        for letter in read(settings)
        if (not positions or position(letter) in positions) and (reason is None or reason in letter.reason)
    ]
    done = replay(settings, chosen)
    out.print(f"sent {done.sent} dead letters again")
    for where, why in done.refused.items():
        err.print(f"[red]not sent[/red] {escape(where)}: {escape(why)}", soft_wrap=True)
    sys.exit(1 if done.refused else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@tells_errors
def doctor(as_json: bool) -> None:
    """Check broker, Redis, topics, artefacts, roles and versions; exit status 1 when something is wrong."""
    from serving.doctor import examine

    settings = read_settings()
    findings = []
    marks = {"ok": "[green]ok     [/green]", "warning": "[yellow]warning[/yellow]", "fault": "[red]fault  [/red]"}
    with without_logging():  # the findings say it all
        for finding in examine(settings):
            findings.append(finding)
            if not as_json:
                out.print(f"{marks[finding.verdict]} [bold]{finding.subject}[/bold]: {escape(finding.text)}")
                if finding.remedy:
                    out.print(f"        → {escape(finding.remedy)}")
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    sys.exit(1 if any(finding.verdict == "fault" for finding in findings) else 0)


main.add_command(datasets)
main.add_command(replay)
main.add_command(evaluate)
main.add_command(train)
main.add_command(simulate)
main.add_command(demo)
main.add_command(experiments)

if __name__ == "__main__":
    main()
