"""The command: what it writes and prints, and what it says when it cannot."""

import json
import os
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.bench import Bench, sizes_of
from benchmarks.models import Scale
from benchmarks.passes import PAGE, in_a_child, peak, peak_bytes
from benchmarks.record import Found, Ratio, Section, Target
from benchmarks.sections import training
from diffmamba.reports import show

KEYS = {"section", "name", "ours", "other", "unit", "ratio", "ratio_is", "spread", "rounds", "target", "reached"}
QUICKLY = ["--device", "cpu", "--quick", "--out"]


def test_a_quick_run_of_some_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole but for sizes: tables on the terminal, and files, which do not take the place of a full run's."""
    assert command.main([*QUICKLY, str(tmp_path), "--only", "differential,training"]) == 0
    printed, progress = capsys.readouterr()
    assert "A training step" in printed
    assert "targets reached" in printed
    assert "differential: forward+backward" in progress
    assert sorted(path.name for path in (tmp_path / "partial").iterdir()) == ["cpu.json", "cpu.md", "cpu.png"]
    content = json.loads((tmp_path / "partial" / "cpu.json").read_text())
    assert {"device", "date", "versions", "revision", "kernels"} <= content["machine"].keys()
    assert [section["name"] for section in content["sections"]] == ["differential", "training"]
    for record in content["records"]:
        assert record.keys() >= KEYS
        assert min(record["ours"], record["other"], *record["spread"], record["ratio"]) > 0
        assert record["spread"][0] <= record["ratio"] <= record["spread"][1]
    judged = {record["name"]: record["target"] for record in content["records"] if record["target"]}
    assert judged["diff_mamba ÷ mamba_grouped, forward+backward"] == {"least": None, "most": 1.02}
    assert judged["two blocks in sequence ÷ diff_mamba, forward+backward"] == {"least": 1.15, "most": None}


def test_what_a_sweep_costs_beside_what_was_asked_for(tmp_path: Path) -> None:
    assert command.main([*QUICKLY, str(tmp_path), "--only", "sweeps"]) == 0
    records = json.loads((tmp_path / "partial" / "cpu.json").read_text())["records"]
    whole, beyond, done, planned = records[:4]
    assert whole["other"] < whole["ours"]  # a bare loop takes part of the time of its cell
    assert beyond["ours"] < whole["ours"]
    assert done["ours"] < beyond["ours"]
    assert [record["other"] for record in (beyond, done, planned)] == pytest.approx([300, 20, 6])
    assert all(record["target"] == {"least": None, "most": 1} for record in records[1:])


def measured(bench: Bench) -> Found:
    at = {"base": "", "variant": "mamba", "peer": "a", "mode": "forward"}
    yield {"ours": [2.0], "other": [1.0]}, Ratio("a ÷ b", at=at)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("no\nmemory")])
def test_what_was_measured_stays_when_a_section_fails(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted run keeps the sections before; a failed section does not keep those after from being measured."""

    def fails(bench: Bench) -> Found:
        yield from measured(bench)
        raise error

    for name in ("differential", "length"):
        monkeypatch.setattr(f"benchmarks.sections.{name}.measure", measured)
    monkeypatch.setattr(training, "measure", fails)
    arguments = [*QUICKLY, str(tmp_path), "--only", "differential,training,length"]
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            command.main(arguments)
    else:
        assert command.main(arguments) == 1
        assert "training failed (RuntimeError: no)" in capsys.readouterr().out
    content = json.loads((tmp_path / "partial" / "cpu.json").read_text())
    kept = [record["section"] for record in content["records"]]
    assert kept == (["differential"] if error is KeyboardInterrupt else ["differential", "length"])


def test_a_section_that_lacks_a_package_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(bench: Bench) -> Found:
        yield from measured(bench)
        import_module("a_package_that_is_not_there")

    monkeypatch.setattr(training, "measure", lacks)
    assert command.main([*QUICKLY, str(tmp_path), "--only", "training"]) == 0
    assert "training is left out: No module named 'a_package_that_is_not_there'" in capsys.readouterr().out


def test_no_section_starts_after_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Bench, "seconds", 1.5)
    monkeypatch.setattr(training, "measure", lambda bench: pytest.fail("it was started"))
    assert command.main([*QUICKLY, str(tmp_path), "--only", "training", "--limit", "1"]) == 1
    assert "training was not started: the limit of 1 s was over" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "mixer"], "'mixer' is no section; use some of operators, mixers, "),
        (["--threads", "0"], "'0' is not a whole number of at least 1"),
        pytest.param(
            ["--device", "cuda"],
            "--device cuda finds no CUDA device here; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here"),
        ),
    ],
)
def test_bad_options_are_named_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


TAKEN = {"ours": [0.002], "other": [0.009], "floor": [0.003, 0.0015]}


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Target(least=4), True),
        (Target(least=5), False),
        (Target(most=4), False),
        (Target(0.9, 1.1), False),
        (None, None),
    ],
)
def test_targets_are_judged_and_misses_shown(
    target: Target | None, reached: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = Ratio("peer, forward", faster=True, target=target, at={"peer": "a"}).measured("mixers", TAKEN)
    assert judged["reached"] is reached
    made = report.document([Section("mixers", "Mixers", "text", [judged], ["a note"])], {"device": "cpu"}, "cpu")
    show(made, Console(width=120))
    printed = capsys.readouterr().out
    assert ("MISSED" in printed) == (reached is False)
    assert "a note" in printed
    assert (f"peer, forward: 4.50, should be {target}" in printed) == (reached is False)


@pytest.mark.parametrize(("faster", "at_floor"), [(True, 6.0), (False, 1 / 6)])
def test_the_ratio_at_the_floor_goes_the_way_of_the_ratio(faster: bool, at_floor: float) -> None:
    record = Ratio("peer", faster=faster, floor="floor").measured("mixers", TAKEN)
    assert record["floor"] == pytest.approx({"ours": 1.5, "ratio": at_floor})


def test_peak_memory_is_that_of_the_call() -> None:
    size = 2**26

    def call() -> torch.Tensor:
        return torch.ones(size, dtype=torch.uint8).add_(1).max()

    peak = peak_bytes(torch.device("cpu"), call, lambda: torch.ones(1).add_(1).max())
    assert 0.98 * size <= peak < 1.2 * size  # the system counts some pages late
    assert peak_bytes(torch.device("cpu"), lambda: None, call) < size / 4
    assert peak_bytes(torch.device("cpu"), lambda: None, lambda: None) >= PAGE


def test_a_child_measures_and_raises() -> None:
    scale = Scale(d_model=64, headdim=32, d_state=8)
    case = {"device": torch.device("cpu"), "variant": "transformer", "scale": scale}
    assert in_a_child(peak, **case, batch=1, length=8192, mode="forward") >= 8192 * 64 * 4
    assert in_a_child(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="unheard"):
        in_a_child(partial(int, "unheard"))


def test_quick_sizes_cover_every_case() -> None:
    quick = sizes_of("quick")
    assert len(quick.lengths) > 2
    assert len(quick.memory_lengths) > 1
    assert len(quick.positions) > 1
