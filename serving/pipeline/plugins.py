"""Components by name, or by the import path of a team's own class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

# loaded before a folder is searched that may have a `deploy` too: an editable install is found only after `sys.path`
import deploy  # noqa: F401
from streams.settings.settings import SettingsError


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
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that no file there hides a package of ours or an installed one
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"pipeline: the {what} {name!r} cannot be imported: {error}") from None
