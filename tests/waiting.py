"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

import psutil


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = 60.0) -> None:
    """Wait until the condition holds; a test that waits in vain fails with `what` it waited for."""
    deadline = time.monotonic() + within_s
    began = time.thread_time()
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        # a condition that is dear to ask takes no more than a fifth of a processor from what it waits for
        time.sleep(max(0.02, 4 * (time.thread_time() - began)))
        began = time.thread_time()


def ended(pid: int) -> bool:
    """Whether the process has ended; nobody may have asked for its exit code yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
