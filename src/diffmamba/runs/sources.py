"""The sources of what a run is built of: has the code changed since?

A run's name follows from what is handed to constructors, not from what these do. So a record also keeps a digest of
every module that takes part: those that define the classes of the built parts, and all that these import, as far as
they are ours or the user's own. Python's library and installed packages are in the record's `versions`.

A digest is of the module's syntax tree without docstrings, so comments and formatting do not count. The tree depends on
Python's version, so digests of two versions are not compared. The modules that call the compiled CPU operators count
with the C++ beside them, whichever operators run.
"""

import ast
import hashlib
import importlib.machinery
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from diffmamba.configuration import PACKAGE

OURS = PACKAGE.name
SOURCES = PACKAGE / "ops" / "cpu"  # where the C++ of the CPU operators is
LIBRARIES = ("torch", "lightning", "transformers", "mamba_ssm", "causal_conv1d")  # large, and at times beside our files
INSTALLED = ("site-packages", "dist-packages")
GONE = " (gone)"
TOLD = 3  # modules in a line
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
Sources = Mapping[str, Any]
"""What a record keeps: `python`, the `digests` by module, the `files` of the user's own modules, and in `mixed` the
modules that changed between the sessions of an interrupted run."""
_loaded: "WeakKeyDictionary[ModuleType, str]" = WeakKeyDictionary()  # what this process computes with


def of(modules: Iterable[str]) -> dict[str, Any]:
    """The sources of these modules and of all that they import, as this process has them."""
    found: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name not in found and _own(name) and (digest := _now(name)):
            found[name] = digest
            pending += _imports(name)
    files = {name: str(_own(name)) for name in found if name.partition(".")[0] != OURS}
    return {"python": PYTHON, "digests": dict(sorted(found.items())), "files": dict(sorted(files.items())), "mixed": []}


def defining(target: str) -> str:
    """The module that defines what a dotted name means: `diffmamba.mixers.mamba2` for `diffmamba.mixers.Mamba2`."""
    module, _, name = target.rpartition(".")
    while module and _own(module) is None:  # an attribute of a class
        module, _, name = module.rpartition(".")
    return _needed(module, name) if module else target


def changed(record: Mapping[str, Any]) -> list[str]:
    """The modules that differ now from those that a run was made with, in words. Nothing is imported.

    Empty too where that cannot be known: see `comparable`.
    """
    if not comparable(record):
        return []
    sources = record["sources"]
    files, found = sources["files"], list(sources.get("mixed", []))
    for name, digest in sources["digests"].items():
        now = _now(name, files.get(name))
        if now != digest and name not in found:
            found.append(name if now else name + GONE)
    return found


def names(told: Iterable[str]) -> list[str]:
    """The modules that `changed` tells, without words."""
    return [name.removesuffix(GONE) for name in told]


def some(told: Iterable[str]) -> str:
    """The first modules that `changed` tells, in one line, and how many more there are."""
    found = list(dict.fromkeys(told))
    return ", ".join(found[:TOLD]) + (f" and {len(found) - TOLD} more" if len(found) > TOLD else "")


def comparable(record: Mapping[str, Any]) -> bool:
    """Whether a record has sources, of this version of Python."""
    sources = record.get("sources") or {}
    return sources.get("python") == PYTHON and {"digests", "files"} <= sources.keys()


def differing(one: Sources | None, other: Sources | None) -> list[str]:
    """The modules that two runs share and that differ between them. Empty where that cannot be known."""
    if not one or not other or one.get("python") != other.get("python"):
        return []
    first, second = one.get("digests", {}), other.get("digests", {})
    mixed = {*one.get("mixed", []), *other.get("mixed", [])}
    return sorted(name for name in first.keys() & second.keys() if first[name] != second[name] or name in mixed)


def _now(name: str, kept: str | None = None) -> str | None:
    """The digest of a module as this process has loaded it, or else as its file is now; None if there is none."""
    module = sys.modules.get(name)
    if module is not None and module in _loaded:
        return _loaded[module]
    read = _read(_own(name) or (Path(kept) if kept else None))
    if read is None:
        return None
    if module is not None:
        _loaded[module] = read.digest
    return read.digest


