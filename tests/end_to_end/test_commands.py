"""What all commands share: one line for a wrong word, help that names every setting, and words that arrive unharmed."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffmamba import exit_status
from diffmamba.__main__ import COMMANDS, MODULES
from diffmamba.configuration import CONF

ODD = "ein text, (=für) \"zwei\" 'dr$ei' {x} #é.txt"
WRONG = """
train    | model=diff_mambo | model=diff_mambo, naive_diff, mamba_grouped
train    | scale=tiny | scale=tiny, smoke, small, paper
train    | scale.stepz=3 | scale.stepz
train    | lerning_rate=3 | lerning_rate
train    | data.symbols=letters | letters, text8, bytes, words
train    | data.path=nowhere.txt | nowhere.txt, no file
train    | data.path=EMPTY | is empty
train    | data.path=LATIN | UTF-8
train    | data.path=SHORT | data.batch_size
train    | scale.d_model=30 | 30
train    | scale.steps=0 | scale.steps=0, at least 1
train    | scale.steps=null | scale.steps, null
train    | scale.length=0 | scale.length=0
train    | scale.batch_size=0 | scale.batch_size=0
train    | scale.eval_windows=0 | scale.eval_windows=0
train    | scale.d_model=48 scale.headdim=64 | headdim
train    | seed=-1 | seed=-1
train    | optimizer.learning_rate=fast | learning_rate=fast
train    | model.lambda_form=scaler | scaler, scalar, reparam
train    | model.layer=[mixer,fnn] | fnn, ffn
train    | model.ssm=mamba3 | model.ssm=mamba3, mamba2, mamba1
train    | model=mamba_grouped model.ssm=mamba1 | groups=2, needs heads
train    | model.backend=gpu | model.backend=gpu is not known; use one of auto, torch, cpu, cuda, definition
train    | model.backend=null | model.backend=null must be one of auto, torch, cpu, cuda, definition
train    | compile=maybe | compile=maybe must be true or false
train    | compile=1 | compile=1 must be true or false
train    | trainer.precision=8 | trainer.precision=8, bf16-mixed
train    | trainer.devices=3 | data.batch_size=8, 3 ranks, use 6
train    | trainer.devices=0 | trainer.devices=0 must
train    | trainer.devices=two | trainer.devices=two must
train    | trainer.accumulate_grad_batches=3 | data.batch_size=8, 3 accumulated parts
train    | trainer.accumulate_grad_batches=0 | trainer.accumulate_grad_batches=0 must
train    | trainer.strategy=dp | trainer.strategy=dp is not known; use one of auto, ddp, fsdp
train    | trainer.num_nodes=2 | trainer.num_nodes=2 needs, torchrun or srun
train    | weights=run weights.run=nowhere | weights.run=nowhere, result.json
measure  | measure=perplexety | measure=perplexety, perplexity
measure  | measure.split=dev | split=dev, test, val, train
measure  | measure.stride=17 | stride=17, window=16
measure  | weights=run | weights.run is not set
train    | weights=run weights.run=RUN weights.checkpoint=first | weights.checkpoint=first, last, best
measure  | weights=file weights.path=nowhere.ckpt | no checkpoint nowhere.ckpt
measure  | weights=file weights.path=EMPTY | empty.txt, not a readable checkpoint
measure  | weights=file weights.path=CHECKPOINT scale.d_model=64 | last.ckpt, another architecture
evaluate |  | run=ID is missing
evaluate | run=nowhere | run=nowhere, result.json
evaluate | run=RUN split=dev | split=dev, test, val, train
evaluate | run=RUN checkpoint=first | checkpoint=first, last, best
evaluate | run=RUN device=tpu | device=tpu, auto, cpu, cuda
evaluate | run=RUN window=-1 | window=-1, at least 0
evaluate | run=RUN window=long | window=long, number
evaluate | run=RUN stride=17 | stride=17, window=16
evaluate | run=RUN limit=-2 | limit=-2
evaluate | run=RUN windw=9 | windw
evaluate | run=RUN model=mamba | model
evaluate | run=RUN data.path | data.path
evaluate | run=RUN data=nosuch | data=nosuch, pydoc8, text8
evaluate | run=RUN data=text | data.path
evaluate | run=RUN data=text data.path=STORY +data.source.colour=1 | colour
evaluate | run=RUN data=text data.path=STORY data.symbols=bytes | trained on text8, set data.symbols=text8
evaluate | run=RUN data=text data.path=SHORT data.symbols=bytes | trained on text8, set data.symbols=text8
evaluate | run=RUN out=STORY/figures.json | out=, figures.json
evaluate | run=RUN out=FOLDER | out=, is a folder
generate |  | run=ID is missing
generate | run=RUN length=-1 | length=-1, at least 0
generate | run=RUN length=ten | length=ten, number
generate | run=RUN temperature=nan | temperature=nan
generate | run=RUN top_p=0 | top_p=0, above 0 and at most 1
generate | run=RUN top_k=-3 | top_k=-3
generate | run=RUN samples=0 | samples=0, at least 1
generate | run=RUN checkpoint=first | checkpoint=first, last, best
generate | run=RUN promt=hello | promt
generate | run=RUN hello | hello
generate | run=RUN prompt= | prompt
sweep    | sweep=table9 | table9, table2
sweep    | launcher=slurm9 | launcher, slurm9
sweep    | workers=-1 | workers=-1
reproduce| table=table9 | table9, table1, table2
reproduce| figure=figure99 | figure99, figure2
reproduce| table=table1 figure=figure2 | table=table1, figure=figure2, one at a time
reproduce| table=table1 published.depth=middle | middle
reproduce| optimizer.learning_rate=1e-3,3e-3 | table2 has one run for, seed 0
reproduce| scale=huge | huge, smoke, small, paper
reproduce| model=diff_mambo | diff_mambo, diff_mamba, naive_diff, mamba_grouped
reproduce| lerning_rate=1 | lerning_rate
reproduce| train=maybe | train=maybe, true or false
reproduce| workers=many | workers=many, number
reproduce| scale.d_model | scale.d_model
reproduce| --scale smoke | --scale
reproduce| =3 | =3
reproduce| model.lambda_form=scaler | scaler, reparam
reproduce| scale.batch_size=900 | data.batch_size
report   | table=table9 | table9, table1, table2
"""
"""A command, the words that are added to good ones, and what the line says."""
CASES = [[part.strip() for part in case.split("|")] for case in WRONG.strip().splitlines()]
SWEPT = ("model=diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0")


@pytest.fixture(scope="module")
def places(story):
    world, record = story
    contents = {"EMPTY": b"", "LATIN": b"caf\xe9 " * 400, "SHORT": b"a b" * 40}
    files = {name: world.folder / f"{name.lower()}.txt" for name in contents}
    for name, path in files.items():
        path.write_bytes(contents[name])
    run, folders = world.run(record), {"STORY": world.text, "FOLDER": world.folder}
    return files | folders | {"RUN": run.directory, "CHECKPOINT": run.last_checkpoint}


@pytest.mark.parametrize(("name", "words", "says"), CASES)
def test_a_wrong_word_is_one_line_and_nothing_is_written(story, places, command, name, words, says):
    def written():
        return {path for path in world.folder.rglob("*") if path.is_file() and "data" not in path.parts}

    def placed(word):
        key, equals, value = word.partition("=")
        first, slash, rest = value.partition("/")
        return f"{key}{equals}{places.get(first, first)}{slash}{rest}"

    world, given = story[0], [placed(word) for word in words.split()]
    if name in ("train", "measure"):
        given = world.words(*given)
    elif name in ("sweep", "reproduce", "report"):
        given = [*world.words(*SWEPT, f"runs={world.folder / 'none'}"), *given]
    elif "data=" in words:
        given += [f"data.directory={world.folder / 'data'}"]
    before = written()
    line = command(name, given).refusal()
    assert all(text in line for text in says.split(", ")), line
    assert written() == before


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in MODULES])  # with a root configuration
def test_help_names_every_setting(name, command):
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = [str(key) for key in compose(name)]
    for flag in ("--help", "-h"):
        outcome = command(name, [flag])
        assert (outcome.status, outcome.err) == (0, "")
        assert f"python -m diffmamba.{name}" in outcome.out
        assert all(setting in outcome.out for setting in settings)


def test_an_unknown_command_is_one_line_and_no_command_is_help(command):
    assert "trian is not a command; use one of train, sweep" in command("trian", []).refusal()
    for asked in ("", "--help"):
        outcome = command(asked, [])
        assert (outcome.status, outcome.err) == (0, "")
        assert all(f"\n  {name} " in outcome.out for name in COMMANDS)


def test_paths_and_prompts_arrive_as_they_are_written(story, command, tmp_path):
    world, record = story
    folder, prompt = tmp_path / ODD, "ein text fur zwei dr ei x e txt"
    shutil.copytree(world.directory(record), folder / record["id"])
    (folder / "text").write_text(world.text.read_text())
    run, data = f"run={folder / record['id']}", f"data.directory={folder / 'data'}"
    outcome = command("generate", [run, f"prompt={ODD}", "length=5"])
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(prompt)
    assert len(outcome.out) == len(prompt) + 5 + 1
    words = [run, f"out={folder / 'figures.json'}", "data=text", f"data.path={folder / 'text'}", "device=cpu", data]
    outcome = command("evaluate", words)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == str(folder / "figures.json")
    assert len(json.loads((folder / "figures.json").read_text())["rows"]) > 2 * 16
    words = world.words(f"data.path={folder / 'text'}", data, f"runs={folder}", "scale.eval_windows=null")
    assert f"finished at {record['finished']}, not trained again" in command("train", words).out


def test_the_module_and_the_command_are_one():
    """In processes of their own, as a user starts them; for this much, without PyTorch."""
    words = ["--cfg", "job", "seed=3", "data=text", f"data.path={ODD}"]
    said = [
        subprocess.run([sys.executable, "-m", *start, *words], capture_output=True, text=True, timeout=200, check=True)
        for start in (["diffmamba", "train"], ["diffmamba.train"])
    ]
    assert (said[0].stdout, said[0].stderr) == (said[1].stdout, said[1].stderr)
    assert OmegaConf.create(said[0].stdout).data.path == ODD
    assert said[0].stderr == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(story, command):
    line = command("evaluate", [f"run={story[0].directory(story[1])}", "device=cuda"]).refusal()
    assert "finds no CUDA device here; use" in line


def test_a_disk_that_takes_no_more_is_one_line(capsys):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/t1/result.json")

    assert exit_status.guarded(full) == 1
    assert (
        capsys.readouterr().err == "error: No space left on device: runs/t1/result.json; mend that and run it again\n"
    )
