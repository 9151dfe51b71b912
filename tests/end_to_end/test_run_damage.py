"""What is damaged in the run store costs no work, hides nothing else and is one line: in every command."""

import errno
import json
import os
import platform
import resource
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest
import torch

from diffmamba import atomic, exit_status
from diffmamba.data import CorpusChoice
from diffmamba.errors import SettingError
from diffmamba.runs import RunStore, measurement, recorder
from diffmamba.runs.execution import execute
from diffmamba.runs.store import LostLeaseError
from diffmamba.tasks import LanguageModelling

DAMAGE = {"empty": "", "cut": '{"schema": 2, "ki', "a list": "[]", "no record": "{}", "a directory": None}
GRID = ("model=mamba", "model.outer_norm=false", "model.lambda_form=scalar")


@contextmanager
def mounted(*words, unmount=True):
    """Something mounted on the last of these words; skips where this user may not."""
    if subprocess.run(["mount", *words], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        if unmount:
            subprocess.run(["umount", words[-1]], check=True)


def damage(path, content):
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)


def left(world, record):
    """What a training leaves behind and no clock has written."""
    checkpoint = torch.load(world.run(record).last_checkpoint, weights_only=True)
    weights = {name: weight.numpy().tobytes() for name, weight in checkpoint["state_dict"].items()}
    return weights, record["evaluations"], record["progress"], record["status"]


@pytest.fixture(scope="module")
def undisturbed(new_world):
    world = new_world("undisturbed")
    return left(world, world.train("scale.dropout=0.3"))


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("step", [2, 9, None], ids=["before a checkpoint", "after one", "at the end"])
def test_a_run_with_a_damaged_record_goes_on_from_its_checkpoint(
    world, command, undisturbed, monkeypatch, step, content
):
    record = world.train("scale.dropout=0.3") if step is None else world.interrupted(step, "scale.dropout=0.3")
    run, steps, training_step = world.run(record), [], LanguageModelling.training_step
    damage(run.result, content)
    noted = lambda task, *batch: steps.append(task.global_step) or training_step(task, *batch)  # noqa: E731
    monkeypatch.setattr(LanguageModelling, "training_step", noted)
    outcome = command("train", world.words("scale.dropout=0.3"))
    assert (outcome.status, outcome.err) == (0, "")
    assert "Traceback" not in outcome.out
    (line,) = [
        line for line in outcome.out.splitlines() if "damaged" in line or "is no record" in line or "is a dir" in line
    ]
    assert "result.json.damaged-1" in line
    assert line.endswith("from the beginning" if step == 2 else "from its checkpoint")
    assert steps == {2: [*range(12)], 9: [8, 9, 10, 11], None: []}[step]
    assert left(world, run.read()) == undisturbed
    assert (run.directory / "result.json.damaged-1").is_dir() == (content is None)
    assert command("train", world.words("scale.dropout=0.3")).out.startswith("finished at")


@pytest.mark.parametrize("step", [9, None], ids=["under way", "at the end"])
def test_a_result_that_was_changed_by_hand_is_said_and_not_used(world, command, undisturbed, step):
    record = world.train("scale.dropout=0.3") if step is None else world.interrupted(step, "scale.dropout=0.3")
    run, runs = world.run(record), f"runs={world.store.directory}"
    changed = json.loads(run.result.read_text())
    changed["evaluations"][-1]["test/ppl"] = 1.0
    run.result.write_text(json.dumps(changed))
    assert f"{run.result} was changed by hand" in command("generate", [f"run={record['id']}", runs]).refusal()
    assert world.store.records() == {}  # of which every table is made
    outcome = command("train", world.words("scale.dropout=0.3"))
    assert (outcome.status, outcome.err) == (0, "")
    (line,) = [line for line in outcome.out.splitlines() if "changed by hand" in line]
    assert line.endswith("the record is now result.json.damaged-1, and the run goes on from its checkpoint")
    assert json.loads((run.directory / "result.json.damaged-1").read_text()) == changed
    assert left(world, run.read()) == undisturbed


