"""The page of plots of an evaluation, as PNG: models compared, over time, by segment, and how true chances come.

matplotlib is what draws; it is an extra of the distribution, as nothing else needs it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_INK: Final = "#26323a"
_GREY: Final = "#8a979f"
#: Told apart by those who see colours differently as well (Okabe and Ito, 2008).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#a6761d", "#4d4d4d")
_SEGMENTS: Final = ("warm_users", "cold_users", "warm_items", "cold_items")
#: More curves than this say less, not more.
_MOST_CURVES: Final = 5


def can_draw() -> bool:
    """Whether what draws is installed."""
    return find_spec("matplotlib") is not None


def draw_evaluation(report: Mapping[str, Any], path: Path) -> None:
    """Draw the report of `millstream evaluate` as a page of four plots into `path`; what draws is to be there."""
    from matplotlib.figure import Figure

    models = {name: metrics for name, metrics in report["models"].items() if metrics}
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    asks, protocol = report["asks"], report["protocol"]
    figure.suptitle(f"{report['dataset']}: {asks:,} lists of 10 out of the whole catalogue, {protocol}", color=_INK)
    compared, calibration, time, segments = figure.subplots(2, 2).ravel()
    _compare(compared, models)
    _calibration(calibration, models)
    _over_time(time, models)
    _segments(segments, models)
    for axes in (compared, calibration, time, segments):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=9)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _compare(axes: Any, models: Mapping[str, Any]) -> None:
    names = sorted(models, key=lambda name: models[name]["ndcg_at_10"])
    for place, name in enumerate(names):
        for shift, metric, colour in ((0.18, "recall_at_10", _GREY), (-0.18, "ndcg_at_10", _COLOURS[0])):
            value, (low, high) = models[name][metric], models[name][f"{metric}_interval"]
            axes.barh(place + shift, value, height=0.34, color=colour, label=_label(metric) if not place else None)
            axes.plot([low, high], [place + shift] * 2, color=_INK, linewidth=1.2)
            axes.text(high, place + shift, f" {value:.3f}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.12)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.set_title("by model, with intervals of 95 % (users drawn)", fontsize=11, color=_INK)


def _calibration(axes: Any, models: Mapping[str, Any]) -> None:
    axes.set_title("how often what was told came true", fontsize=11, color=_INK)
    curves = {}
    for name, metrics in models.items():
        if pairs := [pair for pair in metrics.get("calibration", ()) if min(pair) > 0]:  # the axes are logarithmic
            curves[name] = pairs
    points = [value for curve in curves.values() for pair in curve for value in pair]
    if not points:
        axes.text(0.5, 0.5, "no model here tells probabilities", ha="center", va="center", transform=axes.transAxes)
        return
    ends = [min(points) / 1.5, min(max(points) * 1.5, 1.0)]
    axes.plot(ends, ends, color=_GREY, linewidth=1, linestyle="--", label="as told")
    for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        error = models[name]["calibration_error"]
        axes.plot(*zip(*curve, strict=True), marker="o", markersize=4, color=colour, label=f"{name}, error {error:.4f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("probability told", fontsize=9, color=_INK)
    axes.set_ylabel("share that came true", fontsize=9, color=_INK)
    axes.legend(frameon=False, fontsize=9)


def _over_time(axes: Any, models: Mapping[str, Any]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title("NDCG@10 over the time of the log", fontsize=11, color=_INK)
    if all(len(metrics["over_time"]) < 2 for metrics in models.values()):
        axes.text(0.5, 0.5, "all lists are of one moment", ha="center", va="center", transform=axes.transAxes)
        return
    for name, colour in zip(_best(models), _COLOURS, strict=False):
        told = models[name]["over_time"]
        moments = [datetime.fromtimestamp(part["until"] / 1000, UTC) for part in told]
        axes.plot(moments, [part["ndcg_at_10"] for part in told], marker="o", markersize=4, color=colour, label=name)
    axes.set_ylim(bottom=0)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.legend(frameon=False, fontsize=9)


def _segments(axes: Any, models: Mapping[str, Any]) -> None:
    axes.set_title("NDCG@10 by segment", fontsize=11, color=_INK)
    names = _best(models)
    told = [segment for segment in _SEGMENTS if any(segment in models[name]["segments"] for name in names)]
    width = 0.8 / max(len(names), 1)
    for index, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        shift = (index - (len(names) - 1) / 2) * width
        for place, segment in enumerate(told):
            found = models[name]["segments"][segment]
            axes.bar(place + shift, found["ndcg_at_10"], width * 0.92, color=colour, label=None if place else name)
            axes.plot([place + shift] * 2, found["ndcg_at_10_interval"], color=_INK, linewidth=1)
    asks = [models[names[0]]["segments"][segment]["asks"] for segment in told] if names else []
    labels = [f"{_label(segment)}\n{many:,} lists" for segment, many in zip(told, asks, strict=True)]
    axes.set_xticks(range(len(told)), labels)
    axes.margins(y=0.3)  # room for the legend
    axes.legend(frameon=False, fontsize=9, loc="upper right", ncols=3)


def _best(models: Mapping[str, Any]) -> Sequence[str]:
    return sorted(models, key=lambda name: -models[name]["ndcg_at_10"])[:_MOST_CURVES]


def _label(name: str) -> str:
    return name.replace("_at_", "@").replace("_", " ")
