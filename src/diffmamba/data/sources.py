"""Where a corpus comes from: sources that give raw bytes piece by piece.

Every machine with Python has real English, without a network: the docstrings and comments of Python's standard library
(`PythonDocs`, the corpora `pydoc8` and `pydoc_words`) and its source code (`PythonSource`, the corpus `pysrc8`, similar
to Enwik8). `TextFile` is any file of the user. The published corpora are in `published` and `wikitext`.
"""

import ast
import hashlib
import json
import os
import platform
import re
import sysconfig
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path
from typing import Any, ClassVar

from diffmamba.data.raw_file import RawFile, absolute
from diffmamba.errors import SettingError

SPLITS = ("train", "val", "test")
SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})

# Outside strings and comments Python has neither quotes nor `#`, so a search for these alone finds all comments.
STRING_OR_COMMENT = re.compile(
    r'"{3}(?:[^\\"]|\\.|"(?!""))*"{3}'
    r"|'{3}(?:[^\\']|\\.|'(?!''))*'{3}"
    r'|"(?:[^\\"\n]|\\.)*"'
    r"|'(?:[^\\'\n]|\\.)*'"
    r"|#[^\n]*",
    re.DOTALL,
)


class Source(ABC):
    """Raw text in one part, which is split by position, or in the three parts `train`, `val` and `test`.

    Making one touches no file; errors show when it is used. To prepare a corpus, `fetch` is called before `describe`
    and `pieces`. To open a prepared one, only `name` and `fingerprint` are needed.

    The public attributes that `__init__` sets are the arguments it was given. Sources of one class with the same
    arguments are equal.
    """

    name: str
    """A short name that can be part of a folder's name."""
    parts: tuple[str, ...] = ("text",)
    """Names of the parts, in the order in which they are read."""
    places: ClassVar[tuple[str, ...]] = ()
    """Arguments that say only where to get a text that is known without them."""

    def settings(self) -> dict[str, Any]:
        """The arguments it was given, as plain data."""
        public = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {key: str(value) if isinstance(value, Path) else value for key, value in public.items()}

    def describe_choice(self) -> dict[str, Any]:
        """Which text is meant, as plain data and without reading it: the class and the arguments except `places`."""
        settings = {key: value for key, value in self.settings().items() if key not in self.places}
        return {"source": type(self).__name__, **settings}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and type(self) is type(other) and self.settings() == other.settings()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.settings(), sort_keys=True)))

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that stands for the content, in hex digits. It takes a few seconds per gigabyte at most."""

    def fetch(self) -> None:  # noqa: B027 - most have nothing to fetch
        """Downloads or finds the content; raises `SettingError` if a quick look shows that it is the wrong one."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Origin and revision, for the manifest of a prepared corpus."""

    @abstractmethod
    def pieces(self, part: str) -> Iterator[bytes]:
        """The bytes of a part, in pieces that fit into memory. Where they are cut has no meaning."""

    def size(self, part: str) -> int | None:
        """Bytes of a part, roughly; None if it must be read to know."""
        return None

    def check(self, sizes: dict[str, int], vocabulary: int | None = None) -> None:  # noqa: B027 - most can be any text
        """Raises `SettingError` if this is not the corpus it should be.

        Args:
            sizes: symbols of the splits that are known by now.
            vocabulary: number of different symbols, once that is known.
        """


class _Library(Source):
    """The `.py` files of Python's standard library, or of the folder `root`, sorted by relative path."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = absolute(root)

    def files(self) -> dict[str, Path]:
        """The files by their path below the root, sorted, without tests and installed packages.

        Raises `SettingError` if there are none, as in a Python that keeps its library in an archive.
        """
        root = self.root or Path(sysconfig.get_path("stdlib"))
        found: dict[str, Path] = {}
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
            paths = [Path(folder, name) for name in names if name.endswith(".py")]
            found |= {path.relative_to(root).as_posix(): path for path in paths}
        if not found:
            raise SettingError(f"data.source.root: no Python files in {root}; use data=text data.path=FILE")
        return dict(sorted(found.items()))

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, path in self.files().items():
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def pieces(self, part: str) -> Iterator[bytes]:
        return (path.read_bytes() for path in self.files().values())


class PythonSource(_Library):
    """The source code of Python's standard library, byte for byte, one file after the other.

    Args:
        root: another folder of Python files to take instead.
    """

    name = "pysrc8"

    def describe(self) -> dict[str, Any]:
        return {"origin": "source code of Python's standard library", "revision": platform.python_version()}


class PythonDocs(_Library):
    """Docstrings and comments of Python's standard library in source order, as UTF-8.

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

    def pieces(self, part: str) -> Iterator[bytes]:
        return (docs(content).encode("utf-8", "replace") for content in super().pieces(part))


def docs(content: bytes) -> str:
    """Docstrings and comments of one Python file in source order, each on lines of its own.

    Args:
        content: the file's bytes with its encoding declaration.

    Returns:
        the prose; "" if there is none or the file is not valid Python.
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
    """`(line, 0, docstring)` of `node` and of all that it defines. Expressions are skipped: they define nothing."""
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
    """`(line, 1, comment)` of every comment. It sorts after a docstring of the same line.

    A regular expression finds the same comments as `tokenize` (see the tests), twelve times as fast.
    """
    line, counted = 1, 0
    for match in STRING_OR_COMMENT.finditer(text):
        if text[match.start()] == "#":
            line += text.count("\n", counted, match.start())
            counted = match.start()
            yield line, 1, match.group().strip("#! \t")


class TextFile(Source):
    """Any file of the user.

    Args:
        path: the file; a relative path starts at the working directory of the command.

    Every use raises `SettingError` naming `data.path` if the file is missing, unreadable, empty or a directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._file = RawFile(self.path)

    @property
    def name(self) -> str:  # type: ignore[override]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.stem).strip(".-") or "text"

    def fingerprint(self) -> str:
        return self._file.hash("sha256")

    def describe(self) -> dict[str, Any]:
        return {"origin": str(self.path), "revision": f"{self._file.size} bytes"}

    def pieces(self, part: str) -> Iterator[bytes]:
        return self._file.pieces()

    def size(self, part: str) -> int:
        return self._file.size
