"""The settings of scans, kernels and compilation, from the command line to the record."""

import functools
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffmamba import build, command_line, generate, train
from diffmamba.models import LanguageModel
from diffmamba.ops import backend

SSM_MODELS = ["diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_s6", "mamba", "naive_diff"]
SHORT = ("scale.steps=2", "scale.evaluate_every=2", "scale.warmup_steps=0")


@pytest.fixture(autouse=True)
def _backend_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_requested", "auto")  # which a run sets for its process


@pytest.mark.parametrize("model", SSM_MODELS)
def test_mamba1_trains_and_generates(world: Any, command: Callable[..., Any], model: str) -> None:
    words = world.words(f"model={model}", "model.ssm=mamba1", *SHORT)
    trained = command(train.main, words)
    assert (trained.status, trained.err) == (0, "")
    (record,) = world.store.records().values()
    assert record["status"] == "finished"
    assert record["config"]["model"]["mixers"][0]["ssm"] == "mamba1"
    directory = world.run(record).directory
    entry = functools.partial(command_line.run, generate.main, generate.USAGE)
    outcome = command(entry, [f"run={directory}", "prompt=the fox ", "length=20", "temperature=0"])
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("the fox ")
    assert len(outcome.out.rstrip("\n")) == len("the fox ") + 20


def losses(record: dict[str, Any]) -> list[float]:
    return [entry[f"{split}/loss"] for entry in record["evaluations"] for split in ("val", "test")]


def test_a_compiled_run_has_the_losses_of_the_other(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the traced graphs; `tests/models` takes a model through the compiler itself."""
    asked = []

    def compile_(network: LanguageModel) -> None:
        asked.append(network)
        torch.nn.Module.compile(network, backend="aot_eager")

    monkeypatch.setattr(LanguageModel, "compile", compile_)
    settings = ["model=diff_mamba", "scale.steps=4", "scale.evaluate_every=2"]
    eager = world.train(*settings)
    assert asked == []
    torch.compiler.reset()
    elsewhere = f"runs={world.folder / 'compiled'}"
    compiled = world.train(*settings, "compile=true", elsewhere)
    assert len(asked) == 1
    assert compiled["status"] == eager["status"] == "finished"
    assert compiled["id"] == eager["id"]
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)
    assert compiled["operators"] == {"backend": "torch", "compiled": True}
    weights = [
        build.network_weights(asked[0], world.run(record).last_checkpoint) for record in (eager, compiled)
    ]  # which fit an ordinary network
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["model.ssm=mamba3"], "model.ssm=mamba3 is not known; use one of mamba2, mamba1"),
        (["model.ssm=mamba3", "model.d_state=4"], "model.ssm=mamba3 is not known; use one of mamba1, mamba2"),
        (["model=mamba_grouped", "model.ssm=mamba1"], "model.groups=2 needs heads"),
        (["model.backend=gpu"], "model.backend=gpu is not known; use one of auto, torch, cuda"),
        (["model.backend=null"], "model.backend=None is not known; use one of auto, torch, cuda"),
        (["model.backend=cuda"], "model.backend=cuda needs a CUDA device and trainer=gpu; model.backend=auto would do"),
        (["compile=maybe"], "compile=maybe is not known; use true or false"),
        (["compile=1"], "compile=1 is not known; use true or false"),
    ],
)
def test_a_wrong_setting_is_one_line(world: Any, command: Callable[..., Any], settings: list[str], says: str) -> None:
    outcome = command(train.main, world.words(*settings))
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert says in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out == ""
    assert world.store.records() == {}
    assert backend._requested == "auto"


def test_compilation_without_a_compiler_is_one_line(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    outcome = command(train.main, world.words("compile=true"))
    assert outcome.status == 2
    assert outcome.err.splitlines() == [
        "error: compile=true needs a C++ compiler on a CPU; install g++, or use compile=false"
    ]
    assert world.store.records() == {}


def test_kernels_that_are_not_installed_are_told_with_the_remedy(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU, which this one pretends to be."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend, "missing", lambda: "mamba-ssm is not installed")
    with pytest.raises(build.SettingError, match=r"^model\.backend=cuda: mamba-ssm is not installed; ") as told:
        build.check(world.config("trainer=gpu", "model.backend=cuda"))
    assert backend.INSTALL in str(told.value)
    assert str(told.value).endswith("or use model.backend=auto")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("requested", ["auto", "torch"])
def test_the_backend_of_a_run_is_set_and_recorded(world: Any, requested: str) -> None:
    record = world.train(f"model.backend={requested}", *SHORT)
    assert record["status"] == "finished"
    assert record["operators"] == {"backend": "torch", "compiled": False}
    assert backend._requested == requested
