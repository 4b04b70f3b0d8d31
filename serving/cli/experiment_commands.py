"""The commands on experiments: plan one, see who gets what, read the results, and judge a policy from a log."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from serving.cli.console import out, read_settings, tells_errors

if TYPE_CHECKING:
    from serving.client import Http

API = click.option("--api", default="http://localhost:8080", show_default=True, help="The API that counts.")
TOKEN = click.option("--token", help="A token with the scope read, where one is needed.")


@click.group()
def experiments() -> None:
    """Plan experiments, see who gets what, and read the results."""


@experiments.command()
@click.option("--mean", required=True, type=float, help="The metric's mean over users as it is now.")
@click.option(
    "--deviation",
    type=click.FloatRange(0, min_open=True),
    help="Standard deviation of one user's value; of a share, when left out, that of a single yes or no.",
)
@click.option("--effect", required=True, type=float, help="The relative effect to find, as 0.05.")
@click.option(
    "--share", default=0.5, show_default=True, type=click.FloatRange(0, 1, True, True), help="The arm's share."
)
@click.option(
    "--alpha", default=0.05, show_default=True, type=click.FloatRange(0, 0.5, True), help="Chance of a false alarm."
)
@click.option(
    "--power", default=0.8, show_default=True, type=click.FloatRange(0, 1, True, True), help="Chance of finding it."
)
def plan(mean: float, deviation: float | None, effect: float, share: float, alpha: float, power: float) -> None:
    """Tell how many users an experiment needs."""
    from models.statistics.samples import power_with, users_needed

    if deviation is None:
        if not 0 < mean < 1:
            raise click.UsageError("--deviation is needed: only of a share between 0 and 1 is it known from the mean")
        deviation = math.sqrt(mean * (1 - mean))
    absolute = mean * effect
    if absolute == 0:
        raise click.UsageError("--mean times --effect is 0: no number of users finds that")
    needed = users_needed(absolute, deviation**2, alpha=alpha, power=power, treated_share=share)
    out.print(f"{needed:,} users in both arms find {effect:+.1%} of {mean:g} in {power:.0%} of cases, looked at once")
    for part in (2, 4, 10):
        chance = power_with(max(needed // part, 1), absolute, deviation**2, alpha=alpha, treated_share=share)
        out.print(f"{needed // part:,} users do so in {chance:.0%}")


@experiments.command()
@click.argument("users", nargs=-1, required=True)
@tells_errors
def assign(users: tuple[str, ...]) -> None:
    """Tell which variant each of the USERS gets, under the settings in force."""
    from serving.experiments import Experiments

    assignment = Experiments(read_settings().experiments)
    table = Table("user", "variant", "pipeline", box=None, header_style="bold")
    for user in users:
        arm = assignment.arm_of(user)
        table.add_row(escape(user), arm.label, arm.pipeline or "default")
    out.print(table)


@experiments.command()
@API
@TOKEN
@tells_errors
def results(api: str, token: str | None) -> None:
    """Read the results of the experiments that run, and of the shadows."""
    with _client(api, token) as client:
        told, shadows = client.experiments(), client.shadows()
    if not told:
        out.print("no experiment runs: see `experiments` in docs/settings.md")
    for each in told:
        out.print(f"[bold]{escape(each['name'])}[/bold]: {escape(each['verdict'])}")
        out.print(_arms(each))
    for each in shadows:
        out.print(f"[bold]{escape(each['name'])}[/bold] (shadow, {each['events']:,} events): {escape(each['verdict'])}")


@contextmanager
def _client(api: str, token: str | None) -> Iterator["Http"]:
    from serving.client import ApiError, Http

    try:
        with Http(api, token=token) as client:
            yield client
    except (ApiError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def _arms(result: dict[str, Any]) -> Table:
    metric = result["metric"]
    table = Table("arm", "users", metric, "effect", "at every look", "p", box=None, header_style="bold")
    for arm in result["arms"]:
        row = [escape(arm["name"]), f"{arm['users']:,}", f"{arm['metrics'][metric]['value']:.4g}"]
        if arm["against_control"]:
            compared = arm["against_control"][metric]
            effect = compared["adjusted"] or compared["raw"]
            bounds = [effect["always"][bound] for bound in ("low", "high")]
            told = "unknown" if None in bounds else "{:+.4g} to {:+.4g}".format(*bounds)
            row += [f"{effect['always']['value']:+.4g}", told, f"{effect['p_always']:.3g}"]
        table.add_row(*row)
    return table


@experiments.command("off-policy")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--cap", type=click.FloatRange(0, min_open=True), help="Cut weights above this.")
@click.option("--keep", type=click.Path(path_type=Path, dir_okay=False), help="Without FILE: write the API's log here.")
@API
@TOKEN
@tells_errors
def off_policy_of(file: Path | None, cap: float | None, keep: Path | None, api: str, token: str | None) -> None:
    """Estimate what another policy would have earned, from a FILE of JSON lines with reward, logged and new.

    Without FILE it reads from the API what exploring earns, as new items are drawn now and were they drawn alike.
    """
    if file is None:
        _told_by(api, token, keep)
    else:
        _judge(file, cap)


def _told_by(api: str, token: str | None, keep: Path | None) -> None:
    with _client(api, token) as client:
        told = client.exploring()
        if keep is not None:
            keep.write_bytes(client.choices())
    if not told:
        out.print("no list that could explore was shown yet")
        return
    table = Table("policy", "earns", "95 %", "IPS", "rows", "worth", box=None, header_style="bold")
    for each in told:
        value, ips = each["value"], each["ips"]
        bounds = "unknown" if value["low"] is None else f"{value['low']:.4g} to {value['high']:.4g}"
        table.add_row(
            *(each["policy"], f"{value['value']:.4g}", bounds, f"{ips['value']:.4g}" if ips else ""),
            *(f"{each['rows']:,}", f"{each['effective_rows']:,.0f}"),
        )
    out.print(table)


def _judge(file: Path, cap: float | None) -> None:
    from models.statistics.off_policy import off_policy

    rows = []
    with file.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append(tuple(float(row[name]) for name in ("reward", "logged", "new")))
            except (ValueError, TypeError, KeyError) as error:
                detail = f"{file}:{number}: a line needs reward, logged and new, each a number: {error}"
                raise click.ClickException(detail) from None
    if not rows:
        raise click.ClickException(f"{file} has no line")
    try:
        found = off_policy(*zip(*rows, strict=True), cap=cap or math.inf)
    except ValueError as error:
        raise click.ClickException(f"{file}: {error}") from None
    logged = sum(reward for reward, _, _ in rows) / len(rows)
    out.print(f"logged  {logged:.4g} over {len(rows):,} rows, worth {found.effective_rows:,.0f} of the new policy")
    for name, estimate in (("IPS", found.ips), ("SNIPS", found.snips)):
        low, high = estimate.interval()
        out.print(f"{name:6}  {estimate.value:.4g}  (95 %: {low:.4g} to {high:.4g})")