@dataclass(frozen=True)
class _Module:
    """What is kept of a file: the digest of its syntax tree, and what it imports.

    An import is a module as it is written (`..module`), a name from it, and what that is called here; or a module.
    """

    digest: str
    imports: tuple[tuple[str, str, str], ...]


@cache
def _parsed(path: Path, changed_at: int, beside: str) -> _Module:
    """A file of Python. `changed_at` is the time of its last change, and `beside` what counts with it."""
    tree, imports = ast.parse(path.read_bytes()), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
        elif isinstance(node, ast.Import):
            imports += [(alias.name, "", "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            imports += [(base, alias.name, alias.asname or alias.name) for alias in node.names]
    text = ast.dump(tree, annotate_fields=False) + beside
    return _Module(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12], tuple(imports))


def _read(path: Path | None) -> _Module | None:
    """The same for a file as it is now; None where it is missing or no Python."""
    try:
        return _parsed(path, path.stat().st_mtime_ns, _native() if path.parent == SOURCES else "") if path else None
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@cache
def _native() -> str:
    """A digest of the C++ of the CPU operators, as this process compiles it, without comments and formatting."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp"))
    words = [re.sub(r"//.*", "", path.read_text(encoding="utf-8")).split() for path in files]
    return hashlib.sha256(repr(words).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a text: a docstring, also one below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(name: str) -> list[str]:
    """The modules that a module imports, anywhere in it."""
    path = _own(name)
    read = _read(path)
    return [_needed(_absolute(base, name, path), part) for base, part, _ in read.imports] if path and read else []


def _needed(module: str, name: str, passed_on: frozenset[str] = frozenset()) -> str:
    """The module that `from module import name` needs. What a package only passes on comes from where it is defined.

    `passed_on` are the packages that the name has come through.
    """
    if not name:
        return module
    if _own(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    path = _own(module)
    read = _read(path) if path and path.stem == "__init__" and module not in passed_on else None
    for base, original, here in read.imports if read else ():
        if here == name:
            return _needed(_absolute(base, module, path), original, passed_on | {module})
    return module


def _absolute(base: str, name: str, path: Path | None) -> str:
    """The full name of a module as module `name` writes it, with a dot for each level upwards."""
    relative = base.lstrip(".")
    level = len(base) - len(relative)
    if not level:
        return base
    is_package = path is not None and path.stem == "__init__"
    above = name.split(".")[: len(name.split(".")) - level + is_package]
    return ".".join([*above, *([relative] if relative else [])])


def _own(name: str) -> Path | None:
    """The file of a module that is ours or the user's; None for Python's own, installed and missing ones."""
    top, *below = name.split(".")
    if top == OURS:
        return _file(PACKAGE, below)
    if top in sys.stdlib_module_names or top in LIBRARIES:
        return None
    loaded = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
    path = Path(loaded) if isinstance(loaded, str) else _unloaded(top, tuple(below), tuple(sys.path))
    if path is None or path.suffix != ".py":
        return None
    above = [*path.parents][len(below) + (path.stem == "__init__") :]
    return None if set(INSTALLED) & set(path.parts) or (above and _installs(above[0])) else path


@cache
def _installs(directory: Path) -> bool:
    """Whether packages were installed into this directory, by `pip install --target` say."""
    return next(directory.glob("*.dist-info"), None) is not None


@cache
def _unloaded(top: str, below: tuple[str, ...], places: tuple[str, ...]) -> Path | None:
    """The file of a module that Python would import, found without importing it."""
    try:
        spec = importlib.machinery.PathFinder.find_spec(top, list(places))
    except (ImportError, ValueError):
        return None
    if spec is None or (below and not spec.submodule_search_locations):
        return None
    if spec.submodule_search_locations:
        return _file(Path(next(iter(spec.submodule_search_locations))), list(below))
    return Path(spec.origin) if spec.origin else None


def _file(package: Path, below: list[str]) -> Path | None:
    """The file of a module below a package's directory."""
    path = package.joinpath(*below)
    candidates = (path / "__init__.py", path.with_suffix(".py")) if below else (path / "__init__.py",)
    return next((candidate for candidate in candidates if candidate.is_file()), None)
