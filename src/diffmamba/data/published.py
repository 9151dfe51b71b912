"""Published corpora, from the user's files or downloaded: Text8, Enwik8, WikiText-103.

A published corpus is known before it is read, by its name and by what is `expected` of it: the number of symbols of
each split (`train`, `val`, `test`), the number of different symbols (`vocabulary`) and, where it is known, the `md5` of
the raw file. These make its fingerprint, so a prepared one opens without its raw files and without a network. A text
that is not as expected is refused as early as it shows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from diffmamba.data import files, hub
from diffmamba.data.sources import SPLITS, RawText, Source
from diffmamba.errors import SettingError


class Published(Source):
    """A corpus of known size, with the fields `expected` (only its `md5` may be missing) and `path`."""

    expected: Mapping[str, Any]
    path: Path | str | int | None
    url: str
    """An archive of its files."""
    places = ("path", "url", "repository")

    def __post_init__(self) -> None:
        self.expected = dict(self.expected)
        self.path = files.absolute(self.path)

    @property
    def place(self) -> Path | None:
        """The absolute path of what the user has."""
        return files.absolute(self.path)

    def fingerprint(self) -> str:
        missing = [key for key in (*SPLITS, "vocabulary") if type(self.expected.get(key)) is not int]
        if missing:
            raise SettingError(f"data.expected: {', '.join(missing)} must be given as whole numbers")
        return hashlib.sha256(json.dumps([self.name, self.expected], sort_keys=True).encode()).hexdigest()

    def check(self, text: RawText, found: Mapping[str, int]) -> None:
        for key, count in found.items():
            if count != self.expected[key]:
                what = "different symbols" if key == "vocabulary" else f"symbols of {key}"
                raise self._refused(text, f"{count:,} {what} where {self.expected[key]:,} are expected")

    def _refused(self, text: RawText, finding: str) -> SettingError:
        """The error for a text that is not the published one. `finding` is what it has and what is expected."""
        if str(self.expected.get("md5")) in text.revision:
            return SettingError(
                f"data.symbols, data.expected: {self.name} has {finding}, though its file is the published one; leave "
                f"both as they are, or give data=text data.path=FILE for other symbols"
            )
        remedy = f"put the files of {self.url} in its place" if self.path else "delete it"
        return SettingError(
            f"data.path: {text.origin} is not {self.name}: it has {finding}; {remedy}, leave data.symbols and "
            f"data.expected as they are, and run again"
        )


def _text(found: Mapping[str, files.File], origin: object) -> RawText:
    """A text in files."""
    return RawText(
        {part: partial(files.pieces, file) for part, file in found.items()},
        str(origin),
        ", ".join(f"{part} md5 {files.digest(file, 'md5')}" for part, file in found.items()),
        sum(map(files.size, found.values())),
    )


@dataclass(unsafe_hash=True)
class PublishedFile(Published):
    """One file with as many bytes as symbols, split by position: Text8, Enwik8.

    Args:
        name: of the corpus and of its file, which may be in a zip archive `NAME.zip`.
        url: of the archive or the file.
        expected: see above.
        path: the file, the archive or the folder with either; None downloads it.
    """

    name: str
    url: str
    expected: Mapping[str, Any] = field(hash=False)
    path: Path | str | int | None = None

    def open(self) -> RawText:
        path = self.place or hub.download(self.url)
        whole = path.is_file() and not files.is_archive(path)
        found = {"text": path} if whole else files.find(path, self.url, [{"text": self.name}], [f"{self.name}.zip"])
        text = _text(found, found["text"] if self.path else f"{self.url}, kept in {path}")
        size, md5 = sum(self.expected[split] for split in SPLITS), self.expected.get("md5") or ""
        if text.size != size:
            raise self._refused(text, f"{text.size:,} bytes where {size:,} are expected")
        if md5 not in text.revision:
            raise self._refused(text, f"another md5 than {md5}, which is expected")
        return text


@dataclass(unsafe_hash=True)
class WikiText103(Published):
    """WikiText-103 (arXiv 1609.07843) by words: the form with `<unk>`, never the raw one, in its three parts.

    The paper follows the setting of Transformer-XL (arXiv 1901.02860), which counts an `<eos>` for every line:
    103,227,021 / 217,646 / 245,569 tokens and 267,735 different ones. The symbol system `wikitext` counts the same way.

    Args:
        expected: see above.
        path: the folder with the three files or the archive, or one of them; None loads it from the repository.
        repository: on the Hugging Face Hub, or a folder that is a copy of it.
    """

    expected: Mapping[str, Any] = field(hash=False)
    path: Path | str | int | None = None
    repository: str = "Salesforce/wikitext"

    name = "wikitext103"
    configuration = "wikitext-103-v1"
    url = "https://wikitext.smerity.com/wikitext-103-v1.zip"  # where one of the authors keeps it

    def open(self) -> RawText:
        """See `Source`. The small parts come first: there a wrong text shows at once."""
        if self.place is not None:
            names = {"val": "wiki.valid.tokens", "test": "wiki.test.tokens", "train": "wiki.train.tokens"}
            transformer_xl = {"val": "valid.txt", "test": "test.txt", "train": "train.txt"}
            folders = ("wikitext-103-raw", "wikitext-103-raw-v1", self.configuration, "wikitext-103")
            archives = (f"{self.configuration}.zip", "wikitext-103-raw-v1.zip")
            return _text(files.find(self.place, self.url, (names, transformer_xl), archives, folders), self.place)
        builder = hub.dataset(self.repository, self.configuration, self.url)
        splits = {"val": "validation", "test": "test", "train": "train"}
        return RawText(
            {part: partial(hub.lines, builder, split) for part, split in splits.items()},
            f"{self.repository} {self.configuration}, kept in {builder.cache_dir}",
            str(builder.hash),  # the commit on the Hub, or a hash of the files in a folder
            builder.info.dataset_size,
        )
