"""Options for ECharts that all charts share: calm colours that read on light and dark ground alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

BLUE, TEAL, AMBER, VIOLET, ROSE, GREY = "#5b76f0", "#12a594", "#e08a3c", "#9069f0", "#dd5a7b", "#8a94a6"
COLOURS: Final = (BLUE, TEAL, AMBER, VIOLET, ROSE, GREY)
#: Labels of an axis of shares.
IN_PER_CENT: Final = {"color": GREY, ":formatter": "v => +(100 * v).toFixed(1) + ' %'"}
_FAINT: Final = "rgba(138, 148, 166, 0.18)"

Options = dict[str, Any]


def base(description: str, *, legend: bool = True) -> Options:
    """What every chart has; `description` is read out to those who do not see it."""
    return {
        "animation": False,
        "color": list(COLOURS),
        "textStyle": {"fontFamily": "inherit"},
        "aria": {"enabled": True, "label": {"description": description}},
        "grid": {"left": 6, "right": 14, "top": 34 if legend else 12, "bottom": 6, "containLabel": True},
        "legend": {
            "show": legend,
            "top": 0,
            "left": 0,
            "icon": "roundRect",
            "itemWidth": 10,
            "itemHeight": 10,
            "itemGap": 14,
            "textStyle": {"color": GREY},
        },
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "backgroundColor": "#1d2535",
            "borderWidth": 0,
            "textStyle": {"color": "#eef1f7", "fontSize": 12},
        },
    }


def axis(kind: str, **more: Any) -> Options:
    """An axis without noise: `kind` is time, value or category."""
    return {
        "type": kind,
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "axisLabel": {"color": GREY, "hideOverlap": True},
        "splitLine": {"show": kind == "value", "lineStyle": {"color": _FAINT}},
    } | more


def line(name: str, data: Sequence[Any] = (), *, fill: bool = False, colour: str | None = None, **more: Any) -> Options:
    """One curve."""
    return {
        "name": name,
        "type": "line",
        "data": list(data),
        "showSymbol": False,
        "lineStyle": {"width": 2},
        **({"areaStyle": {"opacity": 0.12}} if fill else {}),
        **({"color": colour} if colour else {}),
    } | more


def curves(description: str, series: Sequence[Options], **y: Any) -> Options:
    """Curves over clock time."""
    return base(description) | {
        "xAxis": axis("time", splitNumber=4),
        "yAxis": axis("value", splitNumber=3, **y),
        "series": list(series),
    }


def bars(
    description: str,
    values: Mapping[str, float],
    *,
    colour: str = BLUE,
    keys: Sequence[str] = (),
    digits: int = 3,
    room: int = 150,
) -> Options:
    """Bars that lie on their side, the first on top. `keys` name them; `room` is their labels' width in pixels."""
    names = list(values)
    data = [{"value": round(values[name], digits), "key": keys[at] if keys else name} for at, name in enumerate(names)]
    options = base(description, legend=False)
    options["tooltip"] |= {"trigger": "item"}
    return options | {
        "xAxis": axis("value", splitNumber=3),
        "yAxis": axis(
            "category",
            data=names,
            inverse=True,
            axisLabel={"color": GREY, "width": room, "overflow": "truncate", "interval": 0},
        ),
        "series": [
            {
                "type": "bar",
                "data": data,
                "color": colour,
                "barMaxWidth": 14,
                "itemStyle": {"borderRadius": [0, 4, 4, 0]},
            }
        ],
    }


class Bounded(NamedTuple):
    """An estimate under its name, with the bounds around it; None where nobody knows."""

    name: str
    value: float
    low: float | None
    high: float | None
    colour: str = BLUE


def intervals(description: str, rows: Sequence[Bounded], *, zero: bool = False, **x: Any) -> Options:
    """Estimates as dots on lines from bound to bound, the first on top; `zero` marks where there is no effect."""
    options = base(description, legend=False)
    options["tooltip"] |= {"trigger": "item"}
    lines = [
        line(
            row.name,
            [[_short(bound), at] for bound in (row.low, row.high)],
            colour=row.colour,
            showSymbol=True,
            symbol="rect",
            symbolSize=[2, 11],
        )
        for at, row in enumerate(rows)
        if row.low is not None and row.high is not None
    ]
    mark = {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": GREY, "type": "dashed"},
        "data": [{"xAxis": 0}],
    }
    dots = {
        "type": "scatter",
        "symbolSize": 11,
        "z": 3,
        "data": [
            {"name": row.name, "value": [_short(row.value), at], "itemStyle": {"color": row.colour}}
            for at, row in enumerate(rows)
        ],
        **({"markLine": mark} if zero else {}),
    }
    return options | {
        "xAxis": axis("value", splitNumber=4, scale=not zero, **x)
        | {"splitLine": {"show": True, "lineStyle": {"color": _FAINT}}},
        "yAxis": axis(
            "category",
            data=[row.name for row in rows],
            inverse=True,
            axisLabel={"color": GREY, "width": 150, "overflow": "truncate", "interval": 0},
        ),
        "series": [*lines, dots],
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def height_of_bars(count: int) -> str:
    """The height that so many bars want."""
    return f"height: {max(count, 1) * 26 + 40}px"
