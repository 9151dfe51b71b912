"""For all tests: one thread each, since two tests run side by side, and no W&B account of the machine's owner."""

import gc
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # pytest-xdist sets the width of its own terminal


def pytest_collection_finish() -> None:
    """What the imports made stays: to look through it again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(Path(tmp_path_factory.getbasetemp()) / "no-netrc"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
