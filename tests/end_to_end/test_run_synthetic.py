"""Whole trainings on MAD's synthetic tasks: resumed ones, details in the record, and a solved one."""

import json
import math
from typing import Any

import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.store import Record
from diffmamba.tasks import Labelling
from tests.end_to_end.conftest import World

TINY = (
    *("scale.mad.d_model=32", "scale.mad.headdim=32", "scale.mad.d_state=8", "scale.mad.n_layers=1"),
    *("scale.mad.batch_size=8", "data.examples=38", "data.evaluated=7", "data.eval_batch_size=3"),
    *("scale.mad.epochs=3", "scale.evaluate_every=4", "trainer.log_every_n_steps=1"),  # 5 steps an epoch
)
TASKS = {
    "noisy_in_context_recall": ("data.length=12", "data.vocabulary=9", "data.noise_vocabulary=3"),
    "compression": ("data.length=8", "data.vocabulary=6", "model.layer=[mixer,swiglu]"),
}
TIMED = ("training_seconds", "seconds_before")


def words(world: World, task: str, *settings: str) -> list[str]:
    place = ("trainer=cpu", "logger=csv", "threads=1", f"runs={world.store.directory}")
    return ["experiments=mad", f"data=mad/{task}", *place, *TINY, *TASKS[task], *settings]


def trained(world: World, task: str, *settings: str) -> Record:
    return execute(work_of(composed(words(world, task, *settings))), progress_bar=False)


def left_behind(world: World, record: Record) -> dict[str, Any]:
    """All of a run that no clock has written, to the last bit."""
    checkpoint = torch.load(world.run(record).last_checkpoint, weights_only=True)
    kept = {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "SyntheticData")}
    recorder = checkpoint["callbacks"]["RunRecorder"]
    kept["recorder"] = {key: value for key, value in recorder.items() if key not in TIMED}
    kept |= {key: record.get(key) for key in ("status", "progress", "evaluations", "details", "stopped", "error")}
    return json.loads(json.dumps(kept, default=lambda tensor: tensor.numpy().tobytes().hex()))


@pytest.mark.parametrize(("task", "strikes"), [("noisy_in_context_recall", (6, 11)), ("compression", (14,))])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    world: World, task: str, strikes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(world, task, f"runs={world.folder}/whole")
    training_step = Labelling.training_step
    for strike in strikes:  # none at an evaluation or at the end of an epoch

        def struck(task: Labelling, batch: Any, index: int, strike: int = strike) -> torch.Tensor:
            if task.global_step == strike:
                raise KeyboardInterrupt
            return training_step(task, batch, index)

        with monkeypatch.context() as patched:
            patched.setattr(Labelling, "training_step", struck)
            with pytest.raises(KeyboardInterrupt):
                trained(world, task)
    resumed = trained(world, task)
    assert resumed["status"] == "finished"
    assert left_behind(world, resumed) == left_behind(world, whole)


def test_the_record_says_what_was_read_and_what_was_right(world: World) -> None:
    record = trained(world, "noisy_in_context_recall")
    assert (record["task"]["name"], record["task"]["headline"]) == ("Labelling", "test/accuracy")
    assert record["corpus"]["chance"] == pytest.approx(1 / 3)
    assert record["corpus"]["ceiling"] == 1.0
    assert [entry["step"] for entry in record["evaluations"]] == [4, 8, 12, 15]
    metrics = {f"{split}/{name}" for split in ("val", "test") for name in ("accuracy", "loss")}
    assert all(metrics <= set(entry) for entry in record["evaluations"])
    details = record["details"]["test"]
    assert set(details) == {"class", "position", "gap"}
    answers = {kind: sum(entry["count"]) for kind, entry in details.items()}
    assert len(set(answers.values())) == 1
    shares = torch.tensor(details["class"]["accuracy"])
    assert set(details["class"]["at"]) <= {3, 4, 5}
    assert record["evaluations"][-1]["test/accuracy"] <= shares.mean().item() + 1e-5  # answers of no class are wrong
    assert world.run(record).read()["details"] == record["details"]


def test_a_solved_task_ends_its_training_and_counts(world: World) -> None:
    record = trained(world, "compression", "callbacks.solved.stopping_threshold=0.0")
    assert (record["status"], record["progress"]["step"]) == ("stopped", 4)
    assert record["stopped"]["by"] == "EarlyStopping"
    assert record["details"]["test"]["position"]["at"] == list(range(8))


def test_perplexity_of_the_same_answers_is_another_task(world: World) -> None:
    other = trained(world, "compression", "task=language_modelling", "callbacks=none")
    record = trained(world, "compression")
    assert other["id"] != record["id"]
    for mine, its in zip(other["evaluations"], record["evaluations"], strict=True):
        assert mine["test/loss"] == pytest.approx(its["test/loss"], rel=1e-5)
        assert mine["test/ppl"] == pytest.approx(math.exp(its["test/loss"]), rel=1e-5)
    assert "details" not in other
