"""The processes of a sweep on this machine: what each says is told, who dies is replaced, and all end with it."""

import sys
import time

import pytest

from diffmamba.runs import engine
from diffmamba.runs.engine import LocalWorkers


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Starts workers that are a shell script each."""

    def build(script, count=2, name="plan"):
        path = tmp_path / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        folder = tmp_path / name
        folder.mkdir()
        return LocalWorkers(folder, [{"SHARE": str(index)} for index in range(count)])

    return build


def ended(workers):
    deadline = time.monotonic() + 20
    while workers.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return workers


def test_each_worker_has_its_share_and_a_log_of_its_own_and_each_error_is_told_once(workers):
    found = ended(workers('echo "error: run t1 failed"\necho "error: share $SHARE"\necho "error: both"\nexit 1'))
    assert [found.log(i).read_text().splitlines()[1] for i in range(2)] == ["error: share 0", "error: share 1"]
    assert sorted(found.trouble()) == ["error: both", "error: share 0", "error: share 1"]
    assert found.told() == "2 workers"


def test_workers_that_end_well_are_no_trouble(workers):
    found = ended(workers("exit 0", count=1))
    assert (found.trouble(), found.told()) == ([], "1 worker")
    found.renew()
    assert found.alive() == 0


def test_a_worker_that_breaks_down_points_to_its_log(workers):
    found = ended(workers("echo 'Traceback (most recent call last):'\nexit 1", count=1))
    assert found.trouble() == [f"error: a worker ended with status 1; its last words are in {found.log(0)}"]
    found.renew()
    assert found.alive() == 0  # it would break down again


def test_a_worker_that_is_killed_is_replaced_unless_it_gets_nowhere(workers):
    found = workers("echo begun >> $1/begun 2>/dev/null; echo begun; kill -9 $$", count=1)
    for _ in range(engine.RENEWALS + 3):
        ended(found).renew()
    assert found.log(0).read_text().splitlines().count("begun") == engine.RENEWALS + 1
    assert "status -9" in found.trouble()[0]
    found.progressed()
    found.renew()
    assert ended(found).log(0).read_text().splitlines().count("begun") == engine.RENEWALS + 2


def test_workers_are_asked_to_stop_and_then_stopped(workers, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.3)
    kind = workers("trap 'echo asked; exit 130' INT\necho ready\nwhile true; do sleep 0.02; done", name="kind")
    deaf = workers("trap '' INT\necho ready\nwhile true; do sleep 0.02; done", name="deaf")
    for found in (kind, deaf):
        while any("ready" not in found.log(index).read_text() for index in range(2)):
            time.sleep(0.01)
        found.stop()
        assert found.alive() == 0
    assert "asked" in kind.log(0).read_text()


def test_a_worker_ends_when_its_parent_is_gone(workers):
    found = workers("read line\necho alone", count=1)
    assert found.alive() == 1
    found.processes[0].stdin.close()
    assert "alone" in ended(found).log(0).read_text()
