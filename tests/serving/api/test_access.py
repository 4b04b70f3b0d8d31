"""Who may do what, and how often."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.access import RateLimit, digest, scopes_of
from serving.api.app import check_exposure
from streams.settings.settings import ApiSettings, Scope, Settings, SettingsError

TOKENS: dict[str, tuple[Scope, ...]] = {digest("r"): ("read",), digest("w"): ("write",), digest("a"): ("admin",)}


@pytest.mark.parametrize(
    ("token", "scopes"), [("r", {"read"}), ("w", {"read", "write"}), ("a", {"read", "write", "admin"}), ("x", set())]
)
def test_a_token_has_its_scopes_and_those_they_include(token: str, scopes: set[str]) -> None:
    assert scopes_of(token, TOKENS) == scopes


@given(
    rate=st.floats(0.5, 200),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=120),
)
def test_no_stretch_of_time_passes_more_than_the_burst_and_the_rate(rate: float, burst: int, gaps: list[float]) -> None:
    now = 0.0
    limit = RateLimit(rate, burst, lambda: now)
    passed = []
    for gap in gaps:
        now += gap
        if not limit.wait_s("ann"):
            passed.append(now)
    for at in range(len(passed)):
        for to in range(at, len(passed)):
            assert to - at + 1 <= burst + rate * (passed[to] - passed[at]) + 1e-6


def test_who_waits_as_long_as_told_may_pass() -> None:
    now = 100.0
    limit = RateLimit(2.0, 1, lambda: now)
    assert limit.wait_s("ann") == 0
    wait_s = limit.wait_s("ann")
    assert wait_s == pytest.approx(0.5)
    assert limit.wait_s("ben") == 0  # each client has a bucket of its own
    now += wait_s + 1e-9
    assert limit.wait_s("ann") == 0


def test_clients_without_number_do_not_fill_the_memory() -> None:
    limit = RateLimit(1.0, 1, lambda: 0.0)
    for client in range(30_000):
        limit.wait_s(str(client))
    assert len(limit._buckets) == 10_000
    assert all(int(a) < int(b) for a, b in pairwise(limit._buckets))  # the oldest were forgotten


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_on_this_machine_alone_no_token_is_needed(host: str) -> None:
    check_exposure(Settings(api=ApiSettings(host=host)))


@pytest.mark.parametrize("host", ["::", "192.0.2.7", "api.example"])
def test_others_are_let_in_with_tokens_only(host: str) -> None:
    with pytest.raises(SettingsError, match="api-token"):
        check_exposure(Settings(api=ApiSettings(host=host)))
    check_exposure(Settings(api=ApiSettings(host=host, tokens={digest("t"): ("read",)})))
