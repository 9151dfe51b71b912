"""Measurements: figures of given weights, in the store under their content, taken once, however they are asked for."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from diffmamba import evaluate
from diffmamba.data import CorpusChoice
from diffmamba.ops import backend
from diffmamba.runs import Record, plan, sweeping
from diffmamba.runs.measured import read_rows
from diffmamba.runs.measurement import fabric_of
from diffmamba.runs.plan import expand
from diffmamba.runs.weights import OfRun
from diffmamba.tasks import LanguageModelling

Story = tuple[Any, Record]
WHOLE = "scale.eval_windows=null"  # evaluations during training are of whole splits then
ADAPTIVE = ("data.symbols=words", "model/embedding=adaptive", "model.embedding.cutoffs=[3,7]", "scale.batch_size=2")
ADAPTIVE += ("model.embedding.softmax_dropout=0.5", "scale.length=4")


@pytest.fixture(scope="module")
def runs(new_world, story):
    """A run of characters, one of words with an adaptive softmax, and one in half precision, with their worlds."""
    settings = {"words": (WHOLE, *ADAPTIVE), "half": ("trainer.precision=bf16-mixed",)}
    return {"characters": story} | {name: (w := new_world(name), w.train(*words)) for name, words in settings.items()}


@pytest.fixture
def evaluated(runs, tmp_path, command):
    """What `diffmamba evaluate` says of one of the runs, and writes."""

    def call(name, *words):
        world, record = runs[name]
        out = tmp_path / "figures.json"
        outcome = command("evaluate", [f"run={world.directory(record)}", f"out={out}", "device=cpu", *words])
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.endswith(f"{out}\n")
        return json.loads(out.read_text()) | {"said": outcome.out}

    return call


@pytest.mark.parametrize("name", ["characters", "words"])
@pytest.mark.parametrize(("split", "checkpoint"), [("test", "last"), ("val", "last"), ("test", "best")])
def test_by_default_it_is_what_the_run_recorded(runs, evaluated, name, split, checkpoint):
    """The best checkpoint is that of the lowest validation loss."""
    _, record = runs[name]
    evaluations = record["evaluations"]
    entry = min(evaluations, key=lambda entry: entry["val/loss"]) if checkpoint == "best" else evaluations[-1]
    found = evaluated(name, f"split={split}", f"checkpoint={checkpoint}")
    expected = {"nats": entry[f"{split}/loss"], "ppl": entry[f"{split}/ppl"], "bits": entry[f"{split}/bpc"]}
    assert {key: found["values"][key] for key in expected} == pytest.approx(expected, rel=1e-6)
    assert found["values"]["symbols"] == record["corpus"]["sizes"][split] - 1
    expected = {"kind": "OfRun", "run": record["id"], "checkpoint": checkpoint, "step": entry["step"]}
    assert found["weights"] == expected


def test_a_few_windows_in_bfloat16_are_those_of_the_run(runs, evaluated):
    """The run's precision, and the four windows that the run itself evaluates."""
    values = evaluated("half", "limit=4", "batch=3")["values"]
    assert values["windows"] == 4
    assert values["nats"] == pytest.approx(runs["half"][1]["evaluations"][-1]["test/loss"], rel=1e-6)


def brute_force(network, symbols, window, stride):
    """All windows one after the other, all logits, and each symbol where it is met first."""
    counted, positions, start = {}, [[] for _ in range(window)], 0
    while len(counted) < len(symbols) - 1:
        inputs = symbols[start : start + window]
        with torch.no_grad():
            logs = network(torch.tensor([inputs]))[0].log_softmax(-1)
        for position in range(min(window, len(symbols) - 1 - start)):
            cost = -logs[position, symbols[start + position + 1]].item()
            counted.setdefault(start + position + 1, cost)
            positions[position].append(cost)
        start += stride
    return sum(counted.values()) / len(counted), [sum(costs) / len(costs) for costs in positions]


