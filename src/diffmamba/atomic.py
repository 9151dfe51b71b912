"""The one way in which this package writes a file that others may read: all of it, or not at all.

The content goes to a temporary file in the same directory, is forced to the disk, and takes the final name in one
step. A reader sees the old file or the new one. A process that is killed leaves the old file, and the temporary one
until somebody calls `remove_leftovers`. A file that grows by lines is read up to its last complete line.
"""

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

Check = Callable[[], object]
"""Called right before a file takes its final name. If it raises, the old file stays."""


@contextmanager
def replacing(path: Path, before: Check = lambda: None) -> Iterator[IO[bytes]]:
    """A binary file to write. It takes the place of `path` when the block ends, and vanishes if the block fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before()
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say which file
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> int:
    """Makes a file that is not there yet, of a few bytes, and returns its descriptor. One process alone can do so.

    A reader may see it empty for an instant. Raises FileExistsError where it is there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException as error:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    return descriptor


def create_whole(path: Path, content: bytes) -> None:
    """Makes a file that is not there yet, which nobody sees before it has this content. One process alone can do so.

    Where the file system has no hard links, two processes may do so in the same instant, and the last one counts.
    Raises FileExistsError where it is there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        os.close(create(temporary, content))
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            if path.exists():
                raise FileExistsError(path) from None
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes | str, before: Check = lambda: None) -> None:
    """Replaces a file by this content; text is written as UTF-8."""
    with replacing(path, before) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_together(directory: Path, contents: Mapping[str, bytes | str]) -> None:
    """Replaces files of one directory that belong together, by their names: all of them, or none if one fails.

    Each is on the disk in full before the first takes its final name. The directory is made if need be.
    """
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            for name, content in contents.items():
                file = stack.enter_context(replacing(directory / name))
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
    except OSError:
        if is_new:
            directory.rmdir()
        raise


def write_json(path: Path, content: Any, before: Check = lambda: None) -> None:
    """Replaces a file by this content as JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", before)


def append(path: Path, line: str, lasting: bool = False) -> None:
    """Adds a line to a text file, with its end. `lasting`: all lines so far are forced to the disk."""
    with path.open("ab") as file:
        file.write(line.encode())
        if lasting:
            file.flush()
            os.fsync(file.fileno())


def remove_leftovers(directory: Path) -> None:
    """Removes what killed writers left below a directory that nobody else writes to now."""
    for leftover in directory.rglob(".*.new"):
        leftover.unlink(missing_ok=True)
