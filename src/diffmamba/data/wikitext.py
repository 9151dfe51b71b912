"""WikiText-103 (arXiv 1609.07843) by words: the form with `<unk>`, never the raw one, in its three parts.

103,227,021 / 217,646 / 245,569 tokens with an `<eos>` for every line, and 267,735 types, are the counts of
Transformer-XL (arXiv 1901.02860), whose setting the paper follows. They are those of the symbol system `wikitext`.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from diffmamba.data import hub
from diffmamba.data.files import RawFile, customary
from diffmamba.data.published import Published
from diffmamba.errors import SettingError

CONFIGURATION = "wikitext-103-v1"
ARCHIVE = "wikitext-103-v1.zip"
ARCHIVE_URL = f"https://wikitext.smerity.com/{ARCHIVE}"  # where one of the authors keeps it
FORMS = (
    {"train": "wiki.train.tokens", "val": "wiki.valid.tokens", "test": "wiki.test.tokens"},
    {"train": "train.txt", "val": "valid.txt", "test": "test.txt"},  # the same files as Transformer-XL names them
)
RAW_FORM = ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw")
RAW_ARCHIVE = "wikitext-103-raw-v1.zip"
FOLDERS = ("wikitext-103-raw", "wikitext-103-raw-v1", CONFIGURATION, "wikitext-103")


class WikiText103(Published):
    """WikiText-103.

    Args:
        expected: see `Published`.
        path: the folder with the customary files or archive, or one of them; None loads it from the repository.
        repository: on the Hugging Face Hub, or a folder that is a copy of it.
    """

    parts = ("val", "test", "train")  # the small ones first, in which a wrong text shows at once

    def __init__(
        self, expected: Mapping[str, Any], path: str | Path | None = None, repository: str = "Salesforce/wikitext"
    ) -> None:
        super().__init__("wikitext103", expected, path)
        self.repository = repository

    def fetch(self) -> None:
        _ = self._text

    def describe(self) -> dict[str, Any]:
        text = self._text
        return {"origin": text.origin, "revision": text.revision, "url": ARCHIVE_URL, "expected": self.expected}

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        return self._text.pieces(part, start)

    def size(self, part: str) -> int:
        return self._text.size(part)

    def refused(self, finding: str, word: str) -> SettingError:
        likely = "" if word == "truncated" else " or the raw form, which has no <unk>"
        remedy = f"give the folder of {ARCHIVE} of {ARCHIVE_URL}" if self.path else "delete the folder it is kept in"
        return SettingError(
            f"data.path: {self._text.origin} is {word}{likely}: it has {finding}; {remedy}, leave "
            f"data.symbols=wikitext and run again"
        )

    @cached_property
    def _text(self) -> "TokenFiles | hub.Rows":
        if self.path is not None:
            return TokenFiles(self.path)
        try:
            return hub.Rows(self.repository, CONFIGURATION)
        except Exception as error:
            remedy = (
                f"download {ARCHIVE_URL} elsewhere, put it into a folder and give data.path=FOLDER (or "
                f"data.source.repository=FOLDER, a copy of the repository)"
            )
            raise hub.unavailable(f"https://huggingface.co/datasets/{self.repository}", error, remedy) from error


class TokenFiles:
    """The three customary files.

    Args:
        path: their folder, their archive, or one of them.

    Raises `SettingError` saying which files are needed if they are not there.
    """

    def __init__(self, path: Path) -> None:
        found = customary(path, folders=FOLDERS, archives=[RAW_ARCHIVE, ARCHIVE])
        self._files = self._chosen(path, found)
        self.origin = str(path)
        self.revision = ", ".join(f"{part} md5 {file.hash('md5')}" for part, file in self._files.items())

    def size(self, part: str) -> int:
        """Bytes of a part."""
        return self._files[part].size

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        """A part from its piece `start` on."""
        return self._files[part].pieces(start)

    @staticmethod
    def _chosen(path: Path, found: dict[str, RawFile]) -> dict[str, RawFile]:
        for names in FORMS:
            if found.keys() >= set(names.values()):
                return {part: found[name] for part, name in names.items()}
        needed = f"{', '.join(FORMS[0].values())} or {ARCHIVE} with them is needed; get {ARCHIVE_URL}"
        raw = [name for name in RAW_FORM if name in found]
        if raw:
            raise SettingError(f"data.path: {found[raw[0]]} is WikiText-103's raw form, without <unk>; {needed}")
        there = [name for name in FORMS[0].values() if name in found]
        but = f" has only {', '.join(there)}" if there else " has none of WikiText-103's files"
        raise SettingError(f"data.path: {path}{but}; {needed} and give its folder, or data.path=null to download it")
