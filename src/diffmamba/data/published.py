"""Published corpora, from files of the user's or downloaded: Text8 and Enwik8; WikiText-103 is in `wikitext`.

A published corpus is known before it is read, by its name and by what is `expected` of it: the symbols of each split
(`train`, `val`, `test`), how many different ones there are (`vocabulary`) and, where it is known, the `md5` of the raw
file. That is its fingerprint, so that a prepared one opens without its raw files and without a network. Whatever is
not as expected is refused while it is prepared, as early as it shows.

Source of both: mattmahoney.net/dc/textdata.html.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from diffmamba.data import hub
from diffmamba.data.files import RawFile, customary, is_archive, members
from diffmamba.data.sources import Source
from diffmamba.errors import SettingError

SPLITS = ("train", "val", "test")


class Published(Source):
    """A corpus of known size.

    Args:
        name: of the corpus.
        expected: what is known of it, see above; only `md5` may be missing.
        path: where the customary files are; None downloads them.
    """

    def __init__(self, name: str, expected: Mapping[str, Any], path: str | Path | None) -> None:
        self.name = name
        self.expected = dict(expected)
        self.path = None if path is None else Path(path).expanduser().absolute()

    def fingerprint(self) -> str:
        missing = [key for key in (*SPLITS, "vocabulary") if type(self.expected.get(key)) is not int]
        if missing:
            raise SettingError(f"data.expected: {', '.join(missing)} must be given as whole numbers")
        return hashlib.sha256(json.dumps([self.name, self.expected], sort_keys=True).encode()).hexdigest()

    def check(self, sizes: dict[str, int], vocabulary: int | None = None) -> None:
        for split, size in sizes.items():
            expected = self.expected[split]
            if size != expected:
                word = "truncated" if size < expected else "foreign"
                raise self.refused(f"{size:,} symbols of {split} where {expected:,} are expected", word)
        if vocabulary not in (None, self.expected["vocabulary"]):
            count = f"{vocabulary:,} different symbols where {self.expected['vocabulary']:,} are expected"
            raise self.refused(count, "foreign")

    @abstractmethod
    def refused(self, finding: str, word: str) -> SettingError:
        """What to tell somebody whose raw text is not the published one.

        Args:
            finding: what was found and what is expected.
            word: what the text seems to be: truncated, foreign, corrupted.
        """


class PublishedFile(Published):
    """One file of as many bytes as symbols, split by position: Text8, Enwik8.

    Args:
        name: of the corpus and of its file, which may be in a zip archive `NAME.zip`.
        url: of the archive or the file.
        expected: see `Published`.
        path: the file, the archive or the folder with either; None downloads it.
    """

    def __init__(self, name: str, url: str, expected: Mapping[str, Any], path: str | Path | None = None) -> None:
        super().__init__(name, expected, path)
        self.url = url

    def fetch(self) -> None:
        size, expected = self._file.size, sum(self.expected[split] for split in SPLITS)
        if size != expected:
            finding = f"{size:,} bytes where {expected:,} are expected"
            raise self.refused(finding, "truncated" if size < expected else "foreign")
        if self._md5 != self.expected.get("md5", self._md5):
            raise self.refused(f"the md5 {self._md5} where {self.expected['md5']} is expected", "foreign or corrupted")

    def describe(self) -> dict[str, Any]:
        origin = self.url if self.path is None else str(self._file)
        return {"origin": origin, "revision": f"md5 {self._md5}", "url": self.url, "expected": self.expected}

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        return self._file.pieces(start)

    def size(self, part: str) -> int:
        return self._file.size

    def refused(self, finding: str, word: str) -> SettingError:
        if "md5" in self.expected and self._md5 == self.expected["md5"]:
            return SettingError(
                f"data.symbols, data.expected: {self.name} has {finding}, though its file is the published one; leave "
                f"both as they are, or give data=text data.path={self._file.path} for other symbols"
            )
        remedy = f"put {self.name} or {self.name}.zip of {self.url} in its place" if self.path else "delete it"
        return SettingError(f"data.path: {self._file} is {word}: it has {finding}; {remedy} and run again")

    @cached_property
    def _md5(self) -> str:
        return self._file.hash("md5")

    @cached_property
    def _file(self) -> RawFile:
        """The raw file, found or downloaded."""
        if self.path is None:
            return self._member(self._downloaded())
        if self.path.is_file():
            return self._member(self.path)
        found = customary(self.path, archives=[f"{self.name}.zip"])
        if self.name not in found:
            raise SettingError(
                f"data.path: {self.path} has neither {self.name} nor {self.name}.zip; get {self.url} and give its "
                f"folder, or data.path=null to download it"
            )
        return found[self.name]

    def _member(self, path: Path) -> RawFile:
        if not is_archive(path):
            return RawFile(path)
        inside = members(path)
        if self.name not in inside:
            raise SettingError(f"data.path: {path} has no {self.name} in it; get {self.url} and give its folder")
        return inside[self.name]

    def _downloaded(self) -> Path:
        try:
            return hub.download(self.url)
        except Exception as error:
            remedy = f"download it elsewhere, put {self.name}.zip into a folder and give data.path=FOLDER"
            raise hub.unavailable(self.url, error, remedy) from error
