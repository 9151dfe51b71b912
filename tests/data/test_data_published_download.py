"""Published corpora through the `datasets` library: from a server and a repository on this machine, and offline."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffmamba.data import hub
from diffmamba.data.corpus import prepare
from diffmamba.data.published import PublishedFile, WikiText103
from diffmamba.errors import SettingError

CHARACTERS = "the quick brown fox jumps over the lazy dog and runs away far into the woods by a long river bank ab"
EXPECTED = {"train": 90, "val": 5, "test": 5, "vocabulary": 27, "md5": hashlib.md5(CHARACTERS.encode()).hexdigest()}
ROWS = {
    "train": ["", " = Title = \n", "", " the <unk> is the end \n", " naïve end"] * 2,
    "validation": ["", " the end \n"],
    "test": [" the\n"],
}
TOKENS = {"train": 2 * (5 + 10), "val": 4, "test": 2, "vocabulary": 8}
CARD = "---\nconfigs:\n- config_name: wikitext-103-v1\n  data_files:\n" + "".join(
    f"  - split: {split}\n    path: wikitext-103-v1/{split}-*\n" for split in ROWS
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache" / "downloads")
    datasets.disable_progress_bars()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of the folder `served`, which holds text8.zip."""
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(tmp_path / "served" / "text8.zip", "w") as archive:
        archive.writestr("text8", CHARACTERS)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of a repository with the rows above in parquet files, as `datasets` writes them."""
    import datasets

    for split, rows in ROWS.items():
        path = tmp_path / "repository" / "wikitext-103-v1" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict({"text": rows}).to_parquet(path)
    (tmp_path / "repository" / "README.md").write_text(f"{CARD}---\n")
    return tmp_path / "repository"


def test_text8_is_downloaded_once(server: str, tmp_path: Path) -> None:
    source = PublishedFile("text8", f"{server}/text8.zip", EXPECTED)
    corpus = prepare(source, "text8", tmp_path / "data")
    assert "".join(corpus.vocabulary.decode(corpus.split(part)) for part in corpus.sizes) == CHARACTERS
    address, kept = corpus.manifest["source"]["origin"].split(", kept in ")
    assert address == f"{server}/text8.zip"
    assert Path(kept).is_file()
    assert Path(kept).is_relative_to(tmp_path / "cache")
    (tmp_path / "served" / "text8.zip").unlink()
    assert prepare(source, "text8", tmp_path / "other").fingerprint == corpus.fingerprint
    wrong = PublishedFile("text8", f"{server}/text8.zip", EXPECTED | {"md5": "00"})
    with pytest.raises(
        SettingError, match=rf"data\.path: .*kept in {kept} is not text8: .* another md5 .*; delete it, "
    ):
        prepare(wrong, "text8", tmp_path / "data")


@pytest.mark.parametrize("missing", ["file", "server"])
def test_a_failing_download_says_what_to_do(missing: str, server: str, tmp_path: Path) -> None:
    url = f"{server}/none.zip" if missing == "file" else "http://127.0.0.1:9/text8.zip"
    words = rf"data\.path: cannot download {url} .*get {url} .*data\.path=FOLDER.*pydoc8.*scale\.corpora=embedded"
    with pytest.raises(SettingError, match=words) as failure:
        prepare(PublishedFile("text8", url, EXPECTED), "text8", tmp_path / "data")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("rows", [1, 4096])
def test_wikitext_from_a_repository_counts_every_row_as_a_line(
    rows: int, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ROWS", rows)
    corpus = prepare(WikiText103(TOKENS, repository=str(repository)), "wikitext", tmp_path / "data")
    assert corpus.sizes == {"train": 30, "val": 4, "test": 2}
    text = {part: corpus.vocabulary.decode(corpus.split(part)) for part in corpus.sizes}
    assert text["train"] == "\n= Title =\n\nthe <unk> is the end\nnaïve end\n" * 2
    assert (text["val"], text["test"]) == ("\nthe end\n", "the\n")
    assert str(repository) in corpus.manifest["source"]["origin"]
    assert corpus.manifest["source"]["revision"]
    source = WikiText103(TOKENS | {"vocabulary": 9}, repository=str(repository))
    with pytest.raises(SettingError, match=rf"kept in {tmp_path / 'cache'}.* is not wikitext103: .*8 .* delete it"):
        prepare(source, "wikitext", tmp_path / "data")


OFFLINE = """
import sys
from diffmamba.data import PublishedFile, WikiText103, prepare
from diffmamba.errors import SettingError
print({"datasets", "lightning"} & sys.modules.keys())
sizes = {"train": 1, "val": 1, "test": 1, "vocabulary": 1}
for source in (PublishedFile("enwik8", "https://mattmahoney.net/dc/enwik8.zip", sizes), WikiText103(sizes)):
    try:
        prepare(source, "words", "data")
    except SettingError as error:
        print(error)
"""


def test_offline_says_what_to_download_elsewhere(tmp_path: Path) -> None:
    """And `datasets` and Lightning, which take seconds to import, are not imported before they are needed."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", OFFLINE]
    told = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    imported, *lines = told.splitlines()
    assert imported == "set()"
    archives = "https://mattmahoney.net/dc/enwik8.zip", "https://wikitext.smerity.com/wikitext-103-v1.zip"
    places = archives[0], "https://huggingface.co/datasets/Salesforce/wikitext"
    for line, place, archive in zip(lines, places, archives, strict=True):
        assert f"cannot download {place} (" in line
        assert "Offline" in line
        assert f"get {archive} elsewhere, put it into a folder and give data.path=FOLDER" in line
        assert "data=pydoc8, pysrc8 and pydoc_words (scale.corpora=embedded in a sweep of table 1 or 2)" in line
