"""Faults at random: see `faults`, whose command does a hundred on a small disk. Here is one, and the judge itself."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.end_to_end.fault_judge import wrong_with
from tests.end_to_end.fault_kinds import Place

ROOT = Path(__file__).parents[2]


def test_a_training_with_faults_at_random_ends_as_if_nothing_had_happened():
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.end_to_end.faults", "--runs", "1", "--first", "75", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})
    assert done.stdout.endswith("1 runs, 0 wrong\n"), done.stdout + done.stderr
    assert done.returncode == 0


SAID = {
    "exit status 3": (3, ""),
    "exit status -9": (-9, ""),
    "exit status 999": (999, ""),
    "a traceback": (1, "error: it failed\nTraceback (most recent call last):\n"),
    "0 lines with an error": (1, "it failed\n"),
    "2 lines with an error": (2, "error: one\nerror: another\n"),
    "": (1, "as expected\nerror: it failed\n"),
}


@pytest.mark.parametrize(("wrong", "call"), SAID.items(), ids=[wrong or "nothing" for wrong in SAID])
def test_the_judge_sees_what_no_call_may_do(tmp_path, wrong, call):
    ended = SimpleNamespace(status=call[0], said=call[1], start=SimpleNamespace(streams={}))
    assert wrong_with(ended, Place(tmp_path, tmp_path, on_image=False), set()) == wrong


def test_the_judge_sees_half_a_file_unless_a_fault_made_it(tmp_path):
    place = Place(tmp_path, tmp_path, on_image=False)
    ended = SimpleNamespace(status=0, said="", start=SimpleNamespace(streams={}))
    for name in ("result.json", "last.ckpt"):
        path = place.run("t0") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half{")
        assert wrong_with(ended, place, set()) == f"half of {name}"
        place.hurt.add(path)
        assert wrong_with(ended, place, set()) == ""
