"""Faults at random: see `faults`, whose command does a hundred on a small disk. Here is one, and the judge itself."""

import contextlib
import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from tests.end_to_end import faults
from tests.end_to_end.fault_judge import wrong_with
from tests.end_to_end.fault_kinds import Place


def test_a_training_with_faults_at_random_ends_as_if_nothing_had_happened(tmp_path):
    def command():
        sys.argv = ["faults", "--runs", "1", "--first", "75", "--seed", "1"]
        with (tmp_path / "said").open("w") as said, contextlib.redirect_stdout(said):
            status = faults.main()
        sys.exit(status)

    process = multiprocessing.get_context("fork").Process(target=command)  # it gives up permissions, and sets waits
    process.start()
    process.join()
    said = (tmp_path / "said").read_text()
    assert said.endswith("1 runs, 0 wrong\n"), said
    assert process.exitcode == 0


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