def test_damaged_and_foreign_records_stop_no_command(world, command, forked_workers, undrawn):
    """One that the sweep is to do is damaged, too."""
    finished, words = world.train("experiments=table2", *GRID, "seed=0"), world.words(*GRID, "seed=0,1")
    pending = world.train("experiments=table2", *GRID, "seed=1")
    damage(world.run(pending).result, "")
    for number, content in enumerate(DAMAGE.values()):
        run = world.store.run(f"t{number}0000000000")
        run.directory.mkdir()
        run.result.touch()
        damage(run.result, content)
    (world.store.directory / "a file").write_text("")
    run, runs = f"run={finished['id']}", f"runs={world.store.directory}"
    outcomes = [
        command("generate", [run, runs, "length=3"]),
        command("evaluate", [run, runs, "device=cpu"]),
        command("measure", ["weights=run", f"weights.run={finished['id']}", runs, "trainer=cpu"]),
        command("train", world.words("experiments=table2", *GRID, "seed=0")),
        command("sweep", ["sweep=table2", "workers=1", *words]),
        command("report", ["table=table2", f"reports={world.folder}", *words]),
    ]
    assert [(outcome.status, outcome.err) for outcome in outcomes] == [(0, "")] * len(outcomes), outcomes
    assert not any("Traceback" in outcome.out for outcome in outcomes)
    assert "1 of 2 runs to do" in outcomes[4].out
    assert "2 of 2 runs are finished" in outcomes[4].out
    assert {finished["id"], pending["id"]} < world.store.records().keys()
    for number in range(len(DAMAGE)):
        line = command("generate", [f"run=t{number}0000000000", runs]).refusal()
        assert f"{world.store.directory}/t{number}0000000000/result.json is" in line


@pytest.mark.parametrize("content", ["", "measure,value,pos", "measure,value\nppl,\n", "a,b\n1,2\n", None])
def test_a_measurement_with_damaged_rows_is_taken_again(world, command, content):
    words = [f"run={world.train()['id']}", f"runs={world.store.directory}", "device=cpu"]
    assert command("evaluate", words).status == 0
    (record,) = [record for record in world.store.records().values() if record["kind"] == "measurement"]
    rows = world.run(record).directory / "rows.csv"
    whole = rows.read_text()
    rows.unlink() if content is None else rows.write_text(content)
    outcome = command("evaluate", words)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"{rows} is damaged or missing" in outcome.out
    assert rows.read_text() == whole
    assert world.run(record).read()["values"] == record["values"]


def test_a_damaged_checkpoint_costs_nothing_that_is_not_said(world, command):
    record = world.train()
    runs, run = f"runs={world.store.directory}", world.run(record)
    for name, other in (("best", "last"), ("last", "best")):
        path = run.checkpoint(name)
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b""):
            path.write_bytes(content)
            for asked in ("generate", "evaluate"):
                line = command(asked, [f"run={record['id']}", runs, f"checkpoint={name}"]).refusal()
                assert f"{path} is not a readable checkpoint" in line
                assert f"or use its other checkpoint: {other}" in line
        path.unlink()
        torch.save([1, 2], path)
        assert (
            "is no checkpoint of a training"
            in command("generate", [f"run={record['id']}", runs, f"checkpoint={name}"]).refusal()
        )
        path.write_bytes(whole)


def test_a_store_that_is_only_read_serves_what_is_there(world, command):
    """Without a lease, a log or a folder: what a disk without permission to write would refuse."""
    trained = world.train("experiments=table2", *GRID, "seed=0")
    words, run = world.words(*GRID, "seed=0"), [f"run={trained['id']}", f"runs={world.store.directory}"]
    assert command("evaluate", [*run, "device=cpu"]).status == 0
    shutil.rmtree(world.store.directory / ".leases")
    reads = {
        "generate": [*run, "length=2"],
        "evaluate": [*run, "device=cpu"],
        "train": world.words("experiments=table2", *GRID, "seed=0"),
        "sweep": ["sweep=table2", *words],
        "report": ["table=table2", f"reports={world.folder}", *words],
    }
    before, store = world.contents(), str(world.store.directory)
    with mounted("--bind", store, store), mounted("-o", "remount,bind,ro", store, unmount=False):
        for name, given in reads.items():
            outcome = command(name, given)
            assert (outcome.status, outcome.err) == (0, ""), outcome
        for given in (world.words("seed=7"), [*reads["train"], "force=true", "callbacks=early_stopping"]):
            outcome = command("train", given)
            assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
            assert "error: Read-only file system: " in outcome.err
    assert world.contents() == before
    assert not (world.store.directory / ".leases").exists()  # nothing was claimed


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_one_line(world, command, monkeypatch, number):
    def read_only(path, flags, *mode, **more):
        if "/runs/.leases/" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *mode, **more)

    opened = os.open
    monkeypatch.setattr(os, "open", read_only)
    outcome = command("train", world.words())
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
    assert f"error: {os.strerror(number)}: {world.store.directory}/.leases/t" in outcome.err
    assert not world.contents()


