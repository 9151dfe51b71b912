"""The ground floor stands by itself."""

import subprocess
import sys

import pytest

HEAVY = ("lightning", "wandb", "transformers", "datasets", "hydra", "omegaconf")


@pytest.mark.parametrize(
    ("floor", "above"),
    [
        ("ops", ("mixers", "models", "tasks", "data", "runs", "reports")),
        ("mixers", ("models", "tasks", "data", "runs", "reports")),
        ("models", ("tasks", "data", "runs", "reports")),
    ],
)
def test_a_floor_imports_nothing_above_it(floor: str, above: tuple[str, ...]) -> None:
    program = f"import sys, diffmamba.{floor}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert f"diffmamba.{floor}" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(f"diffmamba.{name}" for name in above)
