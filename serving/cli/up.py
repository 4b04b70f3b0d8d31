"""`millstream up`: all roles on one machine, with the embedded servers where the URLs ask for them."""

import itertools
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final, NamedTuple, Self

from deploy.child import Child
from deploy.embedded import Embedded
from streams.settings.settings import Settings

log = logging.getLogger(__name__)

_GRACE_S: Final = 20.0
_POLL_S: Final = 0.05
_DELAY_S: Final = 1.0
_DELAY_MAX_S: Final = 30.0
#: A role that ran for so long before it crashed is started again with the first delay.
_STEADY_S: Final = 60.0


class Role(NamedTuple):
    """One process of the system. Roles of one kind are stopped together, the kinds one after the other."""

    kind: str
    name: str
    argv: Sequence[str]


def roles(workers: int, *, api: bool = False) -> list[Role]:
    """The system's own roles, in the order of stopping."""
    # -P: else a folder `models` or `streams` where millstream is run hides our package, and the roles never start
    command = (sys.executable, "-P", "-m", "serving.cli")
    return [
        *([Role("api", "api", [*command, "api"])] if api else []),
        *(Role("worker", f"worker-{number}", [*command, "worker"]) for number in range(1, workers + 1)),
        Role("trainer", "trainer", [*command, "trainer"]),
    ]


@contextmanager
def scratch_settings(settings: Settings) -> Iterator[Settings]:
    """The settings on an empty data folder of their own, removed after the block.

    With one partition: more serve more workers, and such a system has one.
    """
    with TemporaryDirectory(prefix="millstream-", ignore_cleanup_errors=True) as folder:
        yield settings.model_copy(update={"data_dir": Path(folder), "partitions": 1})


class System:
    """A whole system: embedded servers where asked for, and roles that are started again when they crash.

    As a context manager it starts and stops. Nothing is left running afterwards.

    Attributes:
        settings: after the start, with the servers' URLs.
        over: set when the system has to end, for a fault or by whoever sets it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int = 1,
        processes: Sequence[Role] | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare to start; nothing runs yet.

        Args:
            workers: how many worker processes to run.
            processes: what to run in place of that many workers and a trainer, in the order of stopping.
            echo: called with each line that a role writes, its name before it; the lines are in the logs as well.
        """
        self.settings = settings
        self._roles = roles(workers) if processes is None else processes
        self._echo = echo
        self._embedded = Embedded(
            settings.data_dir, broker=settings.embeds_broker, redis=settings.embeds_redis, on_death=self._on_fault
        )
        self._running: dict[str, _Running] = {}
        self._news: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._fault: str | None = None
        self.over = threading.Event()
        self._launched = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    @property
    def fault(self) -> str | None:
        """Why the system cannot go on: an embedded server died, or a role's program is not there."""
        return self._fault

    def start(self) -> None:
        """Start the servers, wait until they answer, and start the roles.

        Raises:
            EmbeddedError: an embedded server does not start, or runs already.
        """
        if self.settings.uses_embedded:
            servers = self._embedded.start()
            self.settings = self.settings.connected(broker_url=servers.broker_url, redis_url=servers.redis_url)
        self._supervisor.start()
        self._launched.wait()

    def hurry(self) -> None:
        """Wait for nothing more: a stop under way kills what still runs."""
        self._hurry.set()

    def stop(self) -> None:
        """Stop in order: workers, then the trainer, then broker and Redis."""
        try:
            if self._supervisor.ident is not None:
                self._stopping.set()
                self._news.put(None)
                self._supervisor.join()
        except BaseException:
            self._hurry.set()
            self._supervisor.join()
            raise
        finally:
            self._embedded.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the supervisor's thread: it starts the roles and outlives them, as a child dies with the thread it came from

    def _supervise(self) -> None:
        try:
            for role in self._roles:
                self._launch(_Running(role))
            self._launched.set()
            while not self._stopping.is_set():
                self._await_news()
                for running in self._due():
                    self._launch(running)
        except Exception as error:
            log.exception("the supervisor failed")
            self._on_fault(f"the roles cannot be run: {error}")
        finally:
            self._launched.set()
            self._stop_roles()

    def _launch(self, running: "_Running") -> None:
        role = running.role
        echo = self._echo
        running.child = Child(
            role.name,
            role.argv,
            log_file=self.settings.data_dir / "logs" / f"{role.name}.log",
            env=self.settings.environment(),
            echo=(lambda line: echo(f"{role.name} | {line}")) if echo else None,
            on_exit=self._news.put,
        )
        running.restart_at = None
        self._running[role.name] = running
        log.info("%s runs as process %d", role.name, running.child.pid)

    def _await_news(self) -> None:
        due = [running.restart_at for running in self._running.values() if running.restart_at is not None]
        try:
            child = self._news.get(timeout=max(min(due) - time.monotonic(), 0.0) if due else None)
        except queue.Empty:
            return
        if child is not None:
            running = self._running[child.name]
            delay = running.next_delay_s()
            running.restart_at = time.monotonic() + delay
            log.error("%s\nstarting %s again in %.0f s", child.describe_exit(), child.name, delay)

    def _due(self) -> "Iterator[_Running]":
        now = time.monotonic()
        for running in list(self._running.values()):
            if running.restart_at is not None and running.restart_at <= now and not self._stopping.is_set():
                yield running

    def _stop_roles(self) -> None:
        started = [self._running[role.name] for role in self._roles if role.name in self._running]
        for _, group in itertools.groupby(started, key=lambda running: running.role.kind):
            children = [running.child for running in group if running.child is not None]
            for child in children:
                child.terminate()
            deadline = time.monotonic() + _GRACE_S
            while any(child.running for child in children) and time.monotonic() < deadline:
                if self._hurry.wait(_POLL_S):
                    break
            for child in children:
                if child.running:
                    log.warning("%s did not end in time and was killed", child.name)
                log.info("%s stopped with exit code %d", child.name, child.kill())

    def _on_fault(self, message: str) -> None:
        self._fault = message
        self.over.set()


