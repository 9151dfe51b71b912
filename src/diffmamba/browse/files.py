"""The files of a run, and how much room they take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UNITS = ("kB", "MB", "GB", "TB")


def files_below(path: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a directory, or the file itself, with its size. One that vanishes meanwhile is left out."""
    for file in sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(OSError):
            if file.is_symlink() or file.is_file():
                yield file, file.lstat().st_size


def bytes_below(path: Path) -> int:
    """The sizes of all files below a directory, or of the file itself."""
    return sum(size for _, size in files_below(path))


def size(count: float) -> str:
    """A number of bytes for people: 812 bytes, 3.1 MB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in UNITS:
        count /= 1000
        if count < 999.5 or unit == UNITS[-1]:
            return f"{count:.1f} {unit}" if count < 99.95 else f"{count:.0f} {unit}"
    raise AssertionError
