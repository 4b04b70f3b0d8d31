"""Components by name, or by the import path of a team's own class."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from streams.settings import SettingsError


def component(name: str, known: Mapping[str, Any], what: str) -> Any:
    """The class called `name`, or at the import path `package.module:Class`.

    Raises:
        SettingsError: there is none.
    """
    if name in known:
        return known[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise SettingsError(
            f"pipeline: no {what} is called {name!r}; known are {', '.join(sorted(known))}, and one's own as "
            "'package.module:Class'"
        )
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"pipeline: the {what} {name!r} cannot be imported: {error}") from None
