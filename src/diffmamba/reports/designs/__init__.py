"""The published tables and figures: one file each, which holds a `DESIGN`. A new file here is found by its name."""

import pkgutil
from importlib import import_module
from typing import cast

from diffmamba.errors import SettingError
from diffmamba.reports.design import Design, kind

HUES = {"mamba": "#4d4d4d", "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
"""The colours of the paper's models in all pictures, of Okabe and Ito."""


def names(kind_: str) -> list[str]:
    """The names of all designs of this kind, `table` or `figure`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if kind(module.name) == kind_)


def find(kind_: str, name: str) -> Design:
    """The design of this kind and name."""
    if name not in names(kind_):
        raise SettingError(f"{kind_}={name} is not known; use one of {', '.join(names(kind_))}")
    return cast(Design, import_module(f"{__name__}.{name}").DESIGN)
