"""Files on disk and members of zip archives, read alike: what cannot be read raises `SettingError`."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffmamba.errors import SettingError

PIECE_BYTES = 1 << 20
File = Path | zipfile.Path


@contextmanager
def readable(what: object) -> Iterator[None]:
    """Raises `SettingError` in place of what can go wrong while a text is read. It names the file, or else `what`."""
    try:
        yield
    except FileNotFoundError as error:
        reason = f"there is no file {error.filename or what}"
        raise SettingError(f"data.path, data.source: {reason}; give a text file that is there") from None
    except OSError as error:
        reason = f"cannot read {error.filename or what} ({error.strerror or error})"
        raise SettingError(f"data.path, data.source: {reason}; give a text file that can be read") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SettingError(f"data.path: {what} is truncated or corrupted ({error}); get it again") from error


def size(file: File) -> int:
    """Bytes; of a member of an archive when unpacked."""
    with readable(file):
        return file.stat().st_size if isinstance(file, Path) else file.root.getinfo(file.at).file_size


def pieces(file: File) -> Iterator[bytes]:
    """The content in pieces of `PIECE_BYTES`."""
    with readable(file), file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


def digest(file: File, algorithm: str) -> str:
    """Hex digits of the content's hash. For a member this also checks the archive's own checksum."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    for piece in pieces(file):
        hashed.update(piece)
    return hashed.hexdigest()


def absolute(path: Path | str | int | None, setting: str = "data.path") -> Path | None:
    """A path that the working directory does not change any more; None stays None, and so does `null`, as it is typed.

    Raises `SettingError` as `given` does.
    """
    return None if path is None or path == "null" else given(path, setting)


def given(path: Path | str | int, setting: str = "data.path") -> Path:
    """The absolute path that a setting gives, with the user's home in the place of `~`.

    A name of digits is what YAML reads as a number. Raises `SettingError` for what it reads as something else.
    """
    if isinstance(path, bool) or not isinstance(path, Path | str | int) or not str(path):
        raise SettingError(f"{setting}={path} is no text for YAML; write {setting}=./NAME for a file of such a name")
    try:
        return Path(str(path)).expanduser().absolute()
    except RuntimeError:  # there is no such user: `~` is a part of the name
        return Path(str(path)).absolute()


def file_name(name: str) -> str:
    """A name that every disk takes, with the same letters, digits and dots."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:100] or "text"


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its name or, as in a cache of downloads, by its content."""
    return path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path))


def find(
    path: Path, url: str, forms: Sequence[Mapping[str, str]], archives: Sequence[str], folders: Sequence[str] = ()
) -> dict[str, File]:
    """The files of the parts of a corpus, by part.

    Args:
        path: what the user gave as `data.path`: a folder, an archive, or one of the files in a folder.
        url: where to get the files, for the message if they are not there.
        forms: the names that the files may have: for each form, the name of each part.
        archives: names of archives in `path` to look into as well. A plain file of the same name comes first.
        folders: names of folders in `path` to look into as well.
    """
    top = path.parent if path.is_file() else path
    found: dict[str, File] = {}
    for archive in [path] if is_archive(path) else filter(is_archive, (top / name for name in archives)):
        with readable(archive):
            root = zipfile.Path(archive)
        found |= {name.rsplit("/")[-1]: root / name for name in root.root.namelist() if not name.endswith("/")}
    if not is_archive(path):
        for folder in filter(Path.is_dir, (*(top / name for name in folders), top)):
            found |= {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
    for form in forms:
        if found.keys() >= set(form.values()):
            return {part: found[name] for part, name in form.items()}
    missing = ", ".join(name for name in forms[0].values() if name not in found)
    raw = [f"; {file} is the raw form, without <unk>" for name, file in found.items() if name.endswith(".raw")]
    raise SettingError(
        f"data.path: there is no {missing} (and no {archives[0]}) in {path}{''.join(raw[:1])}; get {url} and give its "
        f"folder, or data.path=null to download it"
    )
