"""Where a corpus comes from: sources that give raw bytes piece by piece.

Every machine with Python has real English, without a network: the docstrings and comments of Python's standard library
(`PythonDocs`, the corpora `pydoc8` and `pydoc_words`) and its source code (`PythonSource`, the corpus `pysrc8`, similar
to Enwik8). `TextFile` is any file of the user. The published corpora are in `published`.
"""

import ast
import hashlib
import os
import platform
import re
import sysconfig
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import decode_source
from pathlib import Path
from typing import Any, ClassVar

from diffmamba.data import files
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


@dataclass(frozen=True)
class RawText:
    """A text that has been found or downloaded.

    Args:
        parts: the parts in the order in which they are read, each a function that gives bytes in pieces, cut anywhere.
            There is one part, which is split by position, or there are `train`, `val` and `test`.
        origin: where it lies.
        revision: which version it is.
        size: bytes of all parts, roughly; None if they must be read to know.
        documents: whether each piece is a document by itself.
    """

    parts: Mapping[str, Callable[[], Iterator[bytes]]]
    origin: str
    revision: str
    size: int | None = None
    documents: bool = False


class Source(ABC):
    """Where a corpus comes from: a dataclass with a hash.

    Making one touches no file. To open a prepared corpus, only `name` and `fingerprint` are needed.
    """

    name: str
    """A short name that can be part of a folder's name."""
    places: ClassVar[tuple[str, ...]] = ()
    """Fields that say only where to get a text that is known without them."""

    def describe_choice(self) -> dict[str, Any]:
        """Which text is meant, as plain data and without reading it: the class and the fields except `places`."""
        settings = {key: value for key, value in vars(self).items() if key not in self.places}
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
        return {"source": type(self).__name__, **plain}

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that stands for the content, in hex digits. It takes a few seconds per gigabyte at most."""

    @abstractmethod
    def open(self) -> RawText:
        """Finds or downloads the text. Raises `SettingError` if a quick look shows that it is the wrong one."""

    def check(self, text: RawText, found: Mapping[str, int]) -> None:  # noqa: B027 - most can be any text
        """Raises `SettingError` if this is not the corpus it should be.

        `found` is what is known by now: symbols of each split by its name, number of different ones as `vocabulary`.
        """


@dataclass(unsafe_hash=True)
class _Library(Source):
    """The `.py` files of Python's standard library, sorted by relative path.

    Args:
        root: another folder of Python files to take instead.
    """

    root: Path | str | int | None = None
    content: ClassVar[str]

    def __post_init__(self) -> None:
        self.root = files.absolute(self.root, "data.source.root")

    def files(self) -> dict[str, Path]:
        """The files by their path below the root, sorted, without tests and installed packages."""
        root = files.absolute(self.root, "data.source.root") or Path(sysconfig.get_path("stdlib"))
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
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def open(self) -> RawText:
        return RawText({"text": self.pieces}, f"{self.content} of Python's library", platform.python_version())

    def pieces(self) -> Iterator[bytes]:
        """The text of each file."""
        return (path.read_bytes() for path in self.files().values())


@dataclass(unsafe_hash=True)
class PythonSource(_Library):
    """The source code of Python's standard library, byte for byte, one file after the other."""

    name = "pysrc8"
    content = "source code"


@dataclass(unsafe_hash=True)
class PythonDocs(_Library):
    """Docstrings and comments of Python's standard library in source order, as UTF-8.

    Args:
        root, name: see `_Library`; what to call the corpus: `pydoc8`, or `pydoc_words` where words are its symbols.
    """

    name: str = "pydoc8"
    content = "docstrings and comments"

    def pieces(self) -> Iterator[bytes]:
        return (docs(content).encode("utf-8", "replace") for content in super().pieces())


def docs(content: bytes) -> str:
    """Docstrings and comments of one Python file in source order, each on lines of its own; "" if it is not valid."""
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


@dataclass(unsafe_hash=True)
class TextFile(Source):
    """Any file of the user.

    Args:
        path: the file; a relative path starts at the working directory of the command.
    """

    path: Path | str | int

    def __post_init__(self) -> None:
        self.path = files.given(self.path)

    @property
    def file(self) -> Path:
        """The absolute path."""
        return files.given(self.path)

    @property
    def name(self) -> str:  # type: ignore[override]
        return files.file_name(self.file.stem)

    def fingerprint(self) -> str:
        if self.file.exists() and not (self.file.is_file() or self.file.is_dir()):  # it is read twice
            raise SettingError(
                f"data.path: {self.file} is a pipe or a device; write the text into a file and give that"
            )
        return files.digest(self.file, "sha256")

    def open(self) -> RawText:
        size = files.size(self.file)
        return RawText({"text": partial(files.pieces, self.file)}, str(self.file), f"{size} bytes", size)
