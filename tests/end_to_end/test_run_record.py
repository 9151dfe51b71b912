"""What a run's record says is what happened, and a run that has ended is left alone."""

import json
import math
import random

import pytest
import torch
from torch.nn import functional as F

from diffmamba.data import prepare
from diffmamba.data.sources import TextFile
from diffmamba.data.streams import IGNORED, EvalWindows
from diffmamba.errors import SettingError
from diffmamba.ops.cpu import build
from diffmamba.runs import RunTakenError
from diffmamba.runs.form import sealed
from diffmamba.tasks import LanguageModelling

METRICS = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "ppl", "bpc")}
SETTINGS = ("scale.dropout=0.2", "scale.steps=24", "model=diff_mamba_hybrid", "model.layer=[mixer]")


@pytest.fixture(scope="module")
def finished(new_world):
    world = new_world("finished")
    return world, world.train(*SETTINGS)


def test_record_holds_all_that_a_table_needs(finished):
    world, record = finished
    assert " ".join(sorted(record)) == (
        "config corpus error evaluations finished git hardware id kind memory_gb operators parameters precision "
        "progress schema session sources started status task tokens_per_second versions wall_seconds weights"
    )
    assert json.loads((world.run(record).directory / "result.json").read_text()) == sealed(record)
    assert (record["schema"], record["kind"], record["status"], record["error"]) == (2, "training", "finished", None)
    assert record["config"] == world.work(*SETTINGS).settings
    assert record["weights"] == {"kind": "Fresh"}
    told = record["task"]
    assert (told["name"], told["version"], told["monitor"]) == ("LanguageModelling", 1, "val/loss")
    assert (told["headline"], told["metrics"]["ppl"]) == ("test/ppl", {"label": "PPL", "better": "lower", "digits": 3})
    assert {f"{split}/{name}" for split in ("val", "test") for name in told["metrics"]} == METRICS
    assert record["sources"].keys() == {"python", "digests", "files", "mixed"}
    assert {"diffmamba.mixers.mamba2", "diffmamba.tasks.language_modelling"} <= record["sources"]["digests"].keys()
    assert "diffmamba.data.published" not in record["sources"]["digests"]  # no part of this run
    assert record["git"].keys() == {"revision", "dirty"}
    assert {"python", "torch", "lightning", "diffmamba"} <= record["versions"].keys()
    assert record["hardware"]["device"] == "cpu"
    assert record["hardware"]["threads"] == 1
    assert (record["hardware"]["strategy"], record["precision"]) == ("SingleDeviceStrategy", "32-true")
    assert record["operators"] == {"backend": f"cpu ({build.describe()})", "compiled": False}
    corpus = prepare(TextFile(world.text), "text8", world.folder / "data")
    identified = {"name": "story", "fingerprint": corpus.fingerprint, "sizes": corpus.sizes, "vocabulary": 27}
    assert record["corpus"] == identified
    assert sum(corpus.sizes.values()) == len(world.text.read_text())
    assert record["progress"] == {"step": 24, "steps": 24}
    assert 0 < record["wall_seconds"] < 60
    assert record["tokens_per_second"] > 24 * 8 * 16 / record["wall_seconds"]
    assert record["started"] <= record["finished"]
    counts = [{key: entry[key] for key in ("step", "epoch", "tokens")} for entry in record["evaluations"]]
    assert counts == [{"step": k, "epoch": k / 10, "tokens": k * 8 * 16} for k in (4, 8, 12, 16, 20, 24)]
    for entry in record["evaluations"]:
        assert entry.keys() == {"step", "epoch", "tokens", "lambda/1"} | METRICS
        for split in ("val", "test"):
            assert math.isclose(entry[f"{split}/ppl"], math.exp(entry[f"{split}/loss"]), rel_tol=1e-6)
            assert math.isclose(entry[f"{split}/bpc"], math.log2(entry[f"{split}/ppl"]), rel_tol=1e-6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_final_evaluation_is_that_of_the_saved_weights(finished, split):
    """Read with one window at a time."""
    world, record = finished
    work = world.work("weights=run", f"weights.run={record['id']}", root="measure")
    network, data = work.network().eval(), record["config"]["data"]
    assert record["parameters"]["total"] == sum(weight.numel() for weight in network.parameters())
    nats, count = 0.0, 0
    for inputs, targets in EvalWindows(work.data.corpus.split(split), 1, data["length"], data["eval_windows"]):
        predicted = targets[0] != IGNORED
        with torch.no_grad():
            logits = network(inputs)[0].double()
        nats += F.cross_entropy(logits[predicted], targets[0][predicted], reduction="sum").item()
        count += int(predicted.sum())
    assert math.exp(nats / count) == pytest.approx(record["evaluations"][-1][f"{split}/ppl"], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (["scale.evaluate_every=5", "scale.steps=12"], [5, 10, 12]),
        (["scale.evaluate_every=50", "scale.steps=3"], [3]),  # shorter than an epoch
        (["scale.evaluate_every=null", "scale.steps=12"], [10, 12]),
        (["scale.evaluate_every=null", "scale.steps=null", "scale.epochs=1"], [10]),
        (["scale.evaluate_every=2", "scale.steps=3", "trainer.accumulate_grad_batches=2"], [2, 3]),
    ],
)
def test_last_evaluation_is_at_the_last_step(world, settings, steps):
    record = world.train(*settings)
    assert [entry["step"] for entry in record["evaluations"]] == steps
    assert record["progress"] == {"step": steps[-1], "steps": steps[-1]}
    assert [entry["tokens"] for entry in record["evaluations"]] == [step * 8 * 16 for step in steps]
    assert torch.load(world.run(record).last_checkpoint, weights_only=True)["global_step"] == steps[-1]


