"""A broker in the test's own event loop, and one as a process."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.broker.server import HOST, running
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a broker of the test's own, on `tmp_path`."""
    async with running(tmp_path, 0, retain_every_s=0.05) as port:
        yield f"{HOST}:{port}"


class Process:
    """`python -m deploy.broker` on a folder and a port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"{HOST}:{self.port}"
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "deploy.broker", "--port", str(self.port), "--data", str(folder)], cwd=ROOT
        )
        wait_until(self._answers, "the broker's start")

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port)).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A broker process, shared by a file's tests."""
    started = Process(tmp_path_factory.mktemp("broker"))
    with started.popen:
        yield started
        started.popen.kill()