def opened(world, record):
    """The measurement of a run, for its network and data."""
    return world.work("weights=run", f"weights.run={world.directory(record)}", root="measure")


@pytest.mark.parametrize("name", ["characters", "words"])
@pytest.mark.parametrize(("window", "stride"), [(9, 2), (7, 7), (13, 1)])
def test_sliding_windows_are_the_loop_over_them(runs, evaluated, name, window, stride):
    work = opened(*runs[name])
    symbols = work.data.corpus.split("test").tolist()
    nats, positions = brute_force(work.network().eval(), symbols, window, stride)
    found = evaluated(name, f"window={window}", f"stride={stride}", "batch=3")
    assert found["values"]["nats"] == pytest.approx(nats, rel=1e-5)
    by_position = [row["value"] for row in found["rows"] if row["position"] and row["measure"] == "nats"]
    assert by_position == pytest.approx(positions, rel=1e-5)
    assert found["values"]["symbols"] == len(symbols) - 1


def test_the_record_says_what_was_measured_and_the_table_shows_it(runs, evaluated):
    world, record = runs["characters"]
    found = evaluated("characters", "window=12", "stride=5")
    kept = world.store.run(found["id"])
    assert kept.read() == {key: value for key, value in found.items() if key not in ("rows", "said")}
    assert " ".join(sorted(kept.read())) == (
        "config corpus error finished git hardware id kind measure operators parameters precision schema session "
        "sources started status values versions wall_seconds weights"
    )
    assert (found["schema"], found["kind"], found["status"], found["error"]) == (2, "measurement", "finished", None)
    assert (found["corpus"], found["parameters"]) == (record["corpus"], record["parameters"])
    told = found["measure"]
    assert (told["name"], told["version"], told["metrics"].keys()) == ("Perplexity", 1, found["values"].keys())
    assert told["metrics"][told["headline"]] == {"label": "PPL", "better": "lower", "digits": 3}
    assert found["values"]["ppl"] == pytest.approx(math.exp(found["values"]["nats"]))
    assert found["hardware"]["device"] == "cpu"
    rows = read_rows(kept)
    assert list(rows.columns) == ["measure", "value", "position"]
    assert len(rows) == len(found["values"]) + 2 * 12
    assert sorted(path.name for path in kept.directory.iterdir()) == ["result.json", "rows.csv", "run.log"]
    for text in (record["id"], "story", f"{found['values']['ppl']:.3f}", f"{found['values']['bits']:.4f}", "9 to 12"):
        assert text in found["said"]


def test_one_measurement_is_taken_once_however_it_is_asked_for(world, command, monkeypatch):
    """`measure` trains first; then `measure` of the run, and `evaluate` by directory and by id find what is there."""
    first = command("measure", world.words("weights=trained"))
    assert (first.status, first.err) == (0, "")
    kinds = {record["kind"]: record for record in world.store.records().values()}
    assert kinds.keys() == {"training", "measurement"}
    training, measurement = kinds["training"], kinds["measurement"]
    assert f"{world.directory(measurement)}: PPL {measurement['values']['ppl']:.3f}, " in first.out
    before = world.contents()
    monkeypatch.setattr(LanguageModelling, "training_step", None)  # would fail if anything were trained
    same = ["scale.d_model=48", "seed=7", "measure.batch=1"]  # which say nothing of a run's weights, or change no sum
    assert world.measure("weights=run", f"weights.run={training['id']}", *same) == measurement
    by_id = [f"run={training['id']}", f"runs={world.store.directory}"]
    for words in ([f"run={world.directory(training)}", "batch=2"], [*by_id, "stride=16", "split=test", "limit=0"]):
        outcome = command("evaluate", [*words, "device=cpu"])
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.splitlines()[0] == f"finished at {measurement['finished']}, not measured again"
        assert outcome.out.splitlines()[-1] == world.directory(measurement)
    assert world.contents() == before
    others = ("measure.split=val", "measure.window=8", "measure.limit=2", "weights.checkpoint=best")
    ids = {world.work(*setting, root="measure").identity() for setting in [(), *((other,) for other in others)]}
    assert len(ids) == 1 + len(others)


