"""Which arguments of lightning.Trainer a setting may give, and what Lightning makes of them."""

import inspect
import time

import lightning
import pytest

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.lightning_trainer import check_trainer
from diffmamba.trainer_arguments import ALLOWED, REFUSED, check_arguments

STOP = "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping"


def training(*words):
    return work_of(composed(["trainer=cpu", "data=pydoc8", "scale=smoke", *words]))


def checked(*words):
    work = training(*words)
    check_trainer(work.trainer, work.execution.devices, work.callbacks, work.task_type)


def test_every_argument_of_the_installed_lightning_is_on_exactly_one_list():
    arguments = set(inspect.signature(lightning.Trainer).parameters)
    assert set(ALLOWED) | REFUSED.keys() == arguments
    assert not set(ALLOWED) & REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_run_sets_itself_is_refused_with_what_to_do_instead(name):
    with pytest.raises(SettingError, match=rf"^trainer\.{name} is set by the run itself; \w+"):
        check_arguments([name])


@pytest.mark.parametrize("word", ["max_steps=3", "limit_train_batches=3", "fast_dev_run=true", "max_time=null"])
def test_a_work_is_not_made_of_what_a_run_sets_itself(word):
    with pytest.raises(SettingError, match=r"^trainer\.\w+ is set by the run itself; \w+"):
        training(f"+trainer.{word}")


@pytest.mark.parametrize(
    ("name", "near"),
    [("gradient_clip_value", "gradient_clip_val"), ("precison", "precision")],
)
def test_an_unknown_argument_is_refused_with_the_nearest_one(name, near):
    with pytest.raises(SettingError, match=rf"^trainer\.{name} .*did you mean trainer\.{near}\?$"):
        training(f"+trainer.{name}=3")


def test_an_argument_near_a_refused_one_is_told_what_to_do_instead():
    with pytest.raises(SettingError, match=r"^trainer\.max_step .*; trainer\.max_steps is set by .*; use scale\.steps"):
        training("+trainer.max_step=3")


def test_an_argument_unlike_all_others_is_refused_with_the_allowed_ones():
    with pytest.raises(SettingError, match="use one of accelerator, devices, "):
        check_arguments(["zzz"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trainer.precision=16-mixed"], r"trainer\.precision=16-mixed is not possible here; use .*=bf16-mixed"),
        (["+trainer.profiler=abc"], r"trainer\.profiler=abc does not work here: .*simple"),
        (["+trainer.gradient_clip_algorithm=foo"], r"trainer\.gradient_clip_algorithm=foo does not work here: .*value"),
        (["+trainer.profiler=abc", "+trainer.gradient_clip_algorithm=foo"], r"trainer does not work here: "),
        (["trainer.accelerator=tpu"], r"trainer\.accelerator=tpu "),
        (["trainer.strategy=fsdp", "trainer.precision=bf16-true", "+trainer.profiler=abc"], r"trainer\.profiler=abc "),
        ([STOP], r"callbacks\.stop cannot be built: .*monitor"),
        (["+callbacks.stop._target_=argparse.Namespace"], r"callbacks\.stop must be a lightning\.Callback"),
        (["+callbacks.bar._target_=lightning.pytorch.callbacks.RichProgressBar"], r"callbacks\.bar .* no progress bar"),
        (
            [
                STOP,
                "+callbacks.stop.monitor=val/loss",
                f"+callbacks.again={{_target_: {STOP.split('=')[1]}, monitor: val/loss}}",
            ],
            r"callbacks does not work here: Found more than one",
        ),
        (
            ["+callbacks.best={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/loss}"],
            r"callbacks does not work here: Found more than one",
        ),
    ],
)
def test_what_lightning_refuses_or_replaces_is_one_line_that_names_the_setting(words, says):
    with pytest.raises(SettingError, match=f"^{says}") as refused:
        checked(*words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("variable", ["PL_TRAINER_LIMIT_TRAIN_BATCHES", "PL_TRAINER_MAX_TIME"])
def test_what_lightning_would_take_from_the_environment_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SettingError, match=f"^the environment variable {variable} would change the training"):
        checked()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["trainer.precision=bf16-mixed", "trainer.devices=2"],
        ["trainer.precision=64-true", "+trainer.deterministic=true"],
        ["trainer.strategy=ddp", "trainer.gradient_clip_val=0.5", "+trainer.gradient_clip_algorithm=value"],
        ["trainer.strategy=fsdp", "trainer.devices=2", "callbacks=early_stopping"],
    ],
)
def test_what_works_is_let_pass_quickly(words):
    checked(*words)
    work = training(*words)
    started = time.perf_counter()
    check_trainer(work.trainer, work.execution.devices, work.callbacks, work.task_type)
    assert time.perf_counter() - started < 0.5  # 10 ms on an idle machine
