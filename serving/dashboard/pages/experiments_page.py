"""Experiments: who gets what, what came of it so far, and what users make of their lists, broken down."""

from collections.abc import Callable
from typing import Final

from nicegui import ui

from models.statistics.samples import MISMATCH
from serving.dashboard.board import Board
from serving.dashboard.feed.outcomes import effects
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, chip, fact, grid, heading, nothing, redraw, row
from serving.dashboard.pages.shadow_cards import shadow_cards
from serving.experiments.results import STRANGE_MOST, ArmResult, Effect, ExperimentResult
from serving.measures import RATES, Measure
from streams.settings.online import ExperimentSettings, ExperimentsSettings, Metric

_EVERY_S: Final = 5.0
_VALUES: Final = 12
_FIRST_METRIC: Final[Metric] = "engagement_rate"
_HOW: Final = """[[experiments.running]]
name = "fresh"
arms = [
  { name = "as-is", share = 0.5 },
  { name = "fresher", share = 0.5, pipeline = "fresh" },
]

[pipelines.fresh.freshness]
boost = 0.5"""

Draw = Callable[[ExperimentResult], None]


def build(board: Board) -> None:
    """Lay the page out, and bring its charts up to date every few seconds."""
    heading("Experiments", "Who gets what, and what came of it. Read the verdict first.")
    if not board.watch.outcomes.counts:
        nothing("visibility_off", "This process does not count: online.enabled is off here.")
        return
    draws: dict[str, Draw] = {}
    if not board.settings.experiments.running:
        _how_to_begin(board.settings.experiments)
    running = ui.element("div").classes("ms-stack")
    shadows, breakdown = shadow_cards(board), _breakdown(board)

    def look() -> None:
        shadows()
        for result in board.watch.outcomes.results:
            if result.name not in draws:
                with running:
                    draws[result.name] = _experiment(board, result)
            draws[result.name](result)
        breakdown()

    look()
    ui.timer(_EVERY_S, look)


def _how_to_begin(settings: ExperimentsSettings) -> None:
    with card("No experiment runs", "one begins with a few lines in millstream.toml, the same for all processes"):
        nothing("science", "Name the arms and what makes their lists. Users are drawn by a hash and stay in their arm.")
        ui.label(_HOW).classes("ms-raw")
        ui.label(
            "`millstream experiments plan --mean 0.3 --effect 0.05` tells how many users that takes. "
            "docs/experiments.md has the rest."
        ).classes("ms-soft")
        if settings.holdout:
            ui.label(f"{settings.holdout:.1%} of the users are held out of all experiments.").classes("ms-soft")


# -- one experiment


def _experiment(board: Board, result: ExperimentResult) -> Draw:
    """The card of one experiment; returns what brings it up to date."""
    settings = {each.name: each for each in board.settings.experiments.running}.get(result.name)
    with card(result.name, _drawn_by(settings, board.settings.experiments)):
        verdict = ui.label().classes("ms-says").props("role=status aria-live=polite")
        with row():
            for number, arm in enumerate(result.arms):
                chip(f"{arm.name}: {arm.share:.0%}, pipeline {arm.pipeline or 'default'}", _colour(number))
        facts = ui.element("div").classes("ms-row")
        with grid():
            effect = _chart(f"Effect on {_words(result.metric)}" if result.preference is None else "Preference",
                            "the bounds that are always right, and those of looking once")  # fmt: skip
            course = _chart("As it went", "the effect and its bounds at every look, since the API started")
            means = _chart(f"{_words(result.metric).capitalize()} by arm", "mean over users, with its interval")
            if result.preference is None:
                users = _chart("Users by arm", "and how many their shares say")
        if result.preference is None:
            others = _chart("All metrics", "effect as a share of the first arm; only one of them decides", tall=True)

    def draw(now: ExperimentResult) -> None:
        verdict.text = now.verdict
        facts.clear()
        with facts:
            _facts(now)
        redraw(effect, _effects(now))
        redraw(course, _course(board, now))
        redraw(means, _means(now))
        if now.preference is None:
            redraw(users, _users(now))
            redraw(others, _others(now))

    return draw


def _drawn_by(settings: ExperimentSettings | None, all_of_them: ExperimentsSettings) -> str:
    if settings is None:  # the holdout, which is none
        return f"held out of all experiments, drawn by the salt {all_of_them.salt!r}"
    kind = "interleaved: " if settings.interleave else ""
    return f"{kind}{settings.traffic:.0%} of the users take part, drawn by the salt {settings.salt or settings.name!r}"


def _facts(result: ExperimentResult) -> None:
    users = [arm.users for arm in result.arms]
    fact("users", f"{sum(users):,}" if result.preference is None else f"{users[0]:,} took something")
    for name, effect in effects(result).items():
        fact(f"p of {name}, at every look", f"{effect.p_always:.3g}")
    for arm in result.arms:
        compared = (arm.against_control or {}).get(result.metric)
        if compared is not None and compared.variance_left is not None:
            fact(f"variance left by CUPED, {arm.name}", f"{compared.variance_left:.0%}")
    if result.preference is None:
        wrong = result.sample_ratio_p < MISMATCH
        fact("sample ratio", f"{'wrong' if wrong else 'right'}, p {result.sample_ratio_p:.3g}")
    strange = result.strange_lists / max(result.lists, 1)
    fact("lists of another variant", f"{strange:.1%}" + (": too many" if strange > STRANGE_MOST else ""))
    if result.sampled < 1:
        fact("users compared", f"{result.sampled:.0%} of them")


