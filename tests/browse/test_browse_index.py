"""The index of a store: it says what the records say, whatever happened to either."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shelves import Shelf

from diffmamba.runs import index
from diffmamba.runs.index import Entry, look


def fresh(shelf: Shelf) -> dict[str, Entry]:
    """What the records say, read without an index."""
    path = shelf.directory / index.NAME
    kept = path.read_bytes()
    path.unlink()
    found = look(shelf.store).entries
    path.write_bytes(kept)
    return found


def test_index_says_what_records_say(shelf: Shelf) -> None:
    shelf.put("a1", settings={"model.layer": ["mixer", "ffn"], "model.mixers": [{"groups": 2}]})
    shelf.put("b1", ppl=None, status="failed", error={"message": "no", "kind": "memory", "traceback": "long"})
    first = look(shelf.store).entries
    assert look(shelf.store).entries == first == fresh(shelf)
    assert first["a1"].settings["model.mixers.0.groups"] == 2
    assert first["a1"].settings["model.layer"] == ["mixer", "ffn"]
    assert (first["a1"].value, first["b1"].value) == (5.0, None)
    assert first["b1"].error == {"message": "no", "kind": "memory"}
    assert first["a1"].parts["data"] is first["b1"].parts["data"]  # shared, so that 5,000 runs are a small file


def test_records_are_read_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put("a1")
    shelf.put("b1")
    look(shelf.store)
    read: list[str] = []
    load = index.Run.load
    monkeypatch.setattr(index.Run, "load", lambda run: read.append(run.id) or load(run))
    shelf.put("b1", ppl=4.0)
    assert look(shelf.store).entries["b1"].value == 4.0
    assert read == ["b1"]


def test_another_record_of_same_size_and_time_is_seen(shelf: Shelf) -> None:
    """As after a restored backup, or on a disk whose times are coarse."""
    path = shelf.put("a1", ppl=5.0)
    look(shelf.store)
    told, other = path.stat(), path.with_name("other")
    other.write_text(path.read_text().replace('"test/ppl": 5.0', '"test/ppl": 4.0'))
    os.utime(other, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert other.stat().st_size == told.st_size
    other.replace(path)
    assert look(shelf.store).entries["a1"].value == 4.0


def test_runs_come_and_go(shelf: Shelf) -> None:
    shelf.put("a1")
    shelf.put("b1")
    look(shelf.store)
    (shelf.directory / "a1").rename(shelf.directory / "a1.before-1")
    shelf.put("c1")
    assert list(look(shelf.store).entries) == ["b1", "c1"] == list(fresh(shelf))


@pytest.mark.parametrize("spoil", ["cut", "empty", "changed", "other form", "text", "directory"])
def test_index_that_cannot_be_used_is_made_again(shelf: Shelf, spoil: str) -> None:
    shelf.put("a1", ppl=5.0)
    first, path = look(shelf.store).entries, shelf.directory / index.NAME
    whole = path.read_bytes()
    wrong = {
        **{"cut": whole[:-10], "empty": b"", "changed": whole.replace(b"5.0", b"9.0"), "text": b"[]\n[]"},
        "other form": whole.replace(json.dumps(index.FORM).encode(), json.dumps([0, *index.FORM[1:]]).encode()),
    }
    if spoil == "directory":  # as a store that cannot be written: it is read without an index
        path.unlink()
        path.mkdir()
    else:
        assert wrong[spoil] != whole
        path.write_bytes(wrong[spoil])
    assert look(shelf.store).entries == first
    assert spoil == "directory" or path.read_bytes() == whole


def test_damage_hides_nothing_else(shelf: Shelf) -> None:
    shelf.put("a1")
    shelf.put("b1").write_text('{"id": "b1"')
    shelf.put("c1", schema=99)
    (shelf.directory / "d1" / "result.json").mkdir(parents=True)
    (shelf.directory / "e1").mkdir()
    found = look(shelf.store)
    assert list(found.entries) == ["a1"]
    assert list(found.damaged) == ["b1", "c1", "d1"]
    assert "later version" in found.damaged["c1"]
    shelf.put("b1")
    assert list(look(shelf.store).entries) == ["a1", "b1"]


def test_run_under_way_is_as_it_is_now(shelf: Shelf) -> None:
    path = shelf.put("a1", status="running", finished=None, progress={"step": 4, "steps": 100}, wall_seconds=10.0)
    assert look(shelf.store).entries["a1"].status == "interrupted"
    with shelf.store.run("a1").claim():
        (path.parent / "progress.json").write_text('{"step": 20, "steps": 100}')
        os.utime(path.parent / "progress.json", (path.stat().st_atime, path.stat().st_mtime + 10))
        entry = look(shelf.store).entries["a1"]
    assert (entry.status, entry.step, entry.steps) == ("running", 20, 100)
    assert entry.left == pytest.approx(80.0, abs=0.1)  # 20 steps took 20 s
    assert look(shelf.store).entries["a1"].status == "interrupted"


def test_list_imports_nothing_large(shelf: Shelf) -> None:
    shelf.put("a1")
    command = [sys.executable, "-X", "importtime", "-m", "diffmamba.runs", "list", f"runs={shelf.directory}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert "a1" in told.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "pandas", "numpy", "matplotlib", "plotext", "wandb"}
    assert "diffmamba" in imported


def test_two_processes_may_write_at_once(shelf: Shelf) -> None:
    for number in range(30):
        shelf.put(f"a{number}")
    command = [sys.executable, "-m", "diffmamba.runs", "list", "format=json", f"runs={shelf.directory}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(process.communicate()[0]) for process in started]
    assert told[0] == told[1]
    assert len(told[0]) == 30
    assert list(Path(shelf.directory).glob(".*")) == [shelf.directory / index.NAME]