def test_measurements_of_a_sweep_come_after_their_trainings(world, command, worker_here):
    settings = ("model=mamba,diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0")
    words = world.words("measure=perplexity", "weights=trained", *settings)
    planned, done = expand("table2", words), set()
    assert [(item.work.kind, item.asked) for item in planned] == 2 * [("training", False), ("measurement", True)]
    for item in planned:
        assert {needed.identity() for needed in item.work.needs} <= done
        done.add(item.id)
    assert len(done) == 4
    outcome = command("sweep", ["sweep=table2", "workers=1", *words])
    assert (outcome.status, outcome.err) == (0, ""), outcome.out
    said = " ".join(outcome.out.split())
    assert "4 of 4 runs are finished" in said
    assert "4/4 Perplexity of text, 1 layer, diff_mamba, λ scalar, seed 0: PPL " in said
    before = world.contents()
    assert {record["status"] for record in world.store.records().values()} == {"finished"}
    again = command("sweep", ["sweep=table2", *words])
    assert (again.status, again.err) == (0, "")
    assert world.contents() == before


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "safetensors"])
def test_weights_in_a_file(story, world, tmp_path, suffix):
    there, record = story
    checkpoint = torch.load(there.run(record).last_checkpoint, weights_only=True)
    plain = {name.removeprefix("network."): weight.clone() for name, weight in checkpoint["state_dict"].items()}
    path = tmp_path / f"file.{suffix}"
    save_file(plain, path) if suffix == "safetensors" else torch.save(checkpoint if suffix == "ckpt" else plain, path)
    found = world.measure("weights=file", f"weights.path={path}")
    assert found["values"]["nats"] == pytest.approx(record["evaluations"][-1]["test/loss"], rel=1e-6)
    assert (found["weights"]["kind"], found["weights"]["path"]) == ("OfFile", str(path))
    moved = path.rename(tmp_path / f"moved.{suffix}")
    assert world.measure("weights=file", f"weights.path={moved}") == found  # the same weights
    still = ("scale.eval_windows=null", "scale.learning_rate=1e-9", "scale.steps=1")  # a training that starts from them
    begun = world.train("weights=file", f"weights.path={moved}", *still)
    assert begun["evaluations"][0]["test/loss"] == pytest.approx(found["values"]["nats"], rel=1e-4)


def test_fresh_weights_are_those_that_a_training_starts_from(world):
    one, other = world.measure("weights=fresh"), world.measure("weights=fresh", "seed=1")
    assert set(world.store.records()) == {one["id"], other["id"]}
    still = world.train(WHOLE, "scale.learning_rate=0", "scale.steps=1")
    assert one["values"]["nats"] == pytest.approx(still["evaluations"][0]["test/loss"], rel=1e-6)
    assert one["values"] != other["values"]


def test_a_checkpoint_of_an_unfinished_run_is_another_measurement(world):
    found = []
    for train in (lambda: world.interrupted(5), lambda: world.interrupted(9), world.train):
        found.append(world.measure("weights=run", f"weights.run={train()['id']}"))
    assert [record["weights"]["step"] for record in found] == [4, 8, 12]
    assert len({record["id"] for record in found}) == 3
    assert found[2] == world.measure("weights=trained")


