"""A supervised child process: it dies with its parent, Ctrl-C passes it by, and its output goes to a bounded log."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")
_LINE_MAX = 16_384
_TAIL_LINES = 20
#: Colours and cursor moves, which a program may write even where it writes to no terminal.
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Child:
    """One running program.

    It has a session and process group of its own, so a Ctrl-C on the terminal does not reach it and the order of
    stopping is its parent's. Should the parent die in whatever way, it is killed. On Linux that goes by thread: start
    it from one that lives as long as the program is to run, the main thread as a rule.

    Attributes:
        name: what messages and the log call it.
        started_at: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_file: Path,
        log_max_bytes: int = 4_000_000,
        env: Mapping[str, str] | None = None,
        echo: Callable[[str], None] | None = None,
        on_exit: Callable[["Child"], None] | None = None,
    ) -> None:
        """Start the program.

        Args:
            argv: the program's full path and its arguments.
            log_file: gets stdout and stderr; past `log_max_bytes` it is moved to `<name>.1` and begun anew.
            env: the whole environment; by default this process's.
            echo: called with each line as well, in another thread.
            on_exit: called in another thread when the program has ended without `stop` or `kill`.

        Raises:
            OSError: the log file cannot be written, or there is no such program.
        """
        self.name = name
        self.started_at = time.time()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._asked_to_stop = False
        self._log = _BoundedLog(log_file, log_max_bytes)
        self._echo = echo
        self._on_exit = on_exit
        program = Path(argv[0])
        if not os.access(program, os.X_OK):
            raise PermissionError(f"{name}: {program} is not there or cannot be executed")
        self._process = subprocess.Popen(
            # -I and -S: the leash shall start fast and see nothing of ours
            [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        self._pump = threading.Thread(target=self._read_output, name=f"{name}-output", daemon=True)
        self._pump.start()
        threading.Thread(target=self._await_exit, name=f"{name}-exit", daemon=True).start()

    @property
    def pid(self) -> int:
        """The program's process id, which is its process group's as well."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0, the signal that ended it."""
        return self._process.poll()

    def last_lines(self) -> str:
        """The end of what the program wrote, to put into an error message."""
        return "\n".join(self._tail)

    def describe_exit(self) -> str:
        """How the program ended and what it wrote last, in words."""
        code = self.exit_code
        if code is None:
            how = "still runs"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        lines = self.last_lines()
        return f"{self.name} {how}" + (f"; its last lines:\n{lines}" if lines else " and wrote nothing")

    def terminate(self) -> None:
        """Ask the program to end, once, without waiting."""
        if not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.terminate()

    def stop(self, grace_s: float = 10.0) -> int:
        """Ask the program to end; after `grace_s` seconds kill it and all its own children. Returns its exit code."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        return self.kill()

    def kill(self) -> int:
        """End the program and all of its own children at once; returns its exit code."""
        self._asked_to_stop = True
        self._kill_group()
        code = self._process.wait()
        self._pump.join(timeout=1.0)
        return code

    def _kill_group(self) -> None:
        # the group outlives its leader while a member lives; on macOS a group of zombies alone answers EPERM
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read_output(self) -> None:
        stream: IO[bytes] | None = self._process.stdout
        if stream is None:
            return
        with stream, self._log:
            while line := stream.readline(_LINE_MAX):
                self._log.write(line)
                text = _TERMINAL_CODE.sub("", line.decode(errors="replace")).rstrip()
                self._tail.append(text)
                if self._echo is not None:
                    self._echo(text)

    def _await_exit(self) -> None:
        self._process.wait()
        if self._asked_to_stop:
            return
        self._kill_group()
        self._pump.join(timeout=1.0)
        if self._on_exit is not None:
            self._on_exit(self)


class _BoundedLog:
    """A log file and one older one beside it, each of about `max_bytes` at most."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        if self._file.tell() > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
        self._file.write(line)

    def __enter__(self) -> "_BoundedLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
