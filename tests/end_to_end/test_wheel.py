"""An installed package works from any directory: a built wheel carries configuration, experiments, sweeps and C++."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from diffmamba.ops.cpu import build

ROOT = Path(__file__).resolve().parents[2]
OWN_SWEEP = """
# @package _global_
hydra: {mode: MULTIRUN, sweeper: {params: {model: "mamba,diff_mamba"}}}
"""
TINY = (
    *("model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.d_model=32", "scale.d_state=8", "scale.batch_size=4"),
    *("scale.length=16", "scale.steps=2", "scale.evaluate_every=2", "scale.eval_windows=2", "threads=1"),
    *("trainer=cpu", "logger=csv", "workers=1"),
)


def test_a_wheel_in_an_empty_directory_runs_a_sweep_of_the_users_own(tmp_path: Path) -> None:
    program = "import hatchling.build as build, sys; print(build.build_wheel(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    package, place = tmp_path / "installed", tmp_path / "an empty place"
    zipfile.ZipFile(tmp_path / built.stdout.decode().split()[-1]).extractall(package)
    (place / "conf" / "sweeps").mkdir(parents=True)
    (place / "conf" / "sweeps" / "mine.yaml").write_text(OWN_SWEEP)
    (place / "story.txt").write_text("once upon a time there was a wolf " * 100)
    text = ("data=text", "data.path=story.txt", "data.directory=data")
    command = [sys.executable, "-m", "diffmamba", "sweep", "sweep=mine", *text, *TINY]
    done = subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": str(package)}, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    records = [json.loads(path.read_text()) for path in place.glob("runs/*/result.json")]
    assert sorted(record["config"]["model"]["name"] for record in records) == ["diff_mamba", "mamba"]
    assert {record["status"] for record in records} == {"finished"}
    assert {record["operators"]["backend"] for record in records} == {f"cpu ({build.describe()})"}  # from its C++
    assert records[0]["git"] == {"revision": None, "dirty": False}  # no checkout, whoever's repository it lies in
