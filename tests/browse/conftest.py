"""A store of records that were never trained, and the command on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shelves import Shelf

from tests.outcome import Outcome, outcome_of


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "runs").mkdir()
    return Shelf(tmp_path / "runs")


@pytest.fixture
def runs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs `diffmamba runs WORDS...` on the store, in this process. `width`: columns of its terminal."""

    def call(*words: str, width: int | None = None) -> Outcome:
        with monkeypatch.context() as patched:
            patched.setenv("DIFFMAMBA_RUNS", str(shelf.directory))
            patched.delenv("COLUMNS", raising=False)
            if width:
                patched.setenv("COLUMNS", str(width))
            return outcome_of("runs", *words)

    return call
