"""The garbage collector, kept from holding up all lists."""

import gc
import time
from typing import Any, Final

#: All that was set aside is looked at again after so long.
_THAW_S: Final = 3_600.0
#: The newest objects are looked through after so many more. 700, as it is otherwise, costs lists a few hundredths of
#: their time, and a role a seventh of its start.
_ALLOCATIONS: Final = 10_000


def collect_seldom() -> None:
    """Have the collector look for garbage less often, and never again go through what it has once gone through whole.

    It does that whenever a quarter has come on top, and with 100,000 items known that takes a third of a second in
    which nothing else is done. What survives is hardly ever garbage later: the catalogue, libraries, what users were
    shown. Once an hour, and when a model was replaced, all of it is looked at all the same.
    """
    gc.set_threshold(_ALLOCATIONS)
    thawed = time.monotonic()

    def collected(phase: str, info: dict[str, Any]) -> None:
        nonlocal thawed
        if phase != "stop" or info["generation"] < 2:
            return
        if time.monotonic() - thawed < _THAW_S:
            gc.freeze()
        else:
            gc.unfreeze()  # the next collection goes through it
            thawed = time.monotonic()

    gc.callbacks.append(collected)


def look_at_all() -> None:
    """Collect what has become garbage among what was set aside too."""
    gc.unfreeze()
    gc.collect()
