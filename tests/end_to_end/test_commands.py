"""What all commands share: one line for a wrong word, help that names every setting, and words that arrive unharmed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from diffmamba.__main__ import COMMANDS
from diffmamba.configuration import CONF
from diffmamba.runs import Record
from diffmamba.runs.execution import execute

Story = tuple[Any, Record]
ODD = "ein text, (=für) \"zwei\" 'dr$ei' {x} #é.txt"
ONE_CELL = ("model=mamba,diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0")
HIGH = "above 0 and at most 1"

WRONG = {
    "train": [
        ("model=diff_mambo", ("model/diff_mambo", "diff_mamba", "naive_diff", "mamba_grouped")),
        ("scale=tiny", ("scale/tiny", "smoke", "small", "paper")),
        ("data=text9", ("data/text9", "pydoc8", "text")),
        ("scale.stepz=3", ("scale.stepz",)),
        ("lerning_rate=3", ("lerning_rate",)),
        ("data.symbols=letters", ("letters", "text8", "bytes", "words")),
        ("data.path=nowhere.txt", ("nowhere.txt", "no file")),
        ("data.path=EMPTY", ("is empty",)),
        ("data.path=LATIN", ("UTF-8",)),
        ("data.path=SHORT", ("data.batch_size",)),
        ("scale.d_model=30", ("30",)),
        ("scale.steps=0", ("scale.steps=0", "at least 1")),
        ("scale.steps=null", ("scale.steps", "null")),
        ("scale.length=0", ("data.length",)),
        ("scale.batch_size=0", ("data.batch_size",)),
        ("scale.eval_windows=0", ("data.eval_windows",)),
        ("scale.d_model=48 scale.headdim=64", ("headdim",)),
        ("seed=-1", ("seed=-1",)),
        ("optimizer.learning_rate=fast", ("learning_rate=fast",)),
        ("model.lambda_form=scaler", ("scaler", "scalar", "reparam")),
        ("model.layer=[mixer,fnn]", ("fnn", "ffn")),
        ("model.ssm=mamba3", ("model.ssm=mamba3", "mamba2, mamba1")),
        ("model=mamba_grouped model.ssm=mamba1", ("groups=2", "needs heads")),
        ("model.backend=gpu", ("model.backend=gpu is not known; use one of auto, torch, cuda",)),
        ("model.backend=null", ("model.backend=None is not known",)),
        ("compile=maybe", ("compile=maybe is not known; use true or false",)),
        ("compile=1", ("compile=1 is not known",)),
        ("trainer.precision=8", ("trainer.precision=8", "bf16-mixed")),
        ("trainer.devices=3", ("data.batch_size is 8", "3 ranks; use 6")),
        ("trainer.devices=0", ("trainer.devices=0 must",)),
        ("trainer.devices=two", ("trainer.devices=two must",)),
        ("trainer.accumulate_grad_batches=3", ("data.batch_size is 8", "3 accumulated parts")),
        ("trainer.accumulate_grad_batches=0", ("trainer.accumulate_grad_batches=0 must",)),
        ("trainer.strategy=dp", ("trainer.strategy=dp is not known; use one of auto, ddp, fsdp",)),
        ("trainer.num_nodes=2", ("trainer.num_nodes=2 needs", "torchrun or srun")),
        ("weights=run weights.run=nowhere", ("run=nowhere", "result.json")),
        ("weights=file", ("weights.path is not set",)),
    ],
    "measure": [
        ("measure=perplexety", ("measure/perplexety", "perplexity")),
        ("measure.split=dev", ("split=dev", "test, val, train")),
        ("measure.window=-1", ("window=-1",)),
        ("measure.stride=17", ("stride=17", "window=16")),
        ("weights=run", ("weights.run is not set",)),
        ("weights=run weights.run=nowhere", ("run=nowhere", "result.json")),
        ("weights=run weights.run=RUN weights.checkpoint=first", ("checkpoint=first", "last, best")),
        ("weights=file weights.path=nowhere.ckpt", ("no checkpoint nowhere.ckpt",)),
        ("weights=file weights.path=EMPTY", ("empty.txt", "not a readable checkpoint")),
        ("weights=file weights.path=CHECKPOINT scale.d_model=64", ("last.ckpt", "another architecture")),
        ("scale.steps=0", ("scale.steps=0",)),
    ],
    "evaluate": [
        ("", ("run=DIR is missing",)),
        ("run=nowhere", ("run=nowhere", "result.json")),
        ("run=RUN split=dev", ("split=dev", "test, val, train")),
        ("run=RUN checkpoint=first", ("checkpoint=first", "last, best")),
        ("run=RUN device=tpu", ("device=tpu", "auto, cpu, cuda")),
        ("run=RUN window=-1", ("window=-1", "at least 1")),
        ("run=RUN window=long", ("window=long", "number")),
        ("run=RUN stride=17", ("stride=17", "window=16")),
        ("run=RUN limit=-2", ("limit=-2",)),
        ("run=RUN batch=-2", ("batch=-2",)),
        ("run=RUN windw=9", ("windw",)),
        ("run=RUN model=mamba", ("model",)),
        ("run=RUN data.path", ("data.path",)),
        ("run=RUN data=nosuch", ("data/nosuch", "pydoc8", "text8")),
        ("run=RUN data=text", ("data.path",)),
        ("run=RUN data=text data.path=nowhere.txt", ("data.path", "nowhere.txt")),
        ("run=RUN data=text data.path=STORY data.colour=1", ("data.colour",)),
        ("run=RUN data=text data.path=STORY +data.source.colour=1", ("colour",)),
        ("run=RUN data=text data.path=STORY data.symbols=bytes", ("symbols", "number 0 is 32", "' '")),
        ("run=RUN data=text data.path=SHORT data.symbols=bytes", ("short: there are 3 of them", "27")),
        ("run=RUN data=text data.path=STORY scale=huge", ("scale/huge", "smoke")),
        ("run=RUN out=STORY/figures.json", ("out=", "figures.json")),
        ("run=RUN out=FOLDER", ("out=", "is a folder")),
    ],
    "generate": [
        ("", ("run=",)),
        ("run=nowhere", ("run=nowhere", "result.json")),
        ("run=RUN length=-1", ("length=-1", "at least 0")),
        ("run=RUN length=ten", ("length=ten", "number")),
        ("run=RUN temperature=-1", ("temperature=-1",)),
        ("run=RUN temperature=nan", ("temperature=nan",)),
        ("run=RUN top_p=0", ("top_p=0", HIGH)),
        ("run=RUN top_k=-3", ("top_k=-3",)),
        ("run=RUN samples=0", ("samples=0", "at least 1")),
        ("run=RUN checkpoint=first", ("checkpoint=first", "last", "best")),
        ("run=RUN promt=hello", ("promt",)),
        ("run=RUN hello", ("hello",)),
        ("run=RUN prompt=", ("prompt",)),
    ],
    "sweep": [
        ("sweep=table9", ("table9", "table2")),
        ("launcher=slurm9", ("launcher", "slurm9")),
        ("workers=-1", ("workers=-1",)),
    ],
    "reproduce": [
        ("table=table9", ("table9", "table1", "table2")),
        ("figure=figure9", ("figure9", "figure2")),
        ("table=table1 figure=figure2", ("table=table1", "figure=figure2", "one at a time")),
        ("table=table1 published.depth=middle", ("middle",)),
        ("optimizer.learning_rate=1e-3,3e-3", ("table2 has one run for mamba", "seed 0")),
        ("scale=huge", ("huge", "smoke", "small", "paper")),
        ("model=diff_mambo", ("diff_mambo", "diff_mamba", "naive_diff", "mamba_grouped")),
        ("optimizer.learning_rat=1", ("learning_rat",)),
        ("lerning_rate=1", ("lerning_rate",)),
        ("train=maybe", ("train=maybe", "true or false")),
        ("workers=many", ("workers=many", "number")),
        ("scale.d_model", ("scale.d_model",)),
        ("--scale smoke", ("--scale",)),
        ("=3", ("=3",)),
        ("model=diff_mamba model.lambda_form=scaler", ("scaler", "reparam")),
        ("scale.batch_size=900", ("data.batch_size",)),
    ],
    "report": [("table=table9", ("table9", "table1", "table2")), ("workers=many", ("workers=many",))],
}


@pytest.fixture(scope="module")
def places(story: Story) -> dict[str, Path]:
    world, record = story
    run = world.run(record)
    contents = {"empty": b"", "latin": b"caf\xe9 " * 400, "short": b"a b" * 40}
    for name, content in contents.items():
        (world.folder / f"{name}.txt").write_bytes(content)
    files = {name.upper(): world.folder / f"{name}.txt" for name in contents}
    return files | {"RUN": run.directory, "CHECKPOINT": run.last_checkpoint, "STORY": world.text, "FOLDER": world.folder}


@pytest.mark.parametrize(("name", "words", "says"), [(name, *case) for name, cases in WRONG.items() for case in cases])
def test_a_wrong_word_is_one_line_and_nothing_is_written(
    story: Story, places: dict[str, Path], command: Callable[..., Any], name: str, words: str, says: tuple[str, ...]
) -> None:
    world, _ = story
    given = [word.partition("=") for word in words.split()]
    changed = [f"{key}{equals}{_placed(value, places)}" for key, equals, value in given]
    if name in ("train", "measure"):
        changed = world.words(*changed)
    elif name in ("sweep", "reproduce", "report"):
        changed = [*world.words(*ONE_CELL), f"runs={world.folder / 'none'}", *changed]
    elif "data=" in words:
        changed += [f"data.directory={world.folder / 'data'}"]
    before = _written(world)
    line = command(name, changed).refusal()
    assert all(text in line for text in says), line
    assert _written(world) == before


def _written(world: Any) -> set[Path]:
    """All files but prepared corpora."""
    return {path for path in world.folder.rglob("*") if path.is_file() and "data" not in path.parts}


def _placed(value: str, places: dict[str, Path]) -> str:
    name, slash, rest = value.partition("/")
    return f"{places[name]}{slash}{rest}" if name in places else value


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "audit"])
def test_help_names_every_setting(name: str, command: Callable[..., Any]) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = [str(key) for key in compose(name)]
    for flag in ("--help", "-h"):
        outcome = command(name, [flag])
        assert (outcome.status, outcome.err) == (0, "")
        assert f"python -m diffmamba.{name}" in outcome.out
        assert all(setting in outcome.out for setting in settings)


def test_an_unknown_command_is_one_line_and_no_command_is_help(command: Callable[..., Any]) -> None:
    assert "trian is not a command; use one of train, sweep" in command("trian", []).refusal()
    for asked in ("", "--help"):
        outcome = command(asked, [])
        assert (outcome.status, outcome.err) == (0, "")
        assert all(f"\n  {name} " in outcome.out for name in COMMANDS)


def test_paths_and_prompts_arrive_as_they_are_written(
    story: Story, command: Callable[..., Any], tmp_path: Path
) -> None:
    world, record = story
    folder = tmp_path / ODD
    shutil.copytree(world.directory(record), folder / record["id"])
    (folder / "text").write_text(world.text.read_text())
    run = f"run={folder / record['id']}"
    outcome = command("generate", [run, f"prompt={ODD}", "length=5"])
    assert (outcome.status, outcome.err) == (0, "")
    prompt = "ein text fur zwei dr ei x e txt"
    assert outcome.out.startswith(prompt)
    assert len(outcome.out) == len(prompt) + 5 + 1
    words = [run, f"out={folder / 'figures.json'}", "data=text", f"data.path={folder / 'text'}", "device=cpu"]
    outcome = command("evaluate", [*words, f"data.directory={tmp_path / 'data'}"])
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == str(folder / "figures.json")
    assert len(json.loads((folder / "figures.json").read_text())["rows"]) > 2 * 16


def test_the_module_and_the_command_are_one(story: Story) -> None:
    """In processes of their own, as a user starts them."""
    world, record = story
    words = ["generate", f"run={world.directory(record)}", "prompt=a (b), é", "length=9"]
    said = [
        subprocess.run([sys.executable, "-m", *start], capture_output=True, text=True, timeout=200, check=True)
        for start in (["diffmamba", *words], [f"diffmamba.{words[0]}", *words[1:]])
    ]
    assert said[0].stdout == said[1].stdout
    assert said[0].stdout.startswith("a b e")
    assert said[0].stderr == said[1].stderr == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(story: Story, command: Callable[..., Any]) -> None:
    world, record = story
    line = command("evaluate", [f"run={world.directory(record)}", "device=cuda"]).refusal()
    assert "finds no CUDA device here; use" in line
    assert execute(world.work(), progress_bar=False)["id"] != record["id"]  # and the next run is not disturbed
