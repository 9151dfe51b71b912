"""The published tables and figures: one file each, which holds a `DESIGN`. A new file here is found by its name."""

import pkgutil
from importlib import import_module
from typing import cast

from diffmamba.errors import SettingError
from diffmamba.reports.design import Design


def names(kind: str) -> list[str]:
    """The names of all designs of this kind, `table` or `figure`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith(kind))


def find(kind: str, name: str) -> Design:
    """The design of this kind and name."""
    if name not in names(kind):
        raise SettingError(f"{kind}={name} is not known; use one of {', '.join(names(kind))}")
    return cast(Design, import_module(f"{__name__}.{name}").DESIGN)
