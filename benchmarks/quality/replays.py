"""The replay table of the README, and how recall went over each log: each data set through a whole system of its own.

`python -m benchmarks.quality.replays --data DIR [--reports DIR] [NAME …]`, where DIR holds a folder for each data set.
"""

import argparse
import json
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.tables import table

SETS = ("kuairand-pure", "movietweetings-100k", "ml-latest-small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds a folder for each data set")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="gets NAME.json for each data set")
    parser.add_argument("--table-only", action="store_true", help="make the tables of reports that are there")
    parser.add_argument("names", nargs="*", default=SETS)
    given = parser.parse_args()
    given.reports.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        if not given.table_only:
            replay = ["replay", "--dataset", name, "--data", str(given.data / name), "--speed", "max"]
            report = ["--report", str(given.reports / f"{name}.json")]
            subprocess.run([sys.executable, "-m", "serving.cli", *replay, *report], check=True)
    reports = [json.loads((given.reports / f"{name}.json").read_text()) for name in given.names]
    print(outcomes(reports), course(reports), sep="\n\n")


def outcomes(reports: list[dict[str, Any]]) -> str:
    """The reports as a Markdown table."""
    head = (
        "log",
        "events",
        "of them copies",
        "recall@10: system",
        "trending",
        "item-item",
        "gain over trending (95 %)",
        "ndcg@10: system",
        "trending",
        "models (promoted)",
        "freshness p50 / p95 / p99",
        "events/s",
    )
    rows = []
    for r in reports:
        gain, fresh = r["recall_gain"], r["freshness_ms"]
        promoted = sum(model["promoted"] for model in r["model_versions"])
        cells = (
            r["dataset"],
            f"{r['events_read']:,}",
            f"{r['events_duplicate']:,}",
            f"**{r['recall_at_10']:.4f}**",
            f"{r['trending']['recall_at_10']:.4f}",
            f"{r['item_item']['recall_at_10']:.4f}",
            f"{gain['low']:+.4f} to {gain['high']:+.4f}",
            f"**{r['ndcg_at_10']:.4f}**",
            f"{r['trending']['ndcg_at_10']:.4f}",
            f"{len(r['model_versions'])} ({promoted})",
            f"{fresh['p50']:.0f} / {fresh['p95']:.0f} / {fresh['p99']:.0f} ms",
            f"{r['events_per_s']:,.0f}",
        )
        rows.append(cells)
    return table(head, rows)


def course(reports: list[dict[str, Any]]) -> str:
    """Recall@10 of system / trending / item-item for each stretch of each log, as a Markdown table."""
    recalls = [
        [
            " / ".join(f"{stretch[name]['recall_at_10']:.3f}" for name in ("system", "trending", "item_item"))
            for stretch in report["by_events"]
        ]
        for report in reports
    ]
    longest = max((report["by_events"] for report in reports), key=len)
    rows = [
        (f"{stretch['from'] // 1000}k", *cells)
        for stretch, cells in zip(longest, zip_longest(*recalls, fillvalue=""), strict=True)
    ]
    return table(("events from", *(report["dataset"] for report in reports)), rows)


if __name__ == "__main__":
    main()
