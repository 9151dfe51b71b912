"""The settings of scans, kernels and compilation, from the command line to the record."""

import logging
import shutil

import pytest
import torch

from diffmamba.errors import SettingError
from diffmamba.models import LanguageModel
from diffmamba.ops import backend, cuda
from diffmamba.ops.cpu import build, processor
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
    assert compiled["operators"] == {"backend": f"cpu ({build.describe()})", "compiled": True}
    assert (compiled["id"], compiled["status"]) == (eager["id"], eager["status"]) == (eager["id"], "finished")
    for mine, its in zip(compiled["evaluations"], eager["evaluations"], strict=True):
        assert mine == pytest.approx(its, rel=1e-5)
    paths = [world.run(record).last_checkpoint for record in (eager, compiled)]
    mine, its = (fitting(asked[0], path, read_checkpoint(path)) for path in paths)
    torch.testing.assert_close(its, mine, rtol=1e-4, atol=1e-5)  # which fit an ordinary network


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "compile=true",
            "compile=true needs a C++ compiler on a CPU, and no C++ compiler is found; "
            "install g++, or use compile=false",
        ),
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


@pytest.mark.parametrize("requested", ["auto", "torch", "cpu", "definition"])
def test_the_backend_of_a_run_is_set_and_recorded(world, requested):
    record = world.train(f"model.backend={requested}", *SHORT)
    used = f"cpu ({build.describe()})" if requested in ("auto", "cpu") else requested
    assert (record["status"], record["operators"]) == ("finished", {"backend": used, "compiled": False})
    assert backend._requested == requested


@pytest.mark.parametrize(
    ("precision", "used"),
    [
        ("bf16-mixed", "cpu (some set)"),
        ("64-true", "torch (the compiled operators have no float64, only float32 and bfloat16)"),
    ],
)
def test_a_record_says_what_ran_in_its_precision(world, monkeypatch, precision, used):
    monkeypatch.setattr(build, "describe", lambda: "some set")
    record = world.train(f"trainer.precision={precision}", *SHORT)
    assert (record["status"], record["operators"]["backend"]) == ("finished", used)


def test_without_a_library_training_goes_on_and_says_why(world, command, monkeypatch, caplog):
    monkeypatch.setattr(build, "load", lambda: "no C++ compiler is found")
    with caplog.at_level(logging.INFO):
        record = world.train(*SHORT)
    why = "torch (no C++ compiler is found)"
    assert (record["status"], record["operators"]["backend"]) == ("finished", why)
    assert [line for line in caplog.messages if "compiler" in line] == [f"operators: {why}"]
    measured = world.measure("weights=trained", *SHORT)
    assert (measured["status"], measured["operators"]["backend"]) == ("finished", why)
    run = f"run={world.directory(record)}"
    remedy = "mend that as docs/running.md says, or use"
    for name, words in {"train": world.words("seed=9"), "evaluate": [run], "generate": [run]}.items():
        setting = "model.backend" if name == "train" else "backend"
        refused = command(name, [*words, f"{setting}=cpu"]).refusal()
        assert refused == f"error: {setting}=cpu: no C++ compiler is found; {remedy} {setting}=auto\n"
    assert len(world.store.records()) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("model.backend=cpu", "trainer=gpu"), "model.backend=cpu needs trainer=cpu; or use model.backend=auto"),
        (
            ("model.backend=cpu", "trainer.precision=64-true"),
            "model.backend=cpu: the compiled operators have no float64, only float32 and bfloat16; "
            "use another precision, or use model.backend=auto",
        ),
        (
            ("model.backend=cuda", "trainer=gpu", "trainer.precision=64-true"),
            "model.backend=cuda: it has no float64, only float32, bfloat16 and float16; "
            "use another precision, or use model.backend=auto",
        ),
    ],
)
def test_operators_that_do_not_fit_the_device_or_the_precision_are_refused(world, monkeypatch, settings, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "trainer=gpu" in settings)
    with pytest.raises(SettingError) as told:
        world.work(*settings).check()
    assert str(told.value) == says


def test_a_wrong_instruction_set_is_refused_before_anything_is_written(world, command, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, "sse9")
    build._load.cache_clear()
    says = "error: DIFFMAMBA_CPU=sse9 is no instruction set of this processor; use one of "
    assert command("train", world.words()).refusal().startswith(says)
    assert world.store.records() == {}
