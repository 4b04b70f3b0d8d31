"""What every page is given: the running API, the watch over the system, and the API's counters."""

from dataclasses import dataclass

from serving.api.live import Live
from serving.api.metrics import Metrics
from serving.dashboard.feed.live_feed import Watch
from streams.settings.settings import Settings


@dataclass
class Board:
    """The dashboard's connections; `watch` lives as long as the API."""

    settings: Settings
    live: Live
    watch: Watch
    metrics: Metrics
