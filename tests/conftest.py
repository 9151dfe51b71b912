"""For all tests: one thread each, since two tests run side by side, no W&B account, and the paths of the operators."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
os.register_at_fork(after_in_child=gc.freeze)
"""A forked process does not collect the garbage of this one, of which some waits for threads that the fork lacks."""
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


@pytest.fixture(params=["torch", "cpu"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test by PyTorch's operators, and by the compiled ones for the types that they have."""
    from diffmamba.ops import backend
    from diffmamba.ops.cpu import build

    if request.param == "cpu" and isinstance(reason := build.load(), str):
        pytest.skip(reason)
    with backend.use("auto" if request.param == "cpu" else request.param):
        yield request.param
