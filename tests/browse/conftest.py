"""A store of records that were never trained, and the command on it."""

import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from shelves import Outcome, Shelf

from diffmamba.__main__ import main


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "runs").mkdir()
    return Shelf(tmp_path / "runs")


@pytest.fixture
def runs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs `diffmamba runs WORDS...` on the store, in this process. `width`: columns of its terminal."""

    def call(*words: str, width: int | None = None) -> Outcome:
        out, err = StringIO(), StringIO()
        with monkeypatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.setattr(sys, "argv", ["diffmamba", "runs", *words])
            patched.setattr(sys, "path", [*sys.path])
            patched.setenv("DIFFMAMBA_RUNS", str(shelf.directory))
            patched.delenv("COLUMNS", raising=False)
            if width:
                patched.setenv("COLUMNS", str(width))
            with pytest.raises(SystemExit) as ended:
                main()
        return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return call
