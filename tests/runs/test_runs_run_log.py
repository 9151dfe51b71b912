"""What a run says is kept beside it, and costs nothing where it cannot be kept."""

import logging
from pathlib import Path

import pytest

from diffmamba.runs import run_log

SAID = logging.getLogger("diffmamba.runs.somewhere")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="diffmamba")


def test_each_session_adds_what_is_said_inside_and_nothing_else(tmp_path: Path) -> None:
    for session in ("first", "second"):
        SAID.info("before")
        with run_log.kept(tmp_path):
            SAID.info("the %s session", session)
            logging.getLogger("another").warning("of another library")
        SAID.info("after")
    lines = (tmp_path / run_log.NAME).read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["the first session", "the second session"]


@pytest.mark.parametrize("place", ["gone", "full"])
def test_a_log_that_cannot_be_kept_disturbs_nothing(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if place == "full":
        (tmp_path / run_log.NAME).symlink_to("/dev/full")  # each write to it fails as on a full disk
    with run_log.kept(tmp_path if place == "full" else tmp_path / "gone"):
        SAID.info("said")
    assert capsys.readouterr().err == ""
