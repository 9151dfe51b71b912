"""The command: what it writes and prints, and what it says when it cannot."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import child, footprint, plot, report
from benchmarks.memory import PAGE, peak_bytes
from benchmarks.record import Floor, Record, Section, Target, from_dict
from benchmarks.sections import SECTIONS
from benchmarks.sizes import QUICK
from benchmarks.timing import Spread

KEYS = {"section", "name", "ours", "other", "unit", "ratio", "ratio_is", "spread", "rounds", "target", "reached"}


def test_a_quick_run_of_some_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole but for sizes: tables on the terminal, and files, which do not take the place of a full run's."""
    command.main(["--device", "cpu", "--quick", "--only", "differential,training", "--out", str(tmp_path)])
    printed, progress = capsys.readouterr()
    assert "A TRAINING STEP" in printed
    assert "targets reached" in printed
    assert "differential: forward+backward" in progress
    assert sorted(path.name for path in (tmp_path / "partial").iterdir()) == ["cpu.json", "cpu.md", "cpu.png"]
    content = json.loads((tmp_path / "partial" / "cpu.json").read_text())
    assert {"device", "date", "versions", "revision", "kernels"} <= content["machine"].keys()
    assert {section["name"] for section in content["sections"]} == {"differential", "training"}
    for record in content["records"]:
        assert record.keys() >= KEYS
        assert min(record["ours"], record["other"], *record["spread"], record["ratio"], record["floor"]["ours"]) > 0
        assert record["spread"][0] <= record["ratio"] <= record["spread"][1]
        assert from_dict(record).as_dict() == record
    judged = {record["name"]: record["target"] for record in content["records"] if record["target"]}
    assert judged["diff_mamba ÷ mamba_grouped, forward+backward"] == {"least": None, "most": 1.05}
    assert judged["two blocks in sequence ÷ diff_mamba, forward+backward"] == {"least": 1.15, "most": None}


def test_an_interrupted_run_leaves_earlier_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = tmp_path / "partial" / "cpu.json"
    earlier.parent.mkdir()
    earlier.write_text("earlier")

    def interrupted(bench: object) -> Section:
        raise KeyboardInterrupt

    monkeypatch.setitem(SECTIONS, "training", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--device", "cpu", "--quick", "--only", "training", "--out", str(tmp_path)])
    assert [path.read_text() for path in earlier.parent.iterdir()] == ["earlier"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "mixer"], "'mixer' is no section; these are: mixers, parts, "),
        (["--threads", "0"], "'0' is no number of threads"),
        pytest.param(
            ["--device", "cuda"],
            "--device cuda finds no CUDA device here; --device cpu would do",
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


def record(**changes: object) -> Record:
    sides = {"ours": 2.0, "other": 9.0, "unit": "ms", "ratio": Spread(4.5, 4.0, 5.0, 7), "ratio_is": "other / ours"}
    return Record(**{"section": "mixers", "name": "peer, forward", **sides, **changes})


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
def test_targets_are_judged_and_misses_shown(target: Target | None, reached: bool | None) -> None:
    judged = record(target=target)
    section = Section("mixers", "Mixers", "text", [judged], ["a note"])
    assert judged.reached is reached
    for text in (report.terminal([section], {"device": "cpu"}), report.markdown([section], {"device": "cpu"}, None)):
        assert ("MISSED" in text) == (reached is False)
        assert "a note" in text
    if reached is False:
        assert f"peer, forward: 4.50, should be {target}" in report.verdict([section])


def test_the_ratio_at_the_floor_goes_the_way_of_the_ratio() -> None:
    floor = Floor(1.5, "")
    assert record(floor=floor).at_floor == 6.0
    assert record(floor=floor, ratio_is="ours / other").at_floor == 1.5 / 9


def test_no_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert plot.draw([], "cpu") is None
    assert capsys.readouterr().err.splitlines() == ["no picture: matplotlib is not installed"]


def test_peak_memory_is_that_of_the_call() -> None:
    size = 2**26

    def call() -> torch.Tensor:
        return torch.ones(size, dtype=torch.uint8).add_(1).max()

    peak = peak_bytes(torch.device("cpu"), call, lambda: torch.ones(1).add_(1).max())
    assert 0.98 * size <= peak < 1.2 * size  # the system counts some pages late
    assert peak_bytes(torch.device("cpu"), lambda: None, call) < size / 4
    assert peak_bytes(torch.device("cpu"), lambda: None, lambda: None) >= PAGE


def test_a_child_measures_and_says_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    case = {"device": "cpu", "batch": 1, "length": 512, "mode": "forward", "threads": 1}
    scale = {"d_model": 64, "headdim": 32, "d_state": 8, "layer": ["mixer"]}
    assert child.call(footprint.of_case, variant="transformer", scale=scale, **case) >= 512 * 64 * 4
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    with pytest.raises(child.ChildError, match="of_case ended with status 1"):
        child.call(footprint.of_case, variant="transformer", scale=scale, **case)


def test_quick_sizes_cover_every_case() -> None:
    assert len(QUICK.lengths) > 2
    assert len(QUICK.memory_lengths) > 1
    assert len(QUICK.positions) > 1