def test_another_text_of_the_same_symbols(story, evaluated, tmp_path):
    text = "a wolf jumps over the moon " * 20
    (tmp_path / "other.txt").write_text(text)
    words = ("data=text", f"data.path={tmp_path / 'other.txt'}", f"data.directory={tmp_path}", "scale=smoke")
    found, work = evaluated("characters", *words, "split=train", "window=8"), opened(*story)
    assert found["corpus"]["fingerprint"] != story[1]["corpus"]["fingerprint"]
    symbols = work.data.corpus.vocabulary.encode(text)[: found["corpus"]["sizes"]["train"]]
    assert found["values"]["nats"] == pytest.approx(brute_force(work.network().eval(), symbols, 8, 8)[0], rel=1e-5)


def test_a_run_is_measured_while_its_prepared_corpus_or_its_text_is_there(world, command, tmp_path):
    """The prepared corpus is the one it was trained on by content, whatever has become of the text."""
    record = world.train()
    run, old = f"run={world.directory(record)}", world.text.rename(tmp_path / "old.txt")
    for place, text in ((tmp_path, None), (world.folder, "a wolf jumps over the moon " * 60)):
        if text:
            world.write_text(text)
        CorpusChoice.forget()
        outcome = command("evaluate", [run, "device=cpu", f"limit={2 + bool(text)}"])
        assert (outcome.status, outcome.err) == (0, ""), place
    (world.folder / "data").rename(tmp_path / "data")
    before = world.contents()
    CorpusChoice.forget()
    assert "not what" in command("evaluate", [run, "device=cpu"]).refusal()
    world.text.unlink()
    CorpusChoice.forget()
    assert "data.path" in command("evaluate", [run, "device=cpu"]).refusal()
    assert world.contents() == before
    words = [run, "device=cpu", "data=text", f"data.path={old}", f"data.directory={tmp_path}", "limit=2"]
    outcome = command("evaluate", words)
    assert outcome.status == 0
    assert "not measured again" in outcome.out


def test_another_corpus_needs_nothing_of_the_runs_own(world, command, tmp_path):
    run = f"run={world.directory(world.train())}"
    (tmp_path / "other.txt").write_text("a wolf jumps over the moon " * 20)
    words = [run, "device=cpu", "data=text", f"data.path={tmp_path / 'other.txt'}", f"data.directory={tmp_path}"]
    world.text.unlink()
    shutil.rmtree(world.folder / "data")
    CorpusChoice.forget()
    outcome = command("evaluate", words)
    assert (outcome.status, outcome.err) == (0, "")
    assert not (world.folder / "data").exists()


@pytest.fixture
def words_run(world):
    world.write_text("one two two three three three\n" * 60)
    return world.train("data.symbols=words", "scale.batch_size=2", "scale.length=4")


OTHER = "one one one four three three\n" * 60


def test_a_corpus_of_other_words_is_read_in_the_words_of_the_run(world, words_run, command, tmp_path):
    """Its most frequent word is another one than the run's, and `four` is the run's <unk>."""
    (tmp_path / "other.txt").write_text(OTHER)
    words = ["data=text", f"data.path={tmp_path / 'other.txt'}", "data.symbols=words", f"data.directory={tmp_path}"]
    outcome = command("evaluate", [f"run={words_run['id']}", f"runs={world.store.directory}", *words, "device=cpu"])
    assert (outcome.status, outcome.err) == (0, "")
    assert "on the test split of other (21 symbols, 3 of them <unk>)" in " ".join(outcome.out.split())
    (measured,) = [record for record in world.store.records().values() if record["kind"] == "measurement"]
    assert measured["corpus"]["unknown"] == {"train": 54, "val": 3, "test": 3}
    work = opened(world, words_run)
    symbols = work.data.corpus.vocabulary.encode(OTHER)
    nats, _ = brute_force(work.network().eval(), symbols[-21:], 4, 4)
    assert measured["values"]["nats"] == pytest.approx(nats, rel=1e-5)


