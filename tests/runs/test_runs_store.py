"""The run store: one process at a time, records that are never half written or changed by hand, and their status."""

import errno
import json
import os
import threading

import pytest

from diffmamba.atomic import write_json
from diffmamba.errors import SettingError
from diffmamba.runs import RunStore, RunTakenError
from diffmamba.runs.form import DamagedRecordError


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


def a_record(status="finished", kind="training", **changes):
    """What every reader may rely on."""
    config = {"data": {"module": {}}, "model": {"name": "mamba"}}
    of_kind = {"evaluations": []} if kind == "training" else {"measure": {}, "values": {}, "weights": {}}
    error = {"message": "no memory", "step": 0} if status == "failed" else None
    common = {"id": "a", "status": status, "kind": kind, "started": "2026-01-01", "config": config, "error": error}
    return common | of_kind | changes


@pytest.mark.parametrize("kind", ["training", "measurement"])
@pytest.mark.parametrize("status", ["running", "finished", "failed", "interrupted"])
def test_running_without_a_process_means_interrupted(store, status, kind):
    run = store.run("a")
    with run.claim():
        run.write(a_record(status, kind))
        assert store.records() == {"a": a_record(status, kind)}
    assert store.records()["a"]["status"] == ("interrupted" if status == "running" else status)
    assert run.read() == a_record(status, kind)  # records() only looks


def test_other_folders_are_no_runs_and_a_record_of_schema_1_is_one_of_a_training(store):
    (store.directory / ".sweep").mkdir()
    (store.directory / "empty").mkdir()
    (store.directory / "file").write_text("")
    store.run("a").directory.mkdir()
    of_schema_1 = {key: value for key, value in a_record(schema=1).items() if key != "kind"}
    store.run("a").write(of_schema_1)
    assert store.records() == {"a": of_schema_1 | {"kind": "training"}}


