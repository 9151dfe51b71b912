"""The published tables and figures: one file each, which holds a `DESIGN`. A new file here is found by its name.

Designs of a user's own lie in the folder `designs` of their configuration directory: `conf/designs` in the working
directory, or `$DIFFMAMBA_CONF/designs`. They add to those here; one with the name of one of ours does not replace it.
"""

import os
import pkgutil
from importlib import import_module
from pathlib import Path

from diffmamba.errors import SettingError
from diffmamba.reports.design import Design, FileDesign
from diffmamba.spelling import nearest

KINDS = ("table", "figure")
OURS = tuple(__path__)


def names(kind: str) -> list[str]:
    """The names of all designs of this kind, `table` or `figure`."""
    return sorted({module.name for module in pkgutil.iter_modules(_places()) if module.name.startswith(kind)})


def find(kind: str, name: str) -> Design | FileDesign:
    """The design of this kind and name. Raises SettingError if there is none, or if its file cannot be used.

    What a design is of may stand for its name: `lyapunov` finds the figure `figure_lyapunov`.
    """
    if name not in names(kind) and f"{kind}_{name}" in names(kind):
        name = f"{kind}_{name}"
    if name not in names(kind):
        raise SettingError(f"{kind}={name} is not known; {_advice(kind, name)}")
    __path__[:] = _places()
    try:
        design = import_module(f"{__name__}.{name}").DESIGN
    except Exception as error:  # a user's own file may raise anything
        said = str(error).partition("\n")[0]
        raise SettingError(f"{kind}={name}: its file fails with {type(error).__name__}: {said}") from error
    if not isinstance(design, Design | FileDesign) or (design.kind, design.name) != (kind, name):
        raise SettingError(f"{kind}={name}: DESIGN in its file must be a Design with name={name!r} and kind={kind!r}")
    return design


def of_files(kind: str) -> list[str]:
    """The names of those designs of this kind that are made of a file, not of runs."""
    return [name for name in names(kind) if _is_of_file(kind, name)]


def _is_of_file(kind: str, name: str) -> bool:
    try:
        return isinstance(find(kind, name), FileDesign)
    except SettingError:  # a file of the user's own that fails: whoever needs it says so
        return False


def _places() -> list[str]:
    """The folders of designs: this one, then the user's."""
    own = str((Path(os.environ.get("DIFFMAMBA_CONF", "conf")) / "designs").absolute())
    return list(dict.fromkeys([*OURS, own]))


def _advice(kind: str, name: str) -> str:
    for other in KINDS:
        if name in names(other):
            return f"it is a {other}: use {other}={name}"
    near = nearest(name, names(kind))
    guess = f"did you mean {kind}={near}? " if near else ""
    return f"{guess}There {'are' if len(names(kind)) > 1 else 'is'} {', '.join(names(kind))}"