def test_a_plan_knows_in_whose_words_a_corpus_was_measured(world, words_run, tmp_path):
    """What a table asks the store about a corpus: the same text is another one in the words of another run."""
    (tmp_path / "other.txt").write_text(OTHER)
    other = ["data@measured=text", f"measured.path={tmp_path / 'other.txt'}", "measured.symbols=words"]
    own = ["data.symbols=words", "scale.batch_size=2", "scale.length=4"]
    measured = world.measure("weights=trained", *own, *other)
    assert measured["corpus"]["own_vocabulary"] is False
    work = world.work("weights=trained", *own, *other, root="measure")
    assert plan.identity_in_store()(work) == measured["id"]
    itself = world.work(*own, f"data.path={tmp_path / 'other.txt'}")
    unseen = plan.identity_in_store()(itself)
    trained = world.train(*own, f"data.path={tmp_path / 'other.txt'}")
    assert unseen != trained["id"]  # the facts of the measurement are not those of this text in its own words
    assert plan.identity_in_store()(itself) == trained["id"]
    assert plan.identity_in_store()(work) == measured["id"]


def test_a_byte_that_the_run_does_not_know_is_named_before_anything_is_written(world, command, tmp_path):
    record = world.train("data.symbols=bytes")
    (tmp_path / "other.txt").write_text("a wolf jumps over the moon: " * 20)
    words = ["data=text", f"data.path={tmp_path / 'other.txt'}", f"data.directory={tmp_path}", "device=cpu"]
    run = f"run={world.directory(record)}"
    line = command("evaluate", [run, *words, "data.symbols=bytes"]).refusal()
    assert "the byte 58 (b':', 20 times) is none of the" in line
    line = command("evaluate", [run, *words]).refusal()
    assert "data.symbols=text8" in line
    assert "set data.symbols=bytes" in line
    assert set(world.store.records()) == {record["id"]}
    (tmp_path / "other.txt").write_text("a wolf runs " * 20)  # fewer bytes than the run knows
    CorpusChoice.forget()
    assert command("evaluate", [run, *words, "data.symbols=bytes"]).status == 0


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"system": "text8", "size": 2, "symbols": [1, 2]}'])
def test_a_run_without_its_vocabulary_takes_that_of_its_corpus(world, command, tmp_path, content):
    """It is an older one, or the file is damaged, which is told."""
    record = world.train()
    path = world.run(record).directory / "vocabulary.json"
    assert len(json.loads(path.read_text())["symbols"]) == 27
    path.unlink() if content is None else path.write_text(content)
    (tmp_path / "other.txt").write_text("a wolf jumps over the moon " * 20)
    words = ["data=text", f"data.path={tmp_path / 'other.txt'}", f"data.directory={tmp_path}"]
    outcome = command("evaluate", [f"run={world.directory(record)}", "device=cpu", *words])
    assert outcome.status == 0
    assert ("vocabulary.json is damaged" in outcome.out + outcome.err) == (content is not None)


def test_all_splits_are_measured_as_one_sequence(story, evaluated):
    world, record = story
    found, work = evaluated("characters", "split=all", "window=16"), opened(world, record)
    symbols = work.data.corpus.split("all").tolist()
    assert found["values"]["symbols"] == len(symbols) - 1 == sum(record["corpus"]["sizes"].values()) - 1
    assert found["values"]["nats"] == pytest.approx(brute_force(work.network().eval(), symbols, 16, 16)[0], rel=1e-5)
    assert f"all splits of story ({len(symbols):,} symbols)" in " ".join(found["said"].split())


def test_a_limit_that_leaves_no_window_out_is_no_limit(story, evaluated):
    whole = evaluated("characters")
    windows = int(whole["values"]["windows"])
    assert evaluated("characters", f"limit={windows}")["id"] == whole["id"]
    assert evaluated("characters", "limit=100000")["id"] == whole["id"]
    assert evaluated("characters", f"limit={windows - 1}")["id"] != whole["id"]


