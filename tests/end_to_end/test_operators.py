"""The settings of scans, kernels and compilation, from the command line to the record."""

import shutil

import pytest
import torch

from diffmamba.errors import SettingError
from diffmamba.models import LanguageModel
from diffmamba.ops import backend, cuda
from diffmamba.ops.cpu import build
from diffmamba.runs.weights import fitting, read_checkpoint

SSM_MODELS = ["diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_s6", "mamba", "naive_diff"]
SHORT = ("scale.steps=2", "scale.evaluate_every=2", "scale.warmup_steps=0")


@pytest.mark.parametrize("model", SSM_MODELS)
def test_mamba1_trains_and_generates(world, command, model):
    record = world.train(f"model={model}", "model.ssm=mamba1", *SHORT)
    assert record["status"] == "finished"
    assert record["config"]["model"]["mixers"][0]["ssm"] == "mamba1"
    outcome = command("generate", [f"run={world.directory(record)}", "prompt=the fox ", "length=20", "temperature=0"])
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("the fox ")
    assert len(outcome.out.rstrip("\n")) == len("the fox ") + 20


def test_a_compiled_run_has_the_losses_of_the_other(world, monkeypatch):
    """As far as the traced graphs; `tests/models` takes a model through the compiler itself."""
    asked = []

    def compile_(network):
        asked.append(network)
        torch.nn.Module.compile(network, backend="aot_eager")

    monkeypatch.setattr(LanguageModel, "compile", compile_)
    settings = ["model=diff_mamba", "scale.steps=4", "scale.evaluate_every=2"]
    eager = world.train(*settings)
    assert asked == []
    torch.compiler.reset()
    compiled = world.train(*settings, "compile=true", f"runs={world.folder / 'compiled'}")
    assert len(asked) == 1
    assert compiled["operators"] == {"backend": "torch", "compiled": True}
    assert (compiled["id"], compiled["status"]) == (eager["id"], eager["status"]) == (eager["id"], "finished")
    for mine, its in zip(compiled["evaluations"], eager["evaluations"], strict=True):
        assert mine == pytest.approx(its, rel=1e-5)
    paths = [world.run(record).last_checkpoint for record in (eager, compiled)]
    mine, its = (fitting(asked[0], path, read_checkpoint(path)) for path in paths)
    torch.testing.assert_close(its, mine, rtol=1e-4, atol=1e-5)  # which fit an ordinary network


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("compile=true", "compile=true needs a C++ compiler on a CPU; install g++, or use compile=false"),
        ("model.backend=cuda", "model.backend=cuda needs a CUDA device and trainer=gpu; or use model.backend=auto"),
        ("trainer=gpu", "trainer.accelerator=gpu finds no CUDA device here; use trainer=cpu or trainer=auto"),
    ],
)
def test_what_this_machine_lacks_is_one_line(world, command, monkeypatch, setting, says):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command("train", world.words(setting)).refusal() == f"error: {says}\n"
    assert world.store.records() == {}
    assert backend._requested == "auto"


def test_kernels_that_are_not_installed_are_told_with_the_remedy(world, monkeypatch):
    """On a machine with a GPU, which this one pretends to be."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "missing", lambda: "mamba-ssm is not installed")
    with pytest.raises(SettingError) as told:
        world.work("trainer=gpu", "model.backend=cuda").check()
    remedy = f"{cuda.INSTALL}, or use model.backend=auto"
    assert str(told.value) == f"model.backend=cuda: mamba-ssm is not installed; {remedy}"


@pytest.mark.parametrize("requested", ["auto", "torch"])
def test_the_backend_of_a_run_is_set_and_recorded(world, requested):
    record = world.train(f"model.backend={requested}", *SHORT)
    assert (record["status"], record["operators"]) == ("finished", {"backend": "torch", "compiled": False})
    assert backend._requested == requested
