"""What the pages of a site were drawn from, so that the next build draws only those whose sources have changed.

`reports/.site/manifest.json` has a digest of its inputs for each page, and the state of its file. It is a cache: if it
is lost or of another version of the package, all is drawn again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.configuration import CONF, PACKAGE

FOLDER = ".site"
NAME = "manifest.json"
DRAWN_BY = ("bokeh", "matplotlib", "jinja2")
"""The libraries that pages depend on."""
KINDS = (".py", ".html", ".css", ".js", ".md", ".yaml", ".mplstyle")


def digest(*inputs: Any) -> str:
    """Names these inputs: plain values."""
    return hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=8).hexdigest()


def stamp() -> str:
    """Names all that pages depend on beside the store: our sources, all configurations, and the libraries that draw."""
    own = Path(os.environ.get("DIFFMAMBA_CONF", "conf")).absolute()
    found = hashlib.blake2b(digest_size=8)
    for root in dict.fromkeys(path.resolve() for path in (PACKAGE, Path(CONF), own) if path.is_dir()):
        for folder, folders, names in os.walk(root, followlinks=True):
            folders.sort()
            for name in sorted(names):
                if name.endswith(KINDS):
                    with suppress(OSError):  # gone meanwhile
                        found.update(f"{folder}/{name}".encode() + Path(folder, name).read_bytes())
    for library in DRAWN_BY:
        with suppress(PackageNotFoundError):
            found.update(f"{library} {version(library)}".encode())
    return found.hexdigest()


Drawn = list[Any]
"""The digest of a page's inputs, and the state of its file once it was drawn: others may have written it since."""


def read(reports: Path) -> dict[str, Drawn]:
    """What was drawn, by the path in the site."""
    try:
        pages = json.loads((reports / FOLDER / NAME).read_text(encoding="utf-8"))["pages"]
        return {str(page): drawn for page, drawn in pages.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def state(file: str | Path) -> list[int]:
    """What tells whether a file is the same: time, size and inode; empty where there is none."""
    with suppress(OSError):
        told = os.stat(file)
        return [told.st_mtime_ns, told.st_size, told.st_ino]
    return []


def write(reports: Path, pages: Mapping[str, Drawn]) -> None:
    """Keeps what was drawn."""
    atomic.write(reports / FOLDER / NAME, json.dumps({"pages": pages}, indent=0, ensure_ascii=False) + "\n")


_locks: set[int] = set()
"""The locks that this process holds or waits for."""


def release() -> None:
    """In a forked child: lets go of the locks of its parent, which else would last as long as the child."""
    while _locks:
        os.close(_locks.pop())


@contextmanager
def alone(reports: Path, told: Callable[[str], object] = lambda line: None) -> Iterator[None]:
    """Makes the folder of the site and waits until no other build works in it. It is told if it has to wait.

    Where the file system has no such locks, two builds work at once: a page is then whole, but may be that of either.
    """
    import fcntl

    folder = reports / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    _locks.add(descriptor)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told(f"another build works in {reports}; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        _locks.discard(descriptor)
        os.close(descriptor)