def _effects(result: ExperimentResult) -> charts.Options:
    rows = []
    for number, (name, effect) in enumerate(effects(result).items(), 1):
        for interval, kind in ((effect.always, "always"), (effect.fixed, "once")):
            rows.append(charts.Bounded(f"{name}, {kind}", interval.value, interval.low, interval.high, _colour(number)))
    return charts.intervals("Effect of each arm against the first, with its bounds", rows, zero=True)


def _course(board: Board, result: ExperimentResult) -> charts.Options:
    series = []
    for number, name in enumerate(effects(result), 1):
        history = board.watch.outcomes.courses.get((result.name, name))
        moments = [(moment.at, moment.effect.always) for moment in history.samples] if history else []
        bound = {"width": 1, "type": "dashed"}
        for label, points, style in (
            (name, [(at, interval.value) for at, interval in moments], {"width": 2}),
            (f"{name}, at least", [(at, interval.low) for at, interval in moments], bound),
            (f"{name}, at most", [(at, interval.high) for at, interval in moments], bound),
        ):
            series.append(charts.line(label, points, colour=_colour(number), lineStyle=style))
    return charts.curves("The effect over time, with the bounds that hold at every look", series, scale=True)


def _means(result: ExperimentResult) -> charts.Options:
    rows = []
    for number, arm in enumerate(result.arms if result.preference is None else result.arms[:1]):
        mean = arm.metrics[result.metric]
        name = arm.name if result.preference is None else "both"
        rows.append(charts.Bounded(name, mean.value, mean.low, mean.high, _colour(number)))
    return charts.intervals("The metric that decides, by arm", rows)


def _users(result: ExperimentResult) -> charts.Options:
    total = sum(arm.users for arm in result.arms)
    options = charts.base("Users by arm, and how many there should be")
    return options | {
        "xAxis": charts.axis("category", data=[arm.name for arm in result.arms]),
        "yAxis": charts.axis("value", splitNumber=3, minInterval=1),
        "series": [
            {"name": name, "type": "bar", "barMaxWidth": 28, "data": data, "color": colour}
            for name, colour, data in (
                ("users", charts.BLUE, [arm.users for arm in result.arms]),
                ("by their shares", charts.GREY, [round(arm.share * total, 1) for arm in result.arms]),
            )
        ],
    }


def _others(result: ExperimentResult) -> charts.Options:
    rows = [
        charts.Bounded(
            f"{_words(name)}, {arm.name}" if len(result.arms) > 2 else _words(name), *shares, _colour(number)
        )
        for name in RATES
        for number, arm in enumerate(result.arms)
        if (shares := _relative(arm, result.arms[0], name)) is not None
    ]
    return charts.intervals(
        "Effects on all metrics, relative to the first arm", rows, zero=True, axisLabel=charts.IN_PER_CENT
    )


def _relative(arm: ArmResult, control: ArmResult, name: Metric) -> tuple[float, float | None, float | None] | None:
    """An arm's effect and its bounds as shares of the control's mean; None for the control, and where that is 0."""
    base = control.metrics[name].value
    if arm.against_control is None or not base:
        return None
    best: Effect = arm.against_control[name].best
    value, low, high = best.always.value, best.always.low, best.always.high
    return value / base, None if low is None else low / base, None if high is None else high / base


# -- all users, by what tells them apart


def _breakdown(board: Board) -> Callable[[], None]:
    outcomes = board.watch.outcomes
    dimensions = list(board.live.tally.windows.dimensions)
    ratios = {name: _words(name) for name, rate in RATES.items() if rate.under is not None}
    with card("What users make of their lists", "all of the windows that are kept, in event time"):
        with row():
            by = ui.select(dimensions, value="source", label="by").props("outlined dense").classes("ms-select")
            rate = ui.select(ratios, value=_FIRST_METRIC, label="rate").props("outlined dense").classes("ms-select")
        says = ui.label().classes("ms-soft")
        chart = ui.echart(charts.bars("", {})).classes("ms-bars")

    def look() -> None:
        found = outcomes.breakdown(by.value)
        known = {
            value: (counts, share) for value, (counts, told) in found.items() if (share := told[rate.value]) is not None
        }
        most = sorted(known, key=lambda value: -known[value][0][Measure.EVENTS])[:_VALUES]
        says.text = (
            f"{RATES[rate.value].meaning}; the {len(most)} values with the most events"
            if most
            else "Nothing could be counted yet: it takes lists, and what users do with them."
        )
        name = f"{_words(rate.value)} by {by.value}"
        chart.style(charts.height_of_bars(len(most)))
        redraw(chart, charts.bars(name, {value: known[value][1] for value in most}, colour=charts.TEAL, digits=4))

    by.on_value_change(look)
    rate.on_value_change(look)
    return look


def _chart(title: str, soft: str, *, tall: bool = False) -> ui.echart:
    with ui.element("div").classes("ms-part"):
        ui.label(title).classes("ms-strong")
        ui.label(soft).classes("ms-soft")
        return ui.echart({}).classes("ms-chart" if tall else "ms-chart-low")


def _colour(number: int) -> str:
    return charts.COLOURS[(number - 1) % 5] if number else charts.GREY


def _words(name: str) -> str:
    return name.replace("_", " ")
