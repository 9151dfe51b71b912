"""WikiText-103 (arXiv 1609.07843) by words: the form with `<unk>`, never the raw one, in its three parts.

The paper follows the setting of Transformer-XL (arXiv 1901.02860), which counts an `<eos>` for every line: 103,227,021
/ 217,646 / 245,569 tokens and 267,735 different ones. The symbol system `wikitext` counts the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffmamba.data import hub
from diffmamba.data.published import Published, Raw
from diffmamba.data.raw_file import RawFile, files_at
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
REMEDY = (
    f"download {ARCHIVE_URL} elsewhere, put it into a folder and give data.path=FOLDER (or "
    f"data.source.repository=FOLDER, a copy of the repository)"
)


class WikiText103(Published):
    """WikiText-103.

    Args:
        expected: see `Published`.
        path: the folder with the three files or the archive, or one of them; None loads it from the repository.
        repository: on the Hugging Face Hub, or a folder that is a copy of it.
    """

    name = "wikitext103"
    parts = ("val", "test", "train")  # the small ones first: there a wrong text shows at once

    def __init__(
        self, expected: Mapping[str, Any], path: str | Path | None = None, repository: str = "Salesforce/wikitext"
    ) -> None:
        super().__init__(expected, path)
        self.repository = repository

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"url": ARCHIVE_URL}

    def _get(self) -> Raw:
        if self.path is not None:
            files = _files(self.path)
            revision = ", ".join(f"{part} md5 {file.hash('md5')}" for part, file in files.items())
            return Raw(files, str(self.path), revision)
        builder = hub.dataset(self.repository, CONFIGURATION, REMEDY)
        splits = {"train": "train", "val": "validation", "test": "test"}
        parts = {part: hub.Rows(builder, split) for part, split in splits.items()}
        origin = f"{self.repository} {CONFIGURATION}, kept in {builder.cache_dir}"
        return Raw(parts, origin, str(builder.hash))  # the commit on the Hub, or a hash of the files in a folder

    def _refused(self, finding: str, word: str) -> SettingError:
        likely = "" if word == "truncated" else " or the raw form, which has no <unk>"
        remedy = f"give the folder of {ARCHIVE} of {ARCHIVE_URL}" if self.path else "delete the folder it is kept in"
        return SettingError(
            f"data.path: {self._raw.origin} is {word}{likely}: it has {finding}; {remedy}, leave "
            f"data.symbols=wikitext and run again"
        )


def _files(path: Path) -> dict[str, RawFile]:
    """The file of each part. Raises `SettingError` saying which files are needed if they are not there.

    Args:
        path: the folder of the three files, their archive, or one of them.
    """
    found = files_at(path, folders=FOLDERS, archives=[RAW_ARCHIVE, ARCHIVE])
    for names in FORMS:
        if found.keys() >= set(names.values()):
            return {part: found[name] for part, name in names.items()}
    needed = f"{', '.join(FORMS[0].values())} or {ARCHIVE} with them is needed; get {ARCHIVE_URL}"
    raw = [name for name in RAW_FORM if name in found]
    if raw:
        raise SettingError(f"data.path: {found[raw[0]]} is WikiText-103's raw form, without <unk>; {needed}")
    there = [name for name in FORMS[0].values() if name in found]
    finding = f"only {', '.join(there)}" if there else "none of WikiText-103's files"
    raise SettingError(
        f"data.path: {path} has {finding}; {needed} and give its folder, or data.path=null to download it"
    )
