"""Becomes another program that ends when its parent does, even by SIGKILL: `python leash.py PARENT_PID PROGRAM [ARG…]`.

It is run by path, in an interpreter of its own, so it imports nothing but the standard library.
"""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5


def main(argv: list[str]) -> None:
    """Tie this process to `argv[1]`, its parent, and become `argv[2:]`."""
    parent = int(argv[1])
    if sys.platform == "linux":
        # kept over exec; the kernel sends it when the parent's thread that started this process ends
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    else:
        watch(parent)
    if os.getppid() != parent:
        sys.exit("the parent has ended already")
    os.execv(argv[2], argv[2:])  # noqa: S606  that it becomes another program is all it is for


def watch(parent: int) -> None:
    """Leave a small process behind that kills this one soon after `parent` has ended, where the kernel does not."""
    leashed = os.getpid()
    if os.fork() != 0:
        return
    # a signal to the leashed process's group shall not end the watch before it
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    while os.getppid() == leashed:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(leashed, signal.SIGKILL)
            break
        time.sleep(_POLL_S)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv)
