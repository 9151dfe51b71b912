"""What `make` is given and would ignore stops it, in one line, before anything is done."""

import subprocess

import pages
import pytest


def make(*words: str) -> tuple[int, str]:
    """The exit status of `make -n` and what it says on standard error."""
    told = subprocess.run(["make", "-n", *words], cwd=pages.ROOT, capture_output=True, text=True, check=False)
    return told.returncode, told.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("reproduce-table table=table1", "there is no table=; did you mean TABLE=?"),
        ("reproduce-table Table=table1", "there is no Table=; did you mean TABLE=?"),
        ("reproduce-table TABEL=table1", "there is no TABEL=; did you mean TABLE=?"),
        ("reproduce-figure scale=small", "there is no scale=; did you mean SCALE=?"),
        ("report ARG=seed=1", "there is no ARG=; did you mean ARGS=?"),
        ("sweep SWEEPS=table1", "there is no SWEEPS=; did you mean SWEEP=?"),
        ("reproduce-table data=pysrc8 TABLE=table2", "there is no data="),
        ("sweep TABLE=table1", "make sweep does not take TABLE=; it takes SWEEP SCALE LAUNCHER ARGS"),
        ("reproduce-figure TABLE=table1", "make reproduce-figure does not take TABLE="),
        ("reproduce-all TABLE=table1", "make reproduce-all does not take TABLE=; it takes SCALE LAUNCHER ARGS"),
        ("test SCALE=small", "make test does not take SCALE="),
        ("reproduce-table table1", "there is no target table1; see make help"),
    ],
)
def test_a_word_that_make_would_ignore_stops_it(words: str, told: str) -> None:
    status, said = make(*words.split())
    assert (status, len(said.splitlines())) == (2, 1)
    assert told in said


def test_a_scale_is_a_word_only_where_it_is_given() -> None:
    """A grid may have several scales of its own."""
    for target in ("reproduce-sweep", "report", "sweep", "wandb-sweep"):
        said = [
            subprocess.run(["make", "-n", target, "SWEEP=mine", *scale], cwd=pages.ROOT, capture_output=True, text=True)
            for scale in ((), ("SCALE=small",))
        ]
        assert ["scale=small" in one.stdout for one in said] == [False, True]
        assert "scale=smoke" not in said[0].stdout


@pytest.mark.parametrize(
    "words", ["", "help", "reproduce-table TABLE=table1 SCALE=small", "lint VENV=.venv", "lint test"]
)
def test_what_make_knows_is_taken(words: str) -> None:
    assert make(*words.split()) == (0, "")
