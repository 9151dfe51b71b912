"""Raw files: files on disk and members of zip archives, read alike, in pieces of one size."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from diffmamba.errors import SettingError

PIECE_BYTES = 1 << 20


class RawFile:
    """A file, or a member of a zip archive. Archives are never unpacked.

    Args:
        path: the file or the archive.
        member: name inside the archive; None for a plain file.

    Every use raises `SettingError` naming `data.path` if it is missing, unreadable, damaged or a directory.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path = path
        self.member = member

    def __str__(self) -> str:
        return f"{self.path}" if self.member is None else f"{self.path} ({self.member})"

    @property
    def size(self) -> int:
        """Bytes; of a member when unpacked."""
        with _explained(self):
            if self.member is None:
                return self.path.stat().st_size
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).file_size

    def pieces(self) -> Iterator[bytes]:
        """The content in pieces of `PIECE_BYTES`. An empty file is an error."""
        with _explained(self), self._open() as file:
            piece = file.read(PIECE_BYTES)
            if not piece:
                raise SettingError(f"data.path: {self} is empty; give a file with text in it")
            while piece:
                yield piece
                piece = file.read(PIECE_BYTES)

    def hash(self, algorithm: str) -> str:
        """Hex digits of the content's hash. For a member this also checks the archive's own checksum."""
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file


@contextmanager
def _explained(file: RawFile) -> Iterator[None]:
    """Raises `SettingError` in place of what can go wrong while a file is read."""
    try:
        yield
    except FileNotFoundError:
        raise SettingError(f"data.path: there is no file {file.path}; give the path of a text file") from None
    except IsADirectoryError:
        raise SettingError(f"data.path: {file.path} is a directory; give the path of one text file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SettingError(
            f"data.path: {file} is truncated or corrupted ({error}); delete it and get it again"
        ) from error
    except OSError as error:
        raise SettingError(f"data.path: cannot read {file.path} ({error.strerror})") from error


def absolute(path: str | Path | None) -> Path | None:
    """A path that the working directory does not change any more, `~` replaced; None stays None."""
    return None if path is None else Path(path).expanduser().absolute()


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its name or, as in a cache of downloads, by its content."""
    return path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path))


def members(path: Path) -> dict[str, RawFile]:
    """The files in a zip archive by their names without folders. Raises `SettingError` if it cannot be read."""
    with _explained(RawFile(path)), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    return {name.rsplit("/")[-1]: RawFile(path, name) for name in names}


def files_at(path: Path, folders: Iterable[str] = (), archives: Iterable[str] = ()) -> dict[str, RawFile]:
    """The files that a user's `data.path` leads to, by their names.

    Args:
        path: a folder, an archive, or one of the files in a folder.
        folders: names of folders in `path` to look into as well.
        archives: names of archives in `path` to look into as well. A plain file of the same name comes first.

    Raises `SettingError` if there is nothing at `path`.
    """
    if not path.exists():
        raise SettingError(f"data.path: there is no folder or file {path}; give the folder of the corpus")
    if is_archive(path):
        return members(path)
    top = path if path.is_dir() else path.parent
    found: dict[str, RawFile] = {}
    for archive in (top / name for name in archives):
        found |= members(archive) if archive.is_file() else {}
    for folder in (*(top / name for name in folders), top):
        if folder.is_dir():
            found |= {file.name: RawFile(file) for file in sorted(folder.iterdir()) if file.is_file()}
    return found
