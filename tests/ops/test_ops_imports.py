"""The lower floors stand by themselves: none imports what lies above it, nor what only training needs."""

import json
import subprocess
import sys

HEAVY = ("lightning", "wandb", "transformers", "datasets", "hydra", "omegaconf")
FLOORS = ("ops", "mixers", "models", "tasks", "data", "runs", "reports")
PROGRAM = """
import importlib, json, sys
loaded = {}
for floor in ("ops", "mixers", "models"):
    importlib.import_module(f"diffmamba.{floor}")
    loaded[floor] = list(sys.modules)
print(json.dumps(loaded))
"""


def test_a_floor_imports_nothing_above_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    for floor, modules in json.loads(done.stdout).items():
        above = FLOORS[FLOORS.index(floor) + 1 :]
        assert f"diffmamba.{floor}" in modules
        assert not set(modules) & {*HEAVY, *(f"diffmamba.{name}" for name in above)}, floor
