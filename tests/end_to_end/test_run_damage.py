"""What is damaged in the run store costs no work, hides nothing else and is one line: in every command."""

import errno
import json
import os
import resource
import shutil

import pytest
import torch

from diffmamba import command_line
from diffmamba.data import CorpusChoice
from diffmamba.errors import SettingError
from diffmamba.runs import measurement, recorder
from diffmamba.tasks import LanguageModelling

DAMAGE = {"empty": "", "cut": '{"schema": 2, "ki', "a list": "[]", "no record": "{}", "a directory": None}
GRID = ("model=mamba", "model.outer_norm=false", "model.lambda_form=scalar")


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


def test_damaged_and_foreign_records_stop_no_command(world, command):
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
    before = world.contents()
    for name, given in reads.items():
        outcome = command(name, given)
        assert (outcome.status, outcome.err) == (0, ""), outcome
    assert world.contents() == before
    assert not (world.store.directory / ".leases").exists()  # nothing was claimed


def test_a_disk_that_cannot_be_written_is_one_line(world, command, monkeypatch):
    def read_only(path, flags, *mode, **more):
        if "/runs/.leases/" in str(path):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *mode, **more)

    opened = os.open
    monkeypatch.setattr(os, "open", read_only)
    outcome = command("train", world.words())
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1), outcome
    assert "Read-only file system" in outcome.err


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

    assert command_line.guarded(fails) == 1
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
