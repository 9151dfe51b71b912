"""A store of runs that were never trained, and nothing of the user's own login."""

import os
from pathlib import Path

import pytest

from diffmamba.dashboard import members
from tests.dashboard.desks import Desk


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches W&B, or sees the user's own store and files."""
    for name in [name for name in os.environ if name.startswith(("WANDB", "DIFFMAMBA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sweep shares runs with another one. To find out takes seconds."""
    monkeypatch.setattr(members, "planned", lambda *_: {})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.shelf.directory.mkdir()
    return made