def test_a_run_whose_lease_was_removed_stops_and_writes_nothing_more(world, command, undisturbed, monkeypatch):
    seen = {}

    def removes():
        shutil.rmtree(world.store.directory / ".leases")
        seen.update(world.contents())

    monkeypatch.setenv("DIFFMAMBA_BEAT_SECONDS", "0.0001")
    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck(6, removes))
        outcome = command("train", world.words("scale.dropout=0.3"))
    assert outcome.status == 1
    (told,) = outcome.err.splitlines()
    assert told.startswith("error: run t")
    assert "is no longer held by this process, which leaves it: its lease " in told
    assert told.endswith(" was removed")
    assert world.contents() == seen
    (record,) = world.store.records().values()
    assert (record["status"], record["progress"]["step"]) == ("interrupted", 4)
    assert command("train", world.words("scale.dropout=0.3")).status == 0
    assert left(world, world.run(record).read()) == undisturbed


def test_a_measurement_that_another_process_takes_is_one_line(world, command):
    words = [f"run={world.train()['id']}", f"runs={world.store.directory}", "device=cpu"]
    assert command("evaluate", words).status == 0
    (record,) = [record for record in world.store.records().values() if record["kind"] == "measurement"]
    world.run(record).write(record | {"status": "running"})
    with world.run(record).claim():
        outcome = command("evaluate", words)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f"error: run {record['id']} is worked on by another process: {this_process()}\n"


def this_process():
    return f"process {os.getpid()} on {platform.node()}"


def test_no_checkpoint_rows_or_record_are_written_without_the_lease(world, monkeypatch):
    """Whatever is about to be written when the lease is lost."""
    taken = world.train()
    words = ("weights=run", f"weights.run={taken['id']}")
    for settings, root, name in ((("seed=1",), "train", "last.ckpt"), (words, "measure", "rows.csv")):
        work, seen = world.work(*settings, root=root), {}
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "replacing", removing_leases(world, name, seen))
            with pytest.raises(LostLeaseError):
                execute(work, progress_bar=False)
        kept = {path: state for path, state in seen.items() if not path.endswith(".new")}
        assert len(kept) < len(seen)
        assert world.contents() == kept
        assert world.store.run(work.identity()).read()["status"] == "running"
        assert execute(work, progress_bar=False)["status"] == "finished"


def removing_leases(world, name, seen):
    """Writes files as ever, until one of this name is about to be replaced."""
    replacing = atomic.replacing

    @contextmanager
    def removing(path, before=lambda: None):
        with replacing(path, before) as file:
            yield file
            if path.name == name:
                shutil.rmtree(world.store.directory / ".leases")
                seen.update(world.contents())

    return removing


@pytest.mark.parametrize("relative", [False, True])
def test_a_store_that_was_moved_goes_on_where_it_is(world, command, undisturbed, monkeypatch, relative):
    """Its runs, and those that start from the weights of one of them, which is named by its id."""
    monkeypatch.chdir(world.folder)
    place = {True: lambda name: name, False: lambda name: f"{world.folder}/{name}"}[relative]
    settings = ("scale.dropout=0.3", f"runs={place('runs')}")
    record = world.interrupted(9, *settings)
    whole = world.train("seed=5", f"runs={place('runs')}")
    tuned = ("seed=6", "weights=run", f"weights.run={whole['id']}")
    begun = world.interrupted(9, *tuned, f"runs={place('runs')}")
    (world.folder / "runs").rename(world.folder / "elsewhere")
    (world.folder / "runs").mkdir()
    there = RunStore(world.folder / "elsewhere")
    for words, run_id in ((settings, record["id"]), (tuned, begun["id"])):
        outcome = command("train", world.words(*words, f"runs={place('elsewhere')}"))
        assert (outcome.status, outcome.err) == (0, "")
        assert "goes on from the last checkpoint, step 8" in outcome.out
        assert run_id in there.ids()
    assert left(world, there.run(record["id"]).read()) == undisturbed
    assert not list((world.folder / "runs").iterdir())
    assert len(there.ids()) == 3


def test_a_record_that_is_lost_during_the_work_is_one_line(world, monkeypatch):
    def lost(task, batch, index):
        for directory in world.store.directory.glob("t*"):
            shutil.rmtree(directory)
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(LanguageModelling, "training_step", lost)
    with pytest.raises(SettingError, match=r"result\.json was lost or damaged"):
        world.train()


