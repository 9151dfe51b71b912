"""What the pages of a site were drawn from, so that the next build draws only those whose sources have changed.

`reports/.site/manifest.json` has a digest of its inputs for each page. It is a cache: if it is lost or of another
version of the package, all is drawn again.
"""

import hashlib
import json
import os
from collections.abc import Iterator
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


def read(reports: Path) -> dict[str, str]:
    """The digest of each page's inputs, by its path in the site."""
    try:
        pages = json.loads((reports / FOLDER / NAME).read_text(encoding="utf-8"))["pages"]
        return {str(page): str(inputs) for page, inputs in pages.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def write(reports: Path, pages: dict[str, str]) -> None:
    """Keeps the digests."""
    atomic.write(reports / FOLDER / NAME, json.dumps({"pages": pages}, indent=0, ensure_ascii=False) + "\n")


@contextmanager
def alone(reports: Path) -> Iterator[None]:
    """Makes the folder of the site and waits until no other build works in it.

    Where the file system has no such locks, two builds work at once: a page is then whole, but may be that of either.
    """
    import fcntl

    folder = reports / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
