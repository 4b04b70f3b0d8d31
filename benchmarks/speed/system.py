"""A whole system for a benchmark: `millstream up` of any checkout, known by its command line and HTTP API alone."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import psutil

from streams.settings.endpoints import KafkaTarget

ROLES: Final = ("worker", "api", "trainer", "broker", "redis")
START_S: Final = 120.0
_REDIS: Final = ("redis-server", "valkey-server")


class NotRunning(Exception):
    """The system ended or does not answer; the message has what it wrote last."""


class System:
    """`millstream up` of a checkout, in a folder of its own."""

    def __init__(self, command: Path, folder: Path, environment: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._written = folder / "up.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        with self._written.open("wb") as written:
            self._process = subprocess.Popen(
                [command, "up"],
                cwd=folder,  # where neither .env nor millstream.toml lies
                env=kept | environment | {"MILLSTREAM_API__PORT": str(self._port)},
                stdout=written,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "System":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Does nothing while the system runs.

        Raises:
            NotRunning: it has ended.
        """
        if self._process.poll() is not None:
            raise NotRunning(f"the system ended:\n{self._tail()}")

    async def until(self, wanted: str, holds: Callable[[], Awaitable[bool]], seconds: float = START_S) -> None:
        """Wait until that holds.

        Raises:
            NotRunning: it does not hold within `seconds`, or the system has ended.
        """
        deadline = time.monotonic() + seconds
        while not await holds():
            self.check()
            if time.monotonic() > deadline:
                raise NotRunning(f"{wanted}: not within {seconds:.0f} s. The system wrote last:\n{self._tail()}")
            await asyncio.sleep(0.2)

    def _tail(self) -> str:
        return "\n".join(self._lines()[-20:])

    def _lines(self) -> list[str]:
        return self._written.read_text(errors="replace").splitlines()

    async def broker(self) -> KafkaTarget:
        """The broker, once the API is ready: then all topics are there."""

        async def ready() -> bool:
            return await self.get("/readyz") == 200

        await self.until("the API is ready", ready)
        [url] = (line.split()[1] for line in self._lines() if line.startswith("broker "))
        return KafkaTarget.parse(url)

    async def get(self, path: str) -> int:
        """The status that the API answers with; 0 for none."""

        def ask() -> int:
            with contextlib.closing(HTTPConnection("127.0.0.1", self._port, timeout=5.0)) as connection:
                try:
                    connection.request("GET", path)
                    return connection.getresponse().status
                except (OSError, HTTPException):
                    return 0

        return await asyncio.to_thread(ask)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The processes of each role."""
        result: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        for process in psutil.Process(self._process.pid).children(recursive=True):
            words = process.cmdline()
            for role in ROLES:
                if role == "redis":
                    is_role = process.name() in _REDIS
                else:
                    is_role = role in words or any(word.endswith(f".{role}") for word in words)
                if is_role:
                    result[role].append(process)
        return result

    def cpu_s(self) -> Counter[str]:
        """Seconds of CPU that each role has used."""
        used: Counter[str] = Counter(dict.fromkeys(ROLES, 0))
        for role, processes in self.processes().items():
            for process in processes:
                times = process.cpu_times()
                used[role] += times.user + times.system
        return used

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of each role."""
        return {
            role: sum(process.memory_info().rss for process in processes) / 1e6
            for role, processes in self.processes().items()
        }

    async def quiet(self) -> None:
        """Wait until the roles have caught up: together they use less than half a core."""

        async def without_work() -> bool:
            before = self.cpu_s()
            await asyncio.sleep(2.0)
            return (self.cpu_s() - before).total() < 1.0

        await self.until("the roles have nothing left to do", without_work)
