"""Raw texts through the `datasets` library, which keeps what it has downloaded in its cache (`HF_HOME`).

The library takes a second to import. So it is imported only here, and only to fetch something. What has been downloaded
before needs no network. What cannot be downloaded raises `SettingError`, which names an `archive` to get elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffmamba.errors import SettingError

ROWS = 4096  # in a piece


def download(archive: str) -> Path:
    """The file behind a URL."""
    with _downloading(archive, archive):
        from datasets import DownloadConfig, DownloadManager

        # With `use_etag=False` the server is not asked whether the file has changed: a cached file needs no network.
        return Path(DownloadManager(download_config=DownloadConfig(use_etag=False)).download(archive))


def dataset(repository: str, configuration: str, archive: str) -> Any:
    """The `DatasetBuilder` of one configuration of a repository on the Hub, or in a folder that is a copy of one."""
    with _downloading(f"https://huggingface.co/datasets/{repository}", archive):
        from datasets import load_dataset_builder

        builder = load_dataset_builder(repository, configuration)
        builder.download_and_prepare()
        return builder


def lines(builder: Any, split: str) -> Iterator[bytes]:
    """The rows of a split, each one line, whether it has its own line feed or not; `ROWS` of them in a piece."""
    for rows in builder.as_dataset(split).iter(ROWS):
        yield "".join(row.removesuffix("\n") + "\n" for row in rows["text"]).encode()


@contextmanager
def _downloading(what: str, archive: str) -> Iterator[None]:
    """Raises `SettingError` in place of anything that goes wrong in a download."""
    try:
        yield
    except Exception as error:
        reason = (str(error.__cause__ or error).splitlines() or [""])[0].rstrip(".")
        raise SettingError(
            f"data.path: cannot download {what} ({type(error).__name__}: {reason}); get {archive} elsewhere, put it "
            f"into a folder and give data.path=FOLDER; data=pydoc8, pysrc8 and pydoc_words (scale.corpora=embedded in "
            f"a sweep of table 1 or 2) need no download"
        ) from error