@dataclass
class _Running:
    """A role and the process it is at present; `restart_at`, on the monotonic clock, while there is none."""

    role: Role
    child: Child | None = None
    restart_at: float | None = None
    delay_s: float = _DELAY_S

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.running

    def next_delay_s(self) -> float:
        """How long to wait before this start; it doubles with each crash that comes soon after the last."""
        if self.child is not None and time.time() - self.child.started_at > _STEADY_S:
            self.delay_s = _DELAY_S
        delay, self.delay_s = self.delay_s, min(self.delay_s * 2, _DELAY_MAX_S)
        return delay


class _Interrupted:
    """Ctrl-C and SIGTERM, while the block runs: the first ends the system in order, the second at once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._system.over.is_set():
            self._system.hurry()
        self._system.over.set()

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run_up(settings: Settings, processes: Sequence[Role]) -> int:
    """Run these roles until Ctrl-C, SIGTERM or a fault; returns the exit code, 0 unless there was a fault.

    A second Ctrl-C stops without waiting.

    Raises:
        EmbeddedError: an embedded server does not start, or runs already.
    """
    system = System(settings, processes=processes, echo=_echo)
    with _Interrupted(system), system:
        print(f"broker   {system.settings.kafka.display}")
        print(f"redis    {system.settings.redis.display}")
        print(f"data     {system.settings.data_dir}")
        print(f"logs     {system.settings.data_dir / 'logs'}")
        if any(role.kind == "api" for role in processes):
            address = f"http://{settings.api.host}:{settings.api.port}"
            print(f"api      {address}/docs")
            if settings.api.dashboard:
                print(f"look     {address}/dashboard/")
        print("Ctrl-C stops it all", flush=True)
        system.over.wait()
        kinds = ", ".join(dict.fromkeys(role.kind for role in processes))
        print(f"stopping: {kinds}, servers (Ctrl-C again does not wait)", flush=True)
    if system.fault is not None:
        print(f"stopped because {system.fault}", file=sys.stderr)
        return 1
    return 0


def _echo(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