def test_a_precision_that_would_be_replaced_is_refused(story, world, command):
    """Lightning computes 16-mixed on a CPU in bf16-mixed: the record would say what was not done."""
    there, record = story
    directory = world.store.directory / record["id"]
    shutil.copytree(there.directory(record), directory)
    changed = json.loads((directory / "result.json").read_text())
    changed["config"]["trainer"]["precision"] = "16-mixed"
    world.store.run(record["id"]).write(changed)
    before = world.contents()
    line = command("evaluate", [f"run={directory}", "device=cpu"]).refusal()
    assert "trainer.precision=16-mixed" in line
    assert "bf16-mixed" in line
    assert world.contents() == before


def test_an_allocation_of_slurm_is_no_job_of_a_measurement(story, monkeypatch):
    """A shell of `salloc -n 4` has these variables, and one process measures all the same."""
    work = opened(*story)
    for name, value in {"NTASKS": "4", "PROCID": "0", "LOCALID": "0", "JOB_NAME": "mine", "JOB_ID": "7"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    fabric = fabric_of(work.execution)
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


@pytest.mark.parametrize("content", [None, "", "\0\0\0", "measure"])
def test_rows_that_are_damaged_are_told_and_measured_anew(world, command, content):
    run = f"run={world.directory(world.train())}"
    place = Path(command("evaluate", [run, "device=cpu"]).out.splitlines()[-1])
    rows = place / "rows.csv"
    whole = rows.read_text()
    rows.unlink() if content is None else rows.write_text(content)
    outcome = command("evaluate", [run, "device=cpu"])
    assert outcome.status == 0
    assert f"{rows} is damaged or missing" in outcome.out
    assert rows.read_text() == whole


def test_weights_go_on_with_another_text_when_theirs_is_gone(world):
    first = world.train()
    shutil.rmtree(world.folder / "data")
    world.write_text("a wolf jumps over the moon " * 60)
    record = world.train("weights=run", f"weights.run={first['id']}", "scale.steps=4", "scale.evaluate_every=4")
    assert (record["status"], record["weights"]["run"]) == ("finished", first["id"])


def test_operators_are_those_that_are_asked_for(runs, evaluated, command, monkeypatch):
    """Whatever this process computed with before."""
    world, record = runs["characters"]
    chosen = []
    monkeypatch.setattr(backend, "select", lambda name: chosen.append(name))
    evaluated("characters", "backend=torch", "limit=1")
    assert set(chosen) == {"torch"}
    evaluated("characters", "limit=2")
    assert chosen[-1] == "auto"
    for words, says in {
        ("backend=cuda", "device=cpu"): "backend=cuda needs",
        ("backend=gpu",): "auto, torch, cpu, cuda, definition",
    }.items():
        assert says in command("evaluate", [f"run={world.directory(record)}", *words]).refusal()
        assert says in command("generate", [f"run={world.directory(record)}", *words]).refusal()


def test_weights_that_do_not_fit_or_are_damaged_are_told(world, command):
    run = world.run(world.train())
    checkpoint = torch.load(run.last_checkpoint, weights_only=True)
    weight = checkpoint["state_dict"]["network.embedding.weight"]

    def save(changed):
        checkpoint["state_dict"]["network.embedding.weight"] = changed
        torch.save(checkpoint, run.last_checkpoint)

    def refused(says):
        for name, words in (("evaluate", ["device=cpu"]), ("generate", [])):
            line = command(name, [f"run={run.directory}", *words]).refusal()
            assert says in line
            assert str(run.last_checkpoint) in line
        assert set(world.store.records()) == {run.id}

    save(weight[:, :7])
    refused("another architecture: 1 of")
    run.last_checkpoint.write_bytes(run.last_checkpoint.read_bytes()[:5000])
    refused("not a readable checkpoint")
    run.last_checkpoint.unlink()
    refused("there is no checkpoint")
    save(weight * math.nan)
    outcome = command("evaluate", [f"run={run.directory}", "device=cpu"])
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (1, "", 1)
    assert "ppl is nan on story" in outcome.err
    (failed,) = [record for record in world.store.records().values() if record["kind"] == "measurement"]
    assert (failed["status"], failed["values"]) == ("failed", {})
    assert not (world.run(failed).directory / "rows.csv").exists()
    line = command("evaluate", [f"run={world.directory(failed)}"]).refusal()
    assert "is a measurement; weights come from a training" in line
    save(weight)
    assert command("evaluate", [f"run={run.directory}", "device=cpu"]).status == 0  # which tries again


def test_a_training_that_failed_has_no_measurement(world, command):
    outcome = command("measure", world.words("scale.learning_rate=1e30", "scale.warmup_steps=0"))
    (record,) = world.store.records().values()
    assert outcome.status == 2
    assert f"the training {record['id']} that this needs is failed" in outcome.err


@pytest.mark.parametrize("length", [1, 2, 3, 100, 512, 2048, 2049, 65_536])
def test_stretches_of_the_table_hold_every_position_once_and_grow(length):
    positions = range(1, length + 1)
    table = pd.DataFrame({"nats": [place / length for place in positions]}, index=positions)
    table["windows"] = [1 + place % 3 for place in positions]
    stretches = evaluate._stretches(table)
    assert len(stretches) <= evaluate.MOST_STRETCHES
    assert [place for first, last, *_ in stretches for place in range(first, last + 1)] == list(positions)
    sizes = [last - first + 1 for first, last, *_ in stretches]
    assert sizes[:-1] == sorted(sizes[:-1])
    for first, last, *found in stretches:
        expected = np.average(table.nats.loc[first:last], weights=table.windows.loc[first:last])
        assert found == pytest.approx([expected, math.exp(expected)])
    if length == 512:
        assert [first for first, *_ in stretches] == [1, 2, 3, 5, 9, 17, 33, 65, 129, 257]


def test_settings_of_a_network_are_refused_where_a_run_gives_it(world, command):
    record = world.train()
    words = ["measure=perplexity", "weights=run", f"weights.run={record['id']}", f"runs={world.store.directory}"]
    before = world.contents()
    for word, says in {"model=mamba": "model is that of the run", "data=pysrc8": "data@measured=NAME"}.items():
        outcome = command("measure", [*words, word])
        assert (outcome.status, outcome.out) == (2, "")
        assert says in outcome.err
    assert world.contents() == before


def test_a_measurement_says_what_its_weights_were_trained_with(world):
    record = world.train("model=mamba", "seed=3")
    measured = world.measure("weights=run", f"weights.run={record['id']}")
    config = measured["config"]
    assert (config["model"]["name"], config["data"]["name"], config["seed"]) == ("mamba", "text", 3)
    assert measured["precision"] == record["precision"] == "32-true"


def test_weights_that_are_opened_stay_those_of_one_step(world):
    record = world.interrupted(6)
    weights = OfRun(record["id"], store=str(world.store.directory))
    assert weights.step == 4
    world.train()  # goes on and replaces the checkpoint
    assert weights.opened[1]["global_step"] == weights.step == 4
    assert OfRun(record["id"], store=str(world.store.directory)).step == 12


def test_a_finished_measurement_does_not_train_again_what_was_removed(world):
    measured = world.measure("weights=trained")
    trained = measured["weights"]["run"]
    shutil.rmtree(world.store.run(trained).directory)
    assert world.measure("weights=trained")["finished"] == measured["finished"]
    assert set(world.store.records()) == {measured["id"]}
    words = world.words("measure=perplexity", "weights=trained", "model=diff_mamba", "model.outer_norm=true")
    plan = expand("table2", [*words, "model.lambda_form=scalar", "seed=0"])
    assert [(item.id, item.needs) for item in plan] == [(trained, ()), (measured["id"], (trained,))]
    assert sweeping.pending(plan, sweeping.records(plan)) == []
    assert sweeping.finished(plan) == len(plan)
