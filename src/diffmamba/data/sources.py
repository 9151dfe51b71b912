"""Where a corpus comes from: sources that hand over raw bytes piece by piece.

A fresh machine has real English at hand before it has a network: the docstrings and comments of Python's own standard
library (`PythonDocs`, the corpora `pydoc8` and `pydoc_words`) and its source code (`PythonSource`, the Enwik8-like
`pysrc8`). `TextFile` is any file of the user's. The published corpora are in `published` and
`wikitext`.
"""

import ast
import hashlib
import os
import platform
import re
import sysconfig
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path
from typing import Any

from diffmamba.data.files import RawFile
from diffmamba.errors import SettingError

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


class Source(ABC):
    """Raw text in one part, which is split by position, or in the three parts `train`, `val` and `test`.

    Constructing one touches no file, so that errors surface when the source is used. To prepare a corpus, `fetch` is
    called first, then the rest; to open a prepared one, `name` and `fingerprint` alone.
    """

    name: str
    """A short name, fit for a folder."""
    parts: tuple[str, ...] = ("text",)
    """Names of the parts, in the order in which they are read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex hash that stands for the content; a few seconds per gigabyte at most."""

    def fetch(self) -> None:  # noqa: B027 - most have nothing to fetch
        """Gets hold of the content, and raises `SettingError` if it is seen at little cost to be the wrong one."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Origin and revision, for the manifest of a prepared corpus."""

    @abstractmethod
    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        """A part from its piece `start` on, in pieces that fit memory.

        Where it is cut has no meaning, but is the same each time: an interrupted preparation goes on between two
        pieces, and those before are not read again.
        """

    def size(self, part: str) -> int | None:
        """Bytes of a part, about; None where only reading would tell."""
        return None

    def check(self, sizes: dict[str, int], vocabulary: int | None = None) -> None:  # noqa: B027 - most are as they are
        """Raises `SettingError` if this is not the corpus it should be.

        Args:
            sizes: symbols of the splits that are known by now.
            vocabulary: number of different symbols, once that is known.
        """


class _Library(Source):
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

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        for path in self.files()[start:]:
            yield path.read_bytes()


class PythonSource(_Library):
    """The source code of Python's standard library, byte for byte, one file after the other.

    Args:
        root: another folder of Python files to take instead.
    """

    name = "pysrc8"

    def describe(self) -> dict[str, Any]:
        return {"origin": "source code of Python's standard library", "revision": platform.python_version()}


class PythonDocs(_Library):
    """Docstrings and comments of Python's standard library in source order, as UTF-8; one piece per file.

    Args:
        root: another folder of Python files to take instead.
        name: what to call the corpus: `pydoc8`, or `pydoc_words` where words are its symbols.
    """

    def __init__(self, root: str | Path | None = None, name: str = "pydoc8") -> None:
        super().__init__(root)
        self.name = name

    def describe(self) -> dict[str, Any]:
        origin = "docstrings and comments of Python's standard library"
        return {"origin": origin, "revision": platform.python_version()}

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        for content in super().pieces(part, start):
            yield docs(content).encode("utf-8", "replace")


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


class TextFile(Source):
    """Any file of the user's.

    Args:
        path: the file; a relative path starts at the working directory of the command.

    Every use raises `SettingError` naming `data.path` if the file is missing, unreadable, empty or a directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = RawFile(Path(path).expanduser().absolute())
        self.name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.file.path.stem).strip(".-") or "text"

    def fingerprint(self) -> str:
        return self.file.hash("sha256")

    def describe(self) -> dict[str, Any]:
        return {"origin": str(self.file), "revision": f"{self.file.size} bytes"}

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        return self.file.pieces(start)

    def size(self, part: str) -> int:
        return self.file.size
