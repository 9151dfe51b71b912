"""A folder in which the examples of the pages work: their files, a text, a small library, and a trained run."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pages
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from tiny import TINY

from diffmamba import configuration
from diffmamba.data import sources
from diffmamba.runs import grid, sweeping
from diffmamba.runs.execution import execute, work_of

TEXT = "the quick brown fox jumps over a lazy dog and runs away from a wolf "
LINKED = ("sweeps/", "experiments/")  # in a checkout these folders are linked into conf/
PACKAGES = ("mixers", "tasks", "measures", "data")
EVERY = 6  # takes one file of Python's library in so many, so that a corpus is prepared in a second


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder itself, with every file that a page names."""
    made = tmp_path_factory.mktemp("docs")
    (made / "my.txt").write_text(TEXT * 60)
    for block in (*pages.all_blocks("python"), *pages.all_blocks("yaml")):
        if block.file and not block.not_run:
            path = made / ("conf/" * block.file.startswith(LINKED) + block.file)
            assert not path.exists(), f"{block} names {block.file} a second time"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return made


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Works in the folder, with its modules. A sweep does the first and the last work of its grid, in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("DIFFMAMBA_DATA", str(folder / "data"))
    for name in ("DIFFMAMBA_RUNS", "DIFFMAMBA_CONF"):
        monkeypatch.delenv(name, raising=False)
    for name in PACKAGES:
        package = import_module(f"diffmamba.{name}")
        added = str(folder / "src/diffmamba" / name.replace(".", "/"))
        monkeypatch.setattr(package, "__path__", [*package.__path__, added])
    found = sources._Library.files
    some = lambda library: dict(list(found(library).items())[::EVERY])  # noqa: E731
    monkeypatch.setattr(sources._Library, "files", some)
    monkeypatch.setattr(grid, "BasicSweeper", _Corners)
    monkeypatch.setattr(sweeping, "work_off", _done_here)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


class _Corners(BasicSweeper):
    """Cuts a grid down to its first and its last cell."""

    @staticmethod
    def split_arguments(*arguments: Any, **settings: Any) -> list[list[list[str]]]:
        cells = BasicSweeper.split_arguments(*arguments, **settings)[0]
        return [[cells[0], cells[-1]] if len(cells) > 1 else cells]


def _done_here(sweep: str, planned: Any, engine: Any, *_: Any) -> None:
    """What stands for the processes of a sweep."""
    for item in planned:
        execute(item.work, progress_bar=False)


@pytest.fixture(scope="session")
def run_id(folder: Path) -> str:
    """The id of a trained run that has been measured. It stands for `ID` in the pages."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("DIFFMAMBA_DATA", str(folder / "data"))
        words = ["data=text", "data.path=my.txt", "measure=perplexity", "weights=trained", *TINY]
        return execute(work_of(configuration.composed(words)), progress_bar=False)["weights"]["run"]
