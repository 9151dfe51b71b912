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
    """A file, or a member of a zip archive; archives are never unpacked.

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
        """Bytes, those of a member uncompressed."""
        with _explained(self):
            if self.member is None:
                return self.path.stat().st_size
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).file_size

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The content from piece `start` on, in pieces of `PIECE_BYTES`. An empty file is an error."""
        with _explained(self), self._open() as file:
            file.seek(start * PIECE_BYTES)
            piece = file.read(PIECE_BYTES)
            if not piece and not start:
                raise SettingError(f"data.path: {self} is empty; give a file with text in it")
            while piece:
                yield piece
                piece = file.read(PIECE_BYTES)

    def hash(self, algorithm: str) -> str:
        """Hex digits of the content's hash; reading an archive's member to its end also checks the archive's own."""
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
    """What can go wrong while reading a file, in plain words."""
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


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its name or, as in a cache of downloads, by its content."""
    return path.suffix == ".zip" or (path.is_file() and zipfile.is_zipfile(path))


def members(path: Path) -> dict[str, RawFile]:
    """The files in a zip archive by their names without folders. Raises `SettingError` if it cannot be read."""
    with _explained(RawFile(path)), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    return {name.rsplit("/")[-1]: RawFile(path, name) for name in names}


def customary(path: Path, folders: Iterable[str] = (), archives: Iterable[str] = ()) -> dict[str, RawFile]:
    """The files that a user's `data.path` leads to, by their names.

    Args:
        path: a folder, an archive, or one of the files in a folder.
        folders: names of folders below `path` to look into as well.
        archives: names of archives in `path` to look into, where the folders do not have the same file.

    Raises `SettingError` if there is nothing at `path`.
    """
    if not path.exists():
        raise SettingError(f"data.path: there is no folder or file {path}; give the folder of the corpus")
    if path.is_file() and is_archive(path):
        return members(path)
    top = path if path.is_dir() else path.parent
    found: dict[str, RawFile] = {}
    for archive in (top / name for name in archives):
        found |= members(archive) if archive.is_file() else {}
    for folder in (*(top / name for name in folders), top):
        if folder.is_dir():
            found |= {file.name: RawFile(file) for file in sorted(folder.iterdir()) if file.is_file()}
    return found
