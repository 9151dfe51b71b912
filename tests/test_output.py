"""What a command says may be lost without harm: a closed pipe, a terminal that is gone, letters it does not have."""

import errno
import io
import os
import sys

import pytest

from diffmamba import exit_status
from diffmamba.output import lost, patient, reader_is_gone


class Broken(io.StringIO):
    """A stream that fails at every write."""

    def __init__(self, number: int):
        super().__init__()
        self.number, self.tried = number, 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_reader_that_is_gone_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    stream, done = Broken(number), []
    monkeypatch.setattr(sys, "stdout", stream)

    def work() -> int:
        for step in range(3):
            print(step)
            done.append(step)
        assert reader_is_gone()
        return 0

    assert exit_status.guarded(work) == 0
    assert done == [0, 1, 2]
    assert stream.tried == 1  # after the first failure nothing is tried again
    assert sys.stdout is stream


def test_output_lost_on_a_full_disk_is_told_when_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    assert exit_status.guarded(lambda: int(bool(print("figures")))) == 1
    assert capsys.readouterr().err == "error: No space left on device: standard output; mend that and run it again\n"


def test_a_failure_keeps_its_status_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Broken(errno.EPIPE))

    def refused() -> int:
        raise exit_status.SettingError("seed=x must be a whole number")

    assert exit_status.guarded(refused) == 2


def test_a_closed_stream_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with patient():
        print("λ")
        assert reader_is_gone()
        assert lost() is None


def test_letters_that_a_terminal_does_not_have_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with patient():
        print("λ = 0.2")
    assert raw.getvalue() == b"l = 0.2\n"
