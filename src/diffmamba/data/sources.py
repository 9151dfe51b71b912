"""Where a corpus comes from: sources that hand over raw bytes piece by piece.

A fresh machine has real English at hand before it has a network: the docstrings and comments of Python's own standard
library (`PythonDocs`, the corpus `pydoc8`) and its source code (`PythonSource`, the Enwik8-like `pysrc8`).
`TextFile` is any file of the user's.
"""

import ast
import hashlib
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path
from typing import Protocol

from diffmamba.errors import SettingError

PIECE_BYTES = 1 << 20
SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})

# Outside strings and comments Python's grammar has neither quotes nor `#`, so scanning for these alone finds them all.
STRING_OR_COMMENT = re.compile(
    "|".join(
        [
            r'"{3}(?:[^\\"]|\\.|"(?!""))*"{3}',
            r"'{3}(?:[^\\']|\\.|'(?!''))*'{3}",
            r'"(?:[^\\"\n]|\\.)*"',
            r"'(?:[^\\'\n]|\\.)*'",
            r"#[^\n]*",
        ]
    ),
    re.DOTALL,
)


class Source(Protocol):
    """Raw text. Constructing one touches no file, so that errors surface when the source is used."""

    @property
    def name(self) -> str:
        """A short name, fit for a folder."""
        ...

    def fingerprint(self) -> str:
        """Hex hash of the raw content; a few seconds per gigabyte at most."""
        ...

    def describe(self) -> dict[str, str]:
        """Origin and revision, for the manifest of a prepared corpus."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """The content in order, in pieces that fit memory. Where it is cut has no meaning."""
        ...


class _Library:
    """The `.py` files of Python's standard library, or of the folder `root`, sorted by relative path."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else Path(sysconfig.get_path("stdlib"))

    def files(self) -> list[Path]:
        """Paths below `root`, without tests and installed packages.

        Raises `SettingError` if there are none, as in a Python that keeps its library in an archive.
        """
        kept = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
            kept += [Path(folder, name) for name in names if name.endswith(".py")]
        if not kept:
            raise SettingError(f"data.source.root: no Python files in {self.root}; data=text data.path=FILE would do")
        return sorted(kept, key=lambda path: path.relative_to(self.root).as_posix())

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self.files():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        for path in self.files():
            yield path.read_bytes()


class PythonSource(_Library):
    """The source code of Python's standard library, byte for byte, one file after the other.

    Args:
        root: another folder of Python files to take instead.
    """

    name = "pysrc8"

    def describe(self) -> dict[str, str]:
        return {"origin": "source code of Python's standard library", "revision": platform.python_version()}


class PythonDocs(_Library):
    """Docstrings and comments of Python's standard library in source order, as UTF-8; one piece per file.

    Args:
        root: another folder of Python files to take instead.
    """

    name = "pydoc8"

    def describe(self) -> dict[str, str]:
        origin = "docstrings and comments of Python's standard library"
        return {"origin": origin, "revision": platform.python_version()}

    def pieces(self) -> Iterator[bytes]:
        for content in super().pieces():
            prose = docs(content)
            if prose:
                yield prose.encode("utf-8", "replace")


def docs(content: bytes) -> str:
    """Docstrings and comments of one Python file in source order, each on lines of its own.

    Args:
        content: the file's bytes, encoding declaration and all.

    Returns:
        the prose, or "" where there is none or the file does not parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library's strings
            tree = ast.parse(content)
        text = decode_source(content)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    found = sorted([*_docstrings(tree), *_comments(text)], key=lambda entry: entry[:2])
    return "".join(f"{prose}\n" for _, _, prose in found if prose)


def _docstrings(node: ast.AST) -> Iterator[tuple[int, int, str]]:
    """`(line, 0, docstring)` of `node` and of what is defined in it; expressions, which define nothing, are skipped."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        prose = ast.get_docstring(node)
        if prose:
            yield node.body[0].lineno, 0, prose
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        statements = getattr(node, field, None)
        if isinstance(statements, list):
            for statement in statements:
                yield from _docstrings(statement)


def _comments(text: str) -> Iterator[tuple[int, int, str]]:
    """`(line, 1, comment)`, so that a comment sorts after a docstring of the same line.

    One regular expression instead of `tokenize`: the same comments (see the tests), twelve times as fast.
    """
    line, counted = 1, 0
    for match in STRING_OR_COMMENT.finditer(text):
        if text[match.start()] == "#":
            line += text.count("\n", counted, match.start())
            counted = match.start()
            yield line, 1, match.group().strip("#! \t")


class TextFile:
    """Any file of the user's.

    Args:
        path: the file; a relative path starts at the working directory of the command.

    Every use raises `SettingError` naming `data.path` if the file is missing, unreadable, empty or a directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()

    @property
    def name(self) -> str:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.stem).strip(".-") or "text"

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def describe(self) -> dict[str, str]:
        return {"origin": str(self.path), "revision": f"{self.path.stat().st_size} bytes"}

    def pieces(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                piece = file.read(PIECE_BYTES)
                if not piece:
                    raise SettingError(f"data.path: {self.path} is empty; give a file with text in it")
                while piece:
                    yield piece
                    piece = file.read(PIECE_BYTES)
        except FileNotFoundError:
            raise SettingError(f"data.path: there is no file {self.path}; give the path of a text file") from None
        except IsADirectoryError:
            raise SettingError(f"data.path: {self.path} is a directory; give the path of one text file") from None
        except OSError as error:
            raise SettingError(f"data.path: cannot read {self.path} ({error.strerror})") from error
