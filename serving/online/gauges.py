"""The tally for Prometheus: online rates, drift, concentration, and the experiments."""

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.experiments.report import Report
from serving.measures import Measure
from serving.online.follower import Follower
from serving.online.skew import Skew
from serving.online.tally import Tally
from serving.online.windows import summed

#: What is dear to make is made at most so often, in seconds, however often it is asked for.
_DEAR_EVERY_S: Final = 10.0


class Gauges(Collector):
    """What the tally says of the newest `recent_s` of event time."""

    def __init__(self, tally: Tally, follower: Follower, report: Report, skew: Skew) -> None:
        self._tally = tally
        self._follower = follower
        self._report = report
        self._skew = skew
        self._dear: dict[str, float] = {}
        self._dear_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """The metrics; the families are there even when nothing was counted yet."""
        yield from self._of_counting()
        yield from self._of_rates()
        drift = GaugeMetricFamily(
            "millstream_drift_stability_index",
            "Population stability index of the newest events against all before them; above 0.25 much has changed.",
            labels=("dimension",),
        )
        for dimension, index in self._tally.drift().items():
            drift.add_metric((dimension,), index)
        yield drift
        skew = GaugeMetricFamily(
            "millstream_skew_stability_index",
            "Population stability index of what the ranker reads now against what it learnt from, by feature.",
            labels=("feature",),
        )
        for feature, index in self._skew.stability().items():
            skew.add_metric((feature,), index)
        yield skew
        yield GaugeMetricFamily(
            "millstream_skew_lists",
            "Lists of the model in service that were looked at for skew.",
            self._skew.lists,
        )
        gini = GaugeMetricFamily(
            "millstream_concentration_gini", "How unevenly exposures and clicks fall on the items.", labels=("of",)
        )
        for name, value in self.concentration().items():
            gini.add_metric((name,), value)
        yield gini
        yield from self._of_experiments()

    def _of_counting(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "millstream_online_behind_records", "Lists and events not counted yet.", self._follower.behind
        )
        yield GaugeMetricFamily(
            "millstream_online_window_timestamp_seconds",
            "Event time at which the newest window begins.",
            self._tally.windows.newest / 1000.0,
        )
        yield CounterMetricFamily(
            "millstream_online_late", "Credits older than the oldest window.", self._tally.windows.late
        )
        unmatched = CounterMetricFamily(
            "millstream_online_unmatched", "Events whose rec_id led to no place of a list, by why.", labels=("why",)
        )
        for why in ("unknown", "foreign", "expired", "absent"):
            unmatched.add_metric((why,), self._tally.attribution.unmatched[why])
        yield unmatched

    def _of_rates(self) -> Iterator[Metric]:
        windows = self._tally.windows
        since = windows.since(self._tally.settings.recent_s)
        rate = GaugeMetricFamily(
            "millstream_online_rate", "Rates of the newest event time, by breakdown.", labels=("rate", "by", "value")
        )
        counts = GaugeMetricFamily(
            "millstream_online_counted", "What was counted in the newest event time.", labels=("measure",)
        )
        for dimension in windows.dimensions:
            for value, (_, found) in self._tally.breakdown(dimension, since).items():
                for name, share in found.items():
                    if share is not None:
                        rate.add_metric((name, dimension, value), share)
        for measure, count in zip(Measure, summed(windows.totals(windows.dimensions[0], since=since)), strict=True):
            counts.add_metric((measure.name.lower(),), count)
        yield from (rate, counts)

    def concentration(self) -> dict[str, float]:
        """The tally's, as it was at most some seconds ago."""
        if time.monotonic() - self._dear_at >= _DEAR_EVERY_S:
            self._dear, self._dear_at = self._tally.concentration(), time.monotonic()
        return self._dear

    def _of_experiments(self) -> Iterator[Metric]:
        users = GaugeMetricFamily("millstream_experiment_users", "Users compared.", labels=("experiment", "arm"))
        effect = GaugeMetricFamily(
            "millstream_experiment_effect",
            "By how much an arm is more than the control in the metric that decides; the bounds hold at every look.",
            labels=("experiment", "arm", "metric", "bound"),
        )
        p = GaugeMetricFamily(
            "millstream_experiment_p_value", "The sequential test's p-value.", labels=("experiment", "arm", "metric")
        )
        ratio = GaugeMetricFamily(
            "millstream_experiment_sample_ratio_p", "How often chance makes shares so uneven.", labels=("experiment",)
        )
        strange = GaugeMetricFamily(
            "millstream_experiment_strange_lists_ratio",
            "Share of the lists with another variant than their user was assigned.",
            labels=("experiment",),
        )
        for result in self._report.results:
            ratio.add_metric((result.name,), result.sample_ratio_p)
            strange.add_metric((result.name,), result.strange_lists / max(result.lists, 1))
            for arm in result.arms:
                users.add_metric((result.name, arm.name), arm.users)
                if arm.against_control is not None:
                    best = arm.against_control[result.metric].best
                    p.add_metric((result.name, arm.name, result.metric), best.p_always)
                    for bound, value in best.always:
                        if value is not None:
                            effect.add_metric((result.name, arm.name, result.metric, bound), value)
        recall = GaugeMetricFamily(
            "millstream_shadow_recall",
            "Recall@10 of a shadow's lists (own) and of those published beside them (served), on the same events.",
            labels=("shadow", "of"),
        )
        scored = GaugeMetricFamily("millstream_shadow_events", "Events to score a shadow on.", labels=("shadow",))
        for shadow in self._report.shadows:
            recall.add_metric((shadow.name, "own"), shadow.own.value)
            recall.add_metric((shadow.name, "served"), shadow.served.value)
            scored.add_metric((shadow.name,), shadow.events)
        yield from (users, effect, p, ratio, strange, recall, scored)
