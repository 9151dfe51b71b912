"""Two configurations are one run exactly if they give the same result."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from diffmamba import configuration
from diffmamba.data import prepare
from diffmamba.data.sources import TextFile
from diffmamba.runs import identity
from diffmamba.runs.grid import expand

GROUPS = ("model=", "model/embedding=", "data=", "trainer=", "logger=")
TEXT = "the quick brown fox jumps over a lazy dog " * 20


@cache
def composed(*choices: str) -> DictConfig:
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        return compose("train", overrides=list(choices))


def name(*settings: str, fingerprint: str = "0123456789abcdef") -> str:
    """The identity of what these settings make of the default configuration."""
    config = composed(*(word for word in settings if word.startswith(GROUPS))).copy()
    OmegaConf.set_struct(config, False)
    config.merge_with_dotlist([word.removeprefix("+") for word in settings if not word.startswith(GROUPS)])
    return identity(configuration.resolved(config), fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model=naive_diff", "model=diff_s6 model.outer_norm=false"),
        ("model=naive_diff model.outer_norm=true", "model=diff_s6"),
        ("model=diff_mamba_additive", "model=diff_mamba model.sign=1"),
        ("model=mamba", "model=mamba model.lambda_form=exp"),
        ("model=mamba_grouped", "model=mamba_grouped model.lambda_form=exp"),
        ("model=transformer", "model=transformer model.lambda_form=exp model.outer_norm=true scale.d_state=8"),
        ("model=transformer", "model=transformer model.ssm=mamba1"),
        ("model.ssm=mamba1", "model.ssm=mamba1 scale.d_state=8"),
        ("model.backend=auto", "model.backend=torch"),
        ("model.backend=auto", "model.backend=cuda"),
        ("compile=false", "compile=true"),
        ("model.name=diff_mamba", "model.name=mine"),
        ("data.name=pydoc8", "data.name=mine"),
        ("scale.name=smoke", "scale.name=mine"),
        ("data=pydoc8", "data=text data.path=elsewhere"),  # with the same symbols in them
        ("data.directory=here", "data.directory=there"),
        ("runs=runs", "runs=elsewhere"),
        ("logger=csv", "logger=default"),
        ("trainer=cpu", "trainer=auto"),
        ("trainer=cpu", "trainer=ddp"),
        ("trainer.devices=1", "trainer.devices=2 trainer.strategy=fsdp"),
        ("optimizer.schedule=published", "optimizer.schedule=to_end"),  # a scale without a published length
        ("threads=1", "threads=2"),
        ("group=null", "group=table2"),
        ("retry_failed=false", "retry_failed=true"),
        ("trainer.log_every_n_steps=1", "trainer.log_every_n_steps=50"),
        ("scale.seeds=1", "scale.seeds=2"),
        ("scale.learning_rate=0.001", "optimizer.learning_rate=1e-3"),
        ("data.eval_batch_size=4", "data.eval_batch_size=8"),
    ],
)
def test_what_changes_no_result_changes_no_name(one: str, other: str) -> None:
    assert name(*one.split()) == name(*other.split())


MATTERS = [
    *("optimizer.learning_rate=1e-3", "optimizer.weight_decay=0", "optimizer.betas=[0.9,0.95]"),
    *("optimizer.warmup_steps=5", "optimizer.schedule_steps=1000", "seed=1", "trainer.precision=bf16-mixed"),
    *("trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0", "scale.dropout=0.1", "scale.length=64"),
    *("scale.schedule_steps=2000", "model/embedding=adaptive"),
    *("model/embedding=adaptive model.embedding.div_val=2", "model/embedding=adaptive model.embedding.cutoffs=[9]"),
    *("scale.batch_size=8", "scale.steps=90", "scale.steps=null scale.epochs=1", "scale.evaluate_every=20"),
    *("scale.evaluate_every=null", "scale.eval_windows=null", "data.rotation_seed=1", "scale.d_model=128"),
    *("scale.n_layers=1", "scale.headdim=16", "scale.d_state=8", "model.d_conv=2", "model.expand=2", "model.sign=1"),
    *("model.outer_norm=false", "model.residual=pre_norm", "model.lambda_index=mixers", "model.layer=[mixer,ffn]"),
    *("model.ssm=mamba1", "model.ssm=mamba1 model.d_state=8", "model=mamba model.ssm=mamba1"),
    *("model.lambda_form=reparam", "model.lambda_form=channel", "model.lambda_form=exp", "model.lambda_form=fixed"),
    *("data.symbols=bytes", "+trainer.gradient_clip_algorithm=value", "+trainer.limit_train_batches=3"),
    *("model=mamba", "model=naive_diff", "model=diff_s6", "model=diff_mamba_hybrid", "model=mamba_grouped"),
    *("model=transformer", "model=diff_transformer", "model=transformer model.inner=32"),
]


def test_what_changes_a_result_changes_the_name() -> None:
    names = {settings: name(*settings.split()) for settings in ["", *MATTERS]}
    alike = {names[one]: [other for other in names if names[other] == names[one]] for one in names}
    assert [group for group in alike.values() if len(group) > 1] == []


@pytest.mark.parametrize(
    "model",
    ["diff_s6", "naive_diff", "diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_transformer"],
)
def test_lambda_form_names_every_differential_model(model: str) -> None:
    forms = ("scalar", "reparam", "channel", "exp", "fixed")
    assert len({name(f"model={model}", f"model.lambda_form={form}") for form in forms}) == len(forms)


def test_corpus_counts_by_its_content(tmp_path: Path) -> None:
    def trained_on(file: str, text: str, symbols: str = "text8") -> str:
        (tmp_path / file).write_text(text)
        return name(fingerprint=prepare(TextFile(tmp_path / file), symbols, tmp_path / "data").fingerprint)

    one = trained_on("one.txt", TEXT)
    assert trained_on("other.txt", TEXT) == one
    assert trained_on("capitals.txt", TEXT.upper()) == one  # the same symbols in Text8's alphabet
    assert trained_on("one.txt", TEXT + "end") != one
    assert trained_on("one.txt", TEXT, "bytes") != one


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    return ["data=text", f"data.path={path}", f"data.directory={tmp_path / 'data'}", "scale.length=16"]


def test_grid_of_table_2_holds_each_run_once_in_order(words: list[str]) -> None:
    runs = expand("table2", [*words, "seed=7"])
    assert len({run.id for run in runs}) == len(runs) == 10
    assert {run.config["seed"] for run in runs} == {7}
    models = [run.config["model"] for run in runs]
    assert [(model["name"], model["outer_norm"]) for model in models[:2]] == [("mamba", False), ("mamba", True)]
    assert [(model["name"], model["outer_norm"], model["lambda_form"]) for model in models[2:]] == [
        (name, norm, form)
        for name in ("diff_s6", "diff_mamba")
        for norm in (False, True)
        for form in ("scalar", "reparam")
    ]
    assert {run.config["group"] for run in runs} == {"table2"}


def test_scale_names_the_seeds_of_a_sweep(words: list[str]) -> None:
    cell = ["model=diff_mamba", "model.outer_norm=true", "model.lambda_form=scalar"]
    assert [run.config["seed"] for run in expand("table2", [*words, *cell])] == [0, 42]
    assert [run.config["seed"] for run in expand("table2", [*words, *cell, "scale.seeds='3,4'"])] == [3, 4]