DAMAGED = {
    "empty": "",
    "cut": json.dumps(a_record())[:40],
    "a list": "[1, 2]",
    "an empty object": "{}",
    "a number": "7",
    "deep": "[" * 100_000,
    "no text": b"\xff\xfe\x00",
    "another program's": '{"status": "finished", "kind": "training", "accuracy": 1}',
    "another kind": json.dumps(a_record(kind="training") | {"kind": "dream"}),
    "another status": json.dumps(a_record("training")),
    "a list for a configuration": json.dumps(a_record(config=[])),
    "a configuration without data": json.dumps(a_record(config={"model": {}})),
    "a text for evaluations": json.dumps(a_record(evaluations="none")),
    "evaluations of no step": json.dumps(a_record(evaluations=[{}])),
    "a failure without a message": json.dumps(a_record("failed", error={})),
    "a stop without a reason": json.dumps(a_record("stopped")),
    "a text for seconds": json.dumps(a_record(wall_seconds="long")),
    "a directory": None,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_record_is_none_names_its_file_and_hides_no_other(store, caplog, damage):
    for name in "ab":
        store.run(name).directory.mkdir()
    store.run("b").write(a_record(id="b"))
    path = store.run("a").result
    if damage is None:
        path.mkdir()
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    with pytest.raises(DamagedRecordError, match=rf"^{path} is [^\n]*$"):
        store.run("a").load()
    assert store.run("a").read() is None
    assert list(store.records()) == ["b"]
    assert caplog.text.count(str(path)) == 1
    assert store.facts({"module": {}}) is None
    aside = store.run("a").set_record_aside()
    assert aside.name == "result.json.damaged-1"
    assert aside.is_dir() == (damage is None)
    assert store.run("a").load() is None


CHANGES = {
    "a figure": lambda record: record["evaluations"][0].update({"test/ppl": 1.0}),
    "a figure's last digit": lambda record: record["evaluations"][0].update({"test/ppl": 2.7182818284590455}),
    "a setting": lambda record: record["config"].update(seed=1),
    "the status": lambda record: record.update(status="finished"),
    "the seal": lambda record: record.update(seal="0" * 64),
    "no seal any more than null": lambda record: record.update(seal=None),
    "one more key": lambda record: record.update(note="mine"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_record_that_was_changed_by_hand_is_not_used(store, caplog, change):
    evaluations = [{"step": 4, "test/ppl": 2.718281828459045, "λ": [1, 1e-300], "by": {"2": None, "10": 1}}]
    for name in "ab":
        store.run(name).directory.mkdir()
        store.run(name).write(a_record("interrupted", id=name, evaluations=evaluations))
    path = store.run("a").result
    changed = json.loads(path.read_text())
    path.write_text(json.dumps(changed, indent=7, sort_keys=True))
    assert store.run("a").load() == a_record("interrupted", evaluations=evaluations)  # another layout is no change
    change(changed)
    path.write_text(json.dumps(changed))
    with pytest.raises(DamagedRecordError, match=rf"^{path} was changed by hand[^\n]*$"):
        store.run("a").load()
    assert store.run("a").read() is None
    assert list(store.records()) == ["b"]
    assert caplog.text.count(f"{path} was changed by hand") == 1


def test_a_record_without_a_seal_is_one_of_an_older_version(store):
    store.run("a").directory.mkdir()
    store.run("a").result.write_text(json.dumps(a_record()))
    assert store.run("a").load() == a_record()


def test_what_a_record_holds_in_memory_is_what_its_seal_is_of(store):
    """Tuples and keys that are numbers are lists and texts for a reader."""
    store.run("a").directory.mkdir()
    store.run("a").write(a_record(values=(1, 2), by={10: "ten", 9: "nine"}))
    assert store.run("a").load() == a_record(values=[1, 2], by={"10": "ten", "9": "nine"})
    store.run("a").write(store.run("a").load() | {"status": "failed", "error": {"message": "m"}})
    assert store.run("a").load()["status"] == "failed"


def test_a_record_of_a_later_version_is_no_damage(store):
    store.run("a").directory.mkdir()
    store.run("a").write(a_record(schema=99))
    with pytest.raises(SettingError, match="later version") as raised:
        store.run("a").load()
    assert not isinstance(raised.value, DamagedRecordError)
    assert store.records() == {}


def test_what_is_set_aside_keeps_what_was_set_aside_before(store):
    run = store.run("a")
    for number in (1, 2, 3):
        run.directory.mkdir(exist_ok=True)
        (run.directory / "result.json").write_text(str(number))
        assert run.set_record_aside().name == "result.json.damaged-1"
        run.write(a_record(seed=number))
        assert run.logged_as == ("a" if number == 1 else f"a-{number}")
        assert run.set_aside().name == f"a.before-{number}"
    assert store.ids() == []
    assert store.records() == {}
    assert [store.run(f"a.before-{n}").load()["seed"] for n in (1, 2, 3)] == [1, 2, 3]
    assert store.run("a.before-2").load()["id"] == "a.before-2"


def test_a_run_that_is_set_aside_stays_claimed(store):
    run = store.run("a")
    with run.claim():
        run.write(a_record())
        run.set_aside()
        assert store.taken() == {"a"}
        with pytest.raises(RunTakenError), store.run("a").claim():
            pass
        run.write(a_record("running"))
    assert store.records() == {"a": a_record("interrupted")}
    assert store.taken() == set()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_looking_needs_no_permission_to_write(store, monkeypatch, number):
    run, opened = store.run("a"), os.open
    with run.claim():
        run.write(a_record("running"))

    def read_only(path, flags, *mode, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number), path)
        return opened(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", read_only)
    assert not run.is_taken()
    assert store.records()["a"]["status"] == "interrupted"
    with pytest.raises(OSError, match=r"\.leases/a") as raised, run.claim():
        pass
    assert raised.value.errno == number


def test_an_older_lock_means_nothing(store):
    (store.run("a").directory / "lock").mkdir(parents=True)
    store.run("a").write(a_record("running"))
    assert store.records()["a"]["status"] == "interrupted"
    with store.run("a").claim():
        assert store.run("a").is_taken()


def test_a_lease_that_is_a_directory_is_named(store):
    lease = store.directory / ".leases" / "a"
    lease.mkdir(parents=True)
    with pytest.raises(SettingError, match=f"runs=.* cannot hold runs: .*{lease}"), store.run("a").claim():
        pass
    assert not store.run("a").is_taken()
    assert store.taken() == set()
    assert store.records() == {}


def test_a_store_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(SettingError, match=f"runs={tmp_path}/runs"), RunStore(tmp_path / "runs").run("a").claim():
        pass
    assert RunStore(tmp_path / "runs").records() == {}


def test_share_done(store):
    run = store.run("a")
    assert run.share_done() == 0.0
    run.directory.mkdir()
    write_json(run.directory / "progress.json", {"step": 30, "steps": 40})
    assert run.share_done() == 0.75


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "7", '{"step": 1, "steps": 0}', '{"step": "a", "steps": 1}', "\xff"]
)
def test_progress_of_another_form_is_none(store, content):
    run = store.run("a")
    run.directory.mkdir()
    (run.directory / "progress.json").write_bytes(content.encode("latin-1"))
    assert run.share_done() == 0.0


def test_writing_replaces_all_or_nothing(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"step": 1})
    for impossible in ({"loss": float("nan")}, {"loss": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, impossible)
        assert json.loads(path.read_text()) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