def test_a_record_of_a_later_version_is_left_as_it_is(world, command):
    record = world.train()
    run = world.run(record)
    run.result.write_text(json.dumps(record | {"schema": 3}))
    before = world.contents()
    assert "later version of diffmamba (schema 3)" in command("train", world.words()).refusal()
    assert world.contents() == before


def test_progress_that_cannot_be_written_costs_no_work(world, monkeypatch):
    monkeypatch.setattr(recorder, "HEARTBEAT_SECONDS", 0.0)
    run = world.run(world.interrupted(2))
    damage(run.directory / "progress.json", None)
    assert world.train()["status"] == "finished"


@pytest.mark.parametrize("number", [errno.EIO, errno.EFBIG, errno.ESTALE, errno.ENOTDIR, errno.ENOSPC])
def test_every_error_of_the_machine_is_one_line(capsys, number):
    def fails():
        raise OSError(number, os.strerror(number), "/a/file")

    assert exit_status.guarded(fails) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {os.strerror(number)}: /a/file; mend that and run it again"


def struck(step, strike):
    """A training step before which, at one step, something happens."""
    training_step = LanguageModelling.training_step

    def struck_step(task, batch, index):
        if task.global_step == step:
            strike()
        return training_step(task, batch, index)

    return struck_step


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(world, command, undisturbed, monkeypatch):
    """A disk of its own, which is full before the run begins, and again when its second checkpoint is written."""
    disk, filler = world.folder / "disk", world.folder / "disk" / "filler"
    disk.mkdir()
    words = world.words("scale.dropout=0.3", f"runs={disk}/runs")

    def fills():
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with mounted("-t", "tmpfs", "-o", "size=4m", "none", str(disk)):
        fills()
        outcome = command("train", words)
        assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
        assert f"error: No space left on device: {disk}/runs" in outcome.err
        filler.unlink()
        with monkeypatch.context() as patched:
            patched.setattr(LanguageModelling, "training_step", struck(6, fills))
            outcome = command("train", words)
        assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
        assert "No space left on device" in outcome.err
        for path in disk.rglob("*.ckpt"):
            torch.load(path, weights_only=True)  # whole
        filler.unlink()
        assert command("train", words).status == 0
        (record,) = RunStore(disk / "runs").records().values()
        assert left(world, record) == undisturbed


def test_a_disk_that_is_full_fails_no_work_for_ever(world, command, undisturbed, monkeypatch):
    """There is room for the record, and none for the second checkpoint: as if files could not be so long."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fills = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck(6, fills))
        outcome = command("train", world.words("scale.dropout=0.3"))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
    assert "failed at step 8: [Errno 27] File too large: " in outcome.err
    assert ".ckpt' (" in outcome.err
    assert "the same command tries it again" in outcome.err
    assert command("train", world.words("scale.dropout=0.3")).status == 0
    (record,) = world.store.records().values()
    assert left(world, record) == undisturbed


def cut(path):
    os.truncate(path, 100)


def overwrite(path):
    with path.open("r+b") as file:
        file.write(bytes(1000))


@pytest.mark.parametrize("change", [cut, overwrite])
def test_no_figure_is_of_data_that_were_changed_under_the_training(world, command, undisturbed, monkeypatch, change):
    """Within its last page a file that is cut reads as zeros: the figures would be wrong, and nothing would say so."""
    changes = lambda: [change(path) for path in (world.folder / "data").glob("*/symbols.bin")]  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck(6, changes))
        outcome = command("train", world.words("scale.dropout=0.3"))
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
    assert "prepared data were changed while they were read" in outcome.err
    (record,) = world.store.records().values()
    assert [entry["step"] for entry in record["evaluations"]] == [4]
    CorpusChoice.forget()  # as in a process of its own
    assert command("train", world.words("scale.dropout=0.3")).status == 0
    (record,) = world.store.records().values()
    assert left(world, record) == undisturbed


def test_no_measurement_is_of_data_that_were_changed_under_it(world, command, monkeypatch):
    words = [f"run={world.train()['id']}", f"runs={world.store.directory}", "device=cpu"]
    build = measurement.fabric_of

    def changed(execution):
        for path in (world.folder / "data").glob("*/symbols.bin"):
            overwrite(path)
        return build(execution)

    with monkeypatch.context() as patched:
        patched.setattr(measurement, "fabric_of", changed)
        outcome = command("evaluate", words)
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
    assert "prepared data were changed while they were read" in outcome.err
    CorpusChoice.forget()
    assert command("evaluate", words).status == 0
