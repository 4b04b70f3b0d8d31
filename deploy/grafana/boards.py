"""Grafana's boards as code: `python -m deploy.grafana.boards [FOLDER]` writes their JSON, to deploy/grafana/boards."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH: Final = 24  # of Grafana's grid
_HEIGHT: Final = 8


class Panel(NamedTuple):
    """One chart: what it shows, and each query with the legend of its curves."""

    title: str
    queries: Mapping[str, str]
    says: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    below: float | None = None  # red above this value


class Row(NamedTuple):
    """A heading and the charts under it."""

    title: str
    panels: Sequence[Panel]


_BY_ROUTE: Final = "sum by (le, route) (rate(millstream_api_request_seconds_bucket[5m]))"
_RATE: Final = 'millstream_online_rate{rate="%s", by="%s"}'

BOARDS: Final[dict[str, tuple[str, Sequence[Row]]]] = {
    "loop": (
        "millstream: the loop",
        (
            Row(
                "From event to list",
                (
                    Panel(
                        "Events and lists",
                        {
                            "sum(rate(millstream_worker_applied_total[1m]))": "events applied",
                            "sum(rate(millstream_worker_lists_total[1m]))": "lists published",
                            "sum(rate(millstream_worker_copies_total[1m]))": "copies",
                        },
                        "A second, over all workers.",
                        "ops",
                    ),
                    Panel(
                        "Freshness",
                        {"max by (quantile) (millstream_freshness_seconds)": "p{{quantile}}"},
                        "From an event's arrival in Kafka to its list's; of the slowest worker.",
                        "s",
                        below=2.0,
                    ),
                    Panel(
                        "Lag",
                        {"sum by (worker) (millstream_worker_lag)": "{{worker}}"},
                        "Events of its partitions that a worker has not acknowledged.",
                    ),
                    Panel(
                        "Dead letters",
                        {
                            "sum(rate(millstream_worker_dead_letters_total[5m]))": "records that could not be used",
                            "sum(rate(millstream_worker_dead_letters_unwritten_total[5m]))": "letters not written",
                        },
                        "A second. `millstream dead-letters list` shows why.",
                        "ops",
                    ),
                    Panel("Workers", {"millstream_workers": "workers"}, kind="stat", width=4),
                    Panel("Redis", {"millstream_redis_up": "answers"}, kind="stat", width=4),
                    Panel(
                        "Partitions held",
                        {"sum by (worker) (millstream_worker_partitions)": "{{worker}}"},
                        "All of the topic's, spread over the workers.",
                    ),
                ),
            ),
            Row(
                "The API",
                (
                    Panel(
                        "Requests",
                        {
                            "sum by (route, status) (rate(millstream_api_request_seconds_count[1m]))": (
                                "{{route}} {{status}}"
                            )
                        },
                        "A second.",
                        "reqps",
                    ),
                    Panel(
                        "Time to answer",
                        {f"histogram_quantile({q}, {_BY_ROUTE})": f"p{q} {{{{route}}}}" for q in (0.5, 0.99)},
                        unit="s",
                    ),
                    Panel(
                        "Lists served",
                        {"sum by (origin) (rate(millstream_api_lists_total[1m]))": "{{origin}}"},
                        "By where they came from; `remembered` and `trending` mean that Redis is away.",
                        "ops",
                    ),
                    Panel("Events posted", {"sum by (verdict) (rate(millstream_api_events_total[1m]))": "{{verdict}}"}),
                    Panel("Open streams", {"millstream_api_streams": "streams"}, kind="stat", width=4),
                    Panel("Items known", {"millstream_api_catalogue_items": "items"}, kind="stat", width=4),
                ),
            ),
        ),
    ),
    "models": (
        "millstream: models and drift",
        (
            Row(
                "The model in service",
                (
                    Panel(
                        "Age",
                        {
                            "time() - millstream_model_created_timestamp_seconds": "since it was made",
                            "millstream_model_behind_seconds": "event time since its newest event",
                            "time() - millstream_model_trained_through_timestamp_seconds": "clock since then",
                        },
                        "Replayed events are older than the clock; then the second curve is the one to watch.",
                        "s",
                    ),
                    Panel("Scores", {"millstream_model_score": "{{score}}"}, "What its training measured."),
                    Panel(
                        "Who serves what",
                        {
                            "count by (version) (millstream_worker_model)": "{{version}} in workers",
                            "millstream_api_model": "{{version}} in the API",
                        },
                        "A promotion shows as a new curve.",
                    ),
                    Panel(
                        "Training",
                        {
                            "millstream_trainer_progress": "done",
                            "millstream_trainer_logged_events / millstream_trainer_due_events": "way to the next",
                            "millstream_trainer_busy": "running",
                        },
                        unit="percentunit",
                    ),
                    Panel("Trainings", {"millstream_trainer_trainings_total": "ended"}, kind="stat", width=4),
                    Panel("Trainer", {"millstream_trainer_up": "lives"}, kind="stat", width=4),
                    Panel("Trained on", {"millstream_model_events": "events"}, kind="stat", width=4),
                ),
            ),
            Row(
                "What comes in and what goes out",
                (
                    Panel(
                        "Input drift",
                        {"millstream_drift_stability_index": "{{dimension}}"},
                        "Stability index of the newest events against those before; above 0.25 much has changed.",
                        below=0.25,
                    ),
                    Panel(
                        "Training-serving skew",
                        {"topk(8, millstream_skew_stability_index)": "{{feature}}"},
                        "Of the ranker's features now against those it learnt from; the eight that changed most.",
                        below=0.25,
                    ),
                    Panel(
                        "Concentration",
                        {"millstream_concentration_gini": "{{of}}"},
                        "Gini: 0 when all items have equally many, near 1 when one has all.",
                        "percentunit",
                    ),
                    Panel("Lists looked at for skew", {"millstream_skew_lists": "lists"}, kind="stat", width=4),
                ),
            ),
        ),
    ),
    "online": (
        "millstream: what users make of it",
        (
            Row(
                "Rates of the newest event time",
                (
                    Panel(
                        "Engagement by variant",
                        {_RATE % ("engagement_rate", "variant"): "{{value}}"},
                        "Sessions with a click or a watch, of all.",
                        "percentunit",
                    ),
                    Panel(
                        "What earned the engagement",
                        {_RATE % ("engagement_rate", "source"): "{{value}}"},
                        "Each source's part of the rate; they add up to it.",
                        "percentunit",
                    ),
                    Panel(
                        "Engagement by model",
                        {_RATE % ("engagement_rate", "model"): "{{value}}"},
                        unit="percentunit",
                    ),
                    Panel(
                        "Click-through by position",
                        {_RATE % ("click_through", "position"): "{{value}}"},
                        "Shown places that were clicked or watched.",
                        "percentunit",
                    ),
                    Panel(
                        "Watches to the end, by variant",
                        {_RATE % ("completion_rate", "variant"): "{{value}}"},
                        unit="percentunit",
                    ),
                    Panel(
                        "Watch time of a session, by variant",
                        {_RATE % ("watch_s_per_session", "variant"): "{{value}}"},
                        unit="s",
                    ),
                    Panel("Counts", {"millstream_online_counted": "{{measure}}"}, "In the newest event time."),
                    Panel(
                        "Events that lead to no place",
                        {"sum by (why) (rate(millstream_online_unmatched_total[5m]))": "{{why}}"},
                        "A second: their `rec_id` is unknown, expired, another user's, or lacks the item.",
                        "ops",
                    ),
                    Panel(
                        "Not counted yet, and too late",
                        {
                            "millstream_online_behind_records": "behind",
                            "rate(millstream_online_late_total[5m])": "late, a second",
                        },
                    ),
                    Panel(
                        "Event time",
                        {"time() - millstream_online_window_timestamp_seconds": "behind the clock"},
                        unit="s",
                        kind="stat",
                    ),
                ),
            ),
            Row(
                "Experiments",
                (
                    Panel(
                        "Effect",
                        {"millstream_experiment_effect": "{{experiment}} {{arm}}: {{metric}}, {{bound}}"},
                        "In the metric that decides; all the bounds ever shown hold together.",
                        width=12,
                    ),
                    Panel(
                        "Sequential p-value",
                        {"millstream_experiment_p_value": "{{experiment}} {{arm}}"},
                        "It may be looked at whenever one likes.",
                        width=12,
                    ),
                    Panel("Users", {"millstream_experiment_users": "{{experiment}} {{arm}}"}),
                    Panel(
                        "Sample ratio",
                        {"millstream_experiment_sample_ratio_p": "{{experiment}}"},
                        "Below 0.0005 the effects are not to be read.",
                    ),
                    Panel(
                        "Lists with another variant",
                        {"millstream_experiment_strange_lists_ratio": "{{experiment}}"},
                        unit="percentunit",
                        below=0.02,
                    ),
                    Panel(
                        "Shadows",
                        {"millstream_shadow_recall": "{{shadow}}: {{of}}"},
                        "Recall@10 of lists that nobody is shown (own), and of those published beside them (served).",
                        "percentunit",
                        width=12,
                    ),
                    Panel("Events to score shadows on", {"millstream_shadow_events": "{{shadow}}"}, width=12),
                ),
            ),
        ),
    ),
}


def board(name: str) -> str:
    """A board's JSON."""
    title, rows = BOARDS[name]
    content = {
        "uid": f"millstream-{name}",
        "title": title,
        "tags": ["millstream"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}]},
        "links": [{"type": "dashboards", "tags": ["millstream"], "title": "millstream", "asDropdown": False}],
        "panels": list(_placed(rows)),
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The panels on the grid: from left to right, each row under its heading."""
    number, x, y = 0, 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
        }
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _HEIGHT
            number += 1
            yield _drawn(panel, number, x, y)
            x += panel.width
        y += _HEIGHT


def _drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.below is not None:
        steps.append({"color": "red", "value": panel.below})
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        shown = "line" if panel.below is not None else "off"
        defaults["custom"] = {"lineWidth": 2, "fillOpacity": 8, "thresholdsStyle": {"mode": shown}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "deploy/grafana/boards")
    folder.mkdir(parents=True, exist_ok=True)
    for each in BOARDS:
        (folder / f"{each}.json").write_text(board(each))
