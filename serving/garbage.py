"""The garbage collector, kept from holding up all lists."""

import gc
import time
from typing import Any, Final

#: All that was set aside is looked at again after so long.
_THAW_S: Final = 3_600.0


def set_survivors_aside() -> None:
    """Have the collector never again go through what it has gone through as a whole.

    It does so whenever a quarter has come on top, and with 100,000 items known that takes a third of a second in which
    nothing else is done. What survives is hardly ever garbage later: the catalogue, libraries, what users were shown.
    Once an hour, and when a model was replaced, all of it is looked at all the same.
    """
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