def test_last_checkpoint_is_the_last_even_where_the_validation_loss_rises(world):
    letters = random.Random(0)
    start, end = ("".join(letters.choices(alphabet, k=k)) for alphabet, k in (("abcdef", 1350), ("uvwxyz", 150)))
    world.write_text(start + end)  # the more it learns, the less it expects val
    record = world.train("scale.learning_rate=0.02", "scale.steps=16")
    losses = [entry["val/loss"] for entry in record["evaluations"]]
    assert losses[-1] > min(losses)
    checkpoints = world.run(record).directory / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 16
    best = record["evaluations"][losses.index(min(losses))]["step"]
    assert torch.load(checkpoints / "best.ckpt", weights_only=True)["global_step"] == best


def test_finished_run_is_never_trained_again(world, monkeypatch):
    first = world.train("model=diff_s6", "model.outer_norm=false")
    before = world.contents()
    monkeypatch.setattr(LanguageModelling, "training_step", None)  # would fail if anything were trained
    alike = ["model=naive_diff", "group=mine", "logger=default", "retry=failed", "threads=2", "scale.name=other"]
    assert world.train(*alike) == first
    assert world.contents() == before


def test_failed_run_says_why_and_is_trained_again_only_on_demand(world, monkeypatch):
    original = LanguageModelling.training_step

    def exploding(task, batch, index):
        if task.global_step >= 9:
            task.network.embedding.weight.data.fill_(math.nan)
        return original(task, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", exploding)
        record = world.train()
    assert (record["status"], record["error"]["type"], record["error"]["step"]) == ("failed", "NonFiniteLossError", 9)
    assert " ".join(sorted(record["error"])) == "advice again kind message step traceback type where"
    assert "nan at step 9" in record["error"]["message"]
    assert "training_step" in record["error"]["traceback"]
    assert [entry["step"] for entry in record["evaluations"]] == [4, 8]
    before = world.contents()
    assert world.train() == record
    assert world.contents() == before
    again = world.train("retry=failed")
    assert (again["status"], again["error"]) == ("finished", None)
    assert [entry["step"] for entry in again["evaluations"]] == [4, 8, 12]


def test_taken_run_is_left_alone(world):
    record = world.interrupted(6)
    before = world.contents()
    with world.run(record).claim(), pytest.raises(RunTakenError, match=record["id"]):
        world.train()
    assert world.contents() == before


def shrink(checkpoint):
    """Makes the checkpoint one of a narrower network."""
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = {name: weight[:1] for name, weight in content["state_dict"].items() if weight.dim()}
    torch.save(content, checkpoint)


def truncate(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])


@pytest.mark.parametrize(("damage", "says"), [(shrink, "another architecture"), (truncate, "readable checkpoint")])
def test_checkpoint_that_does_not_fit_is_named_and_nothing_is_lost(world, damage, says):
    run = world.run(world.interrupted(9, "checkpoint.keep=1"))
    damage(run.last_checkpoint)
    before = world.contents()
    with pytest.raises(SettingError, match=f"^{run.last_checkpoint}.*{says}.*$") as told:
        world.train()
    assert world.contents() == before
    assert damage is shrink or "move it away: then the training starts from the beginning" in str(told.value)
    assert not any(word in str(told.value) for word in ("delete", "remove"))
    run.last_checkpoint.rename(run.last_checkpoint.with_suffix(".old"))  # as it says
    assert world.train()["status"] == "finished"
