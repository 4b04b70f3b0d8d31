"""Two workers share a topic that nobody has read: the short version of `python -m benchmarks.speed.rebalance`."""

from pathlib import Path

from benchmarks.speed import rebalance
from streams.settings.settings import Settings


def settings_on(servers: tuple[str, str]) -> Settings:
    return Settings(broker_url=servers[0], redis_url=servers[1], log_level="INFO")


def test_two_workers_that_start_together_lose_double_and_end_nothing(servers: tuple[str, str], tmp_path: Path) -> None:
    outcome = rebalance.fresh(rebalance.Run(settings_on(servers), tmp_path), rate=400, seconds=8)
    assert outcome.events == 3_200
    assert outcome.is_clean, f"{outcome}\n{logs(tmp_path)}"


def test_a_second_worker_joins_one_that_works_off_a_backlog(servers: tuple[str, str], tmp_path: Path) -> None:
    outcome = rebalance.backlog(rebalance.Run(settings_on(servers), tmp_path), events=8_000, joined=True)
    assert outcome.events == 8_000
    assert outcome.is_clean, f"{outcome}\n{logs(tmp_path)}"


def logs(folder: Path) -> str:
    return "\n".join(path.read_text()[-4_000:] for path in sorted(folder.glob("*.log")))
