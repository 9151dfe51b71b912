"""Published corpora, from the user's files or downloaded: here Text8 and Enwik8; WikiText-103 is in `wikitext`.

A published corpus is known before it is read, by its name and by what is `expected` of it: the number of symbols of
each split (`train`, `val`, `test`), the number of different symbols (`vocabulary`) and, where it is known, the `md5` of
the raw file. These make its fingerprint, so a prepared one opens without its raw files and without a network. A text
that is not as expected is refused as early as it shows.

Source of Text8 and Enwik8: mattmahoney.net/dc/textdata.html.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffmamba.data import hub
from diffmamba.data.raw_file import RawFile, absolute, files_at, is_archive
from diffmamba.data.sources import SPLITS, Source
from diffmamba.errors import SettingError


@dataclass(frozen=True)
class Raw:
    """A raw text that has been found or downloaded: its parts, where they lie and which version they are."""

    parts: Mapping[str, RawFile | hub.Rows]
    origin: str
    revision: str


class Published(Source):
    """A corpus of known size.

    Args:
        expected: what is known about it, see above; only `md5` may be missing.
        path: where its files are; None downloads them.
    """

    places = ("path", "url", "repository")

    def __init__(self, expected: Mapping[str, Any], path: str | Path | None) -> None:
        self.expected = dict(expected)
        self.path = absolute(path)

    def fingerprint(self) -> str:
        missing = [key for key in (*SPLITS, "vocabulary") if type(self.expected.get(key)) is not int]
        if missing:
            raise SettingError(f"data.expected: {', '.join(missing)} must be given as whole numbers")
        return hashlib.sha256(json.dumps([self.name, self.expected], sort_keys=True).encode()).hexdigest()

    def fetch(self) -> None:
        _ = self._raw

    def describe(self) -> dict[str, Any]:
        return {"origin": self._raw.origin, "revision": self._raw.revision, "expected": self.expected}

    def pieces(self, part: str) -> Iterator[bytes]:
        return self._raw.parts[part].pieces()

    def size(self, part: str) -> int:
        return self._raw.parts[part].size

    def check(self, sizes: dict[str, int], vocabulary: int | None = None) -> None:
        for split, size in sizes.items():
            self._check_size(size, self.expected[split], f"symbols of {split}")
        if vocabulary not in (None, self.expected["vocabulary"]):
            finding = f"{vocabulary:,} different symbols where {self.expected['vocabulary']:,} are expected"
            raise self._refused(finding, "another text")

    def _check_size(self, size: int, expected: int, what: str) -> None:
        if size != expected:
            word = "truncated" if size < expected else "another text"
            raise self._refused(f"{size:,} {what} where {expected:,} are expected", word)

    @cached_property
    def _raw(self) -> Raw:
        return self._get()

    @abstractmethod
    def _get(self) -> Raw:
        """Finds the raw text in the user's files or downloads it. Raises `SettingError` if that fails."""

    @abstractmethod
    def _refused(self, finding: str, word: str) -> SettingError:
        """The error for a raw text that is not the published one.

        Args:
            finding: what was found and what is expected.
            word: what the text seems to be: truncated, another text, corrupted.
        """


class PublishedFile(Published):
    """One file with as many bytes as symbols, split by position: Text8, Enwik8.

    Args:
        name: of the corpus and of its file, which may be in a zip archive `NAME.zip`.
        url: of the archive or the file.
        expected: see `Published`.
        path: the file, the archive or the folder with either; None downloads it.
    """

    def __init__(self, name: str, url: str, expected: Mapping[str, Any], path: str | Path | None = None) -> None:
        super().__init__(expected, path)
        self.name = name
        self.url = url

    def fetch(self) -> None:
        self._check_size(self.size("text"), sum(self.expected[split] for split in SPLITS), "bytes")
        if "md5" in self.expected and not self._is_intact():
            finding = f"the {self._raw.revision} where md5 {self.expected['md5']} is expected"
            raise self._refused(finding, "another text or corrupted")

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"url": self.url}

    def _get(self) -> Raw:
        file = self._file()
        origin = str(file) if self.path else f"{self.url}, kept in {file}"
        return Raw({"text": file}, origin, f"md5 {file.hash('md5')}")

    def _file(self) -> RawFile:
        remedy = f"download it elsewhere, put {self.name}.zip into a folder and give data.path=FOLDER"
        path = self.path or hub.download(self.url, remedy)
        if path.is_file() and not is_archive(path):
            return RawFile(path)
        found = files_at(path, archives=[f"{self.name}.zip"])
        if self.name not in found:
            raise SettingError(
                f"data.path: there is no {self.name} in {path} (and no {self.name}.zip); get {self.url} and give its "
                f"folder, or data.path=null to download it"
            )
        return found[self.name]

    def _is_intact(self) -> bool:
        return self._raw.revision == f"md5 {self.expected.get('md5')}"

    def _refused(self, finding: str, word: str) -> SettingError:
        if self._is_intact():
            return SettingError(
                f"data.symbols, data.expected: {self.name} has {finding}, though its file is the published one; leave "
                f"both as they are, or give data=text data.path=FILE for other symbols"
            )
        remedy = f"put {self.name} or {self.name}.zip of {self.url} in its place" if self.path else "delete it"
        return SettingError(f"data.path: {self._raw.origin} is {word}: it has {finding}; {remedy} and run again")
