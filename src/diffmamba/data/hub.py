"""Raw texts through the `datasets` library, which keeps what it has downloaded in its cache (`HF_HOME`).

The library takes a second to import, so that it is imported here alone, and only when something is to be fetched.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffmamba.errors import SettingError

ROWS = 4096  # in a piece
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def download(url: str) -> Path:
    """The file behind a URL, from the cache if it has been downloaded before. Raises whatever went wrong."""
    from datasets import DownloadConfig, DownloadManager

    # Without asking the server whether the file has changed, a cached one serves without a network.
    return Path(DownloadManager(download_config=DownloadConfig(use_etag=False)).download(url))


class Rows:
    """A dataset whose rows are lines of text, in the splits `train`, `validation` and `test`.

    Args:
        repository: on the Hugging Face Hub, or a folder that is a copy of one.
        configuration: which of the repository's datasets.

    Raises whatever went wrong with loading it.
    """

    def __init__(self, repository: str, configuration: str) -> None:
        from datasets import load_dataset_builder

        self._builder = load_dataset_builder(repository, configuration)
        self._builder.download_and_prepare()

        self.origin = f"{repository} {configuration}, kept in {self._builder.cache_dir}"
        self.revision = str(self._builder.hash)  # the commit on the Hub, or a hash of the files in a folder

    def size(self, part: str) -> int:
        """Bytes of a part, and 4 for each row."""
        return self._builder.info.splits[SPLITS[part]].num_bytes

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        """The rows of a part from piece `start` on, each one line, whether it brings its line feed along or not."""
        rows: Any = self._builder.as_dataset(SPLITS[part]).with_format("arrow")
        for first in range(start * ROWS, len(rows), ROWS):
            lines = rows[first : first + ROWS]["text"].to_pylist()
            yield "".join(line if line.endswith("\n") else f"{line}\n" for line in lines).encode()


def unavailable(what: str, error: Exception, remedy: str) -> SettingError:
    """What to tell somebody whose machine cannot download.

    Args:
        what: URL or repository.
        error: from `download` or `Rows`.
        remedy: what to download elsewhere and where to put it.
    """
    reason = (str(error.__cause__ or error).splitlines() or [""])[0].rstrip(".")
    return SettingError(
        f"data.path: cannot download {what} ({type(error).__name__}: {reason}); {remedy}; "
        f"data=pydoc8, pysrc8 and pydoc_words (scale.corpora=embedded in a sweep of table 1 or 2) need no download"
    )
