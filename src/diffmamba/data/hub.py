"""Raw texts through the `datasets` library, which keeps what it has downloaded in its cache (`HF_HOME`).

The library takes a second to import. So it is imported only here, and only to fetch something.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmamba.errors import SettingError

ROWS = 4096  # in a piece


def download(url: str, remedy: str) -> Path:
    """The file behind a URL, from the cache if it has been downloaded before.

    Raises `SettingError` if it cannot be downloaded. Its message gives the `remedy`: what to get elsewhere and where
    to put it.
    """
    with _downloading(url, remedy):
        from datasets import DownloadConfig, DownloadManager

        # With `use_etag=False` the server is not asked whether the file has changed: a cached file needs no network.
        return Path(DownloadManager(download_config=DownloadConfig(use_etag=False)).download(url))


def dataset(repository: str, configuration: str, remedy: str) -> Any:
    """The `DatasetBuilder` of a downloaded dataset, from the cache if it has been downloaded before.

    Args:
        repository: on the Hugging Face Hub, or a folder that is a copy of one.
        configuration: which of the repository's datasets.
        remedy: see `download`, which raises the same error.
    """
    with _downloading(f"https://huggingface.co/datasets/{repository}", remedy):
        from datasets import load_dataset_builder

        builder = load_dataset_builder(repository, configuration)
        builder.download_and_prepare()
        return builder


@dataclass(frozen=True)
class Rows:
    """One split of a dataset whose rows are lines of text."""

    builder: Any
    split: str

    @property
    def size(self) -> int:
        """Bytes, and 4 more for each row."""
        return self.builder.info.splits[self.split].num_bytes

    def pieces(self) -> Iterator[bytes]:
        """The rows, each one line, whether it has its own line feed or not."""
        rows = self.builder.as_dataset(self.split).with_format("arrow")
        for first in range(0, len(rows), ROWS):
            lines = rows[first : first + ROWS]["text"].to_pylist()
            yield "".join(line if line.endswith("\n") else f"{line}\n" for line in lines).encode()


@contextmanager
def _downloading(what: str, remedy: str) -> Iterator[None]:
    """Raises `SettingError` in place of anything that goes wrong in a download."""
    try:
        yield
    except Exception as error:
        reason = (str(error.__cause__ or error).splitlines() or [""])[0].rstrip(".")
        raise SettingError(
            f"data.path: cannot download {what} ({type(error).__name__}: {reason}); {remedy}; "
            f"data=pydoc8, pysrc8 and pydoc_words (scale.corpora=embedded in a sweep of table 1 or 2) need no download"
        ) from error
