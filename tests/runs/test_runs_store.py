"""The run store: one process at a time, records that are never half written, and status from who holds the lock."""

import json
import threading

import pytest

from diffmamba.atomic import write_json
from diffmamba.errors import SettingError
from diffmamba.runs import RunStore, RunTakenError


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


def test_run_that_never_started_has_no_record(store):
    assert store.run("a").read() is None
    assert store.records() == {}
    assert not (store.directory / "a").exists()


def test_run_is_held_by_one_at_a_time(store):
    run = store.run("a")
    with run.claim():
        assert run.is_taken()
        with pytest.raises(RunTakenError, match="a is worked on"), run.claim():
            pass
        with store.run("b").claim():
            pass
    assert not run.is_taken()
    with pytest.raises(KeyboardInterrupt), run.claim():
        raise KeyboardInterrupt
    assert not run.is_taken()


def test_looking_whether_a_run_is_taken_keeps_nobody_from_it(store):
    run, over = store.run("a"), threading.Event()
    run.directory.mkdir()

    def look():
        while not over.is_set():
            run.is_taken()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            with run.claim():
                pass
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("status", ["running", "finished", "failed", "interrupted"])
def test_running_without_a_process_means_interrupted(store, status):
    run = store.run("a")
    with run.claim():
        run.write({"status": status, "kind": "measurement"})
        assert store.records() == {"a": {"status": status, "kind": "measurement"}}
    assert store.records()["a"]["status"] == ("interrupted" if status == "running" else status)
    assert run.read() == {"status": status, "kind": "measurement"}  # records() only looks


def test_other_folders_are_no_runs_and_a_record_of_schema_1_is_one_of_a_training(store):
    (store.directory / ".sweep").mkdir()
    (store.directory / "empty").mkdir()
    (store.directory / "file").write_text("")
    store.run("a").directory.mkdir()
    store.run("a").write({"status": "finished"})
    assert store.records() == {"a": {"status": "finished", "kind": "training"}}


def test_damaged_record_names_its_file_and_hides_no_other(store, caplog):
    for name, content in (("a", '{"status": "fin'), ("b", '{"status": "finished"}')):
        (store.directory / name).mkdir()
        (store.directory / name / "result.json").write_text(content)
    with pytest.raises(SettingError, match=r"result\.json is damaged"):
        store.run("a").read()
    assert list(store.records()) == ["b"]
    assert "result.json is damaged" in caplog.text


def test_share_done(store):
    run = store.run("a")
    assert run.share_done() == 0.0
    run.directory.mkdir()
    write_json(run.directory / "progress.json", {"step": 30, "steps": 40})
    assert run.share_done() == 0.75
    (run.directory / "progress.json").write_text("")
    assert run.share_done() == 0.0


def test_writing_replaces_all_or_nothing(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"step": 1})
    for impossible in ({"loss": float("nan")}, {"loss": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, impossible)
        assert json.loads(path.read_text()) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
