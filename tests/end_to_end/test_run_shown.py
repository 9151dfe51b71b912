"""What a training shows: lines without a terminal, a bar on one. Neither can fail the training."""

import io
import re
import sys

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from diffmamba.runs import shown
from diffmamba.runs.execution import execute
from diffmamba.runs.shown import duration


def test_without_a_terminal_every_evaluation_is_a_line(world, command):
    outcome = command("train", world.words())
    lines = outcome.out.splitlines()
    (record,) = world.store.records().values()
    sizes = record["corpus"]["sizes"]
    read = f"story (train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}; 27 different symbols)"
    parameters = f"{record['parameters']['total']:,} parameters"
    assert lines[0] == f"diff_mamba with {parameters} on {read}: 12 steps, evaluated every 4"
    told = [line for line in lines if line.startswith("step ")]
    for line, entry in zip(told, record["evaluations"], strict=True):
        figures = re.escape(f"test PPL {entry['test/ppl']:.3f}, val PPL {entry['val/ppl']:.3f}")
        left = "" if entry["step"] == 12 else r", about \d+ s left"
        assert re.fullmatch(rf"step {entry['step']} of 12: {figures}, [\d,]+ symbols/s{left}", line)
    assert outcome.err == ""


def test_a_run_of_two_processes_tells_as_one_does(world, forked):
    done = forked("train", world.words("trainer.devices=2"))
    out, err = (path.read_text() for path in done.files)
    assert (done.status, err) == (0, "")
    assert len(re.findall(r"^step (?:4|8|12) of 12: test PPL ", out, re.MULTILINE)) == 3
    assert out.count("diff_mamba with ") == 1


def test_the_time_that_is_left_is_told_after_some_seconds(world, caplog, monkeypatch):
    monkeypatch.setattr(shown, "ESTIMATE_SECONDS", 0)
    with caplog.at_level("INFO"):
        world.train()
    assert re.search(r"step 1 of 12, [\d,]+ symbols/s, about \d+ s left", caplog.text)
    assert not re.search(r"step 2 of 12", caplog.text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.5, "1 min 0 s"), (200, "3 min 20 s"), (8100, "2 h 15 min"), (90000, "25 h 0 min")],
)
def test_times(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_on_a_terminal_there_is_a_bar_and_no_lines(world, forked, encoding):
    done = forked("train", world.words(), terminal=True, encoding=encoding, environment={"TERM": "xterm"})
    text = done.shown.decode(errors="replace")
    assert done.status == 0, text
    assert "Epoch" in text
    assert "step 4 of 12" not in text
    assert "Traceback" not in text


class Gone(io.StringIO):
    """A terminal that was closed."""

    encoding = "ascii"

    def isatty(self):
        return True

    def write(self, text):
        raise OSError(5, "Input/output error")

    flush = close = lambda self: self.write("")


def test_without_any_output_there_are_lines_for_nobody(world, monkeypatch):
    work = world.work()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        assert execute(work, progress_bar=True)["status"] == "finished"


def test_a_closed_terminal_does_not_end_a_run(world, monkeypatch):
    work = world.work()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Gone())
        record = execute(work, progress_bar=True)
    assert record["status"] == "finished", record["error"]


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_batch_end", "on_validation_end", "teardown"])
def test_a_bar_that_fails_is_told_and_the_run_goes_on(world, monkeypatch, caplog, hook):
    def fails(*_, **__):
        raise ZeroDivisionError("no width")

    monkeypatch.setattr(shown.RunProgressBar, hook, shown._unfailing(fails))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert issubclass(shown.RunProgressBar, RichProgressBar)
    record = execute(world.work(), progress_bar=True)
    assert record["status"] == "finished", record["error"]
    assert "the bar failed, the run goes on without it: no width" in caplog.text
