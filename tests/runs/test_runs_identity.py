"""Two configurations are one run exactly if they give the same result."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from diffmamba import configuration
from diffmamba.runs import identity
from diffmamba.runs.grid import expand

TEXT = "the quick brown fox jumps over a lazy dog " * 20


def name(*settings: str, fingerprint: str = "0123456789abcdef") -> str:
    """The identity of what these settings make of the default configuration."""
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        config = configuration.resolved(compose("train", overrides=list(settings)))
    return identity(config, fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model=naive_diff", "model=diff_s6 model.outer_norm=false"),
        ("model=naive_diff model.outer_norm=true", "model=diff_s6"),
        ("model=diff_mamba_additive", "model=diff_mamba model.sign=1"),
        ("model=mamba", "model=mamba model.lambda_form=exp"),
        ("model=mamba_grouped", "model=mamba_grouped model.lambda_form=exp"),
        ("model.name=diff_mamba", "model.name=mine"),
        ("data.name=pydoc8", "data.name=mine"),
        ("scale.name=smoke", "scale.name=mine"),
        ("data=pydoc8", "data=text data.path=elsewhere"),  # with the same symbols in them
        ("data.directory=here", "data.directory=there"),
        ("runs=runs", "runs=elsewhere"),
        ("logger=csv", "logger=default"),
        ("trainer=cpu", "trainer=auto"),
        ("threads=1", "threads=2"),
        ("group=null", "group=table2"),
        ("retry_failed=false", "retry_failed=true"),
        ("trainer.log_every_n_steps=1", "trainer.log_every_n_steps=50"),
        ("scale.seeds=1", "scale.seeds='1,2'"),
        ("scale.learning_rate=0.001", "optimizer.learning_rate=1e-3"),
        ("scale.steps=100 scale.schedule_steps=100", "scale.steps=100 scale.schedule_steps=null"),
        ("data.eval_batch_size=4", "data.eval_batch_size=8"),
    ],
)
def test_what_changes_no_result_changes_no_name(one: str, other: str) -> None:
    assert name(*one.split()) == name(*other.split())


MATTERS = [
    *("optimizer.learning_rate=1e-3", "optimizer.weight_decay=0", "optimizer.betas=[0.9,0.95]"),
    *("optimizer.warmup_steps=5", "optimizer.schedule_steps=1000", "seed=1", "trainer.precision=bf16-mixed"),
    *("trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0", "scale.dropout=0.1", "scale.length=64"),
    *("scale.batch_size=8", "scale.steps=100", "scale.steps=null scale.epochs=1", "scale.evaluate_every=20"),
    *("scale.evaluate_every=null", "scale.eval_windows=null", "data.rotation_seed=1", "scale.d_model=128"),
    *("scale.n_layers=1", "scale.headdim=16", "scale.d_state=8", "model.d_conv=2", "model.expand=2", "model.sign=1"),
    *("model.outer_norm=false", "model.residual=pre_norm", "model.lambda_index=mixers", "model.layer=[mixer,ffn]"),
    *("model.lambda_form=reparam", "model.lambda_form=channel", "model.lambda_form=exp", "model.lambda_form=fixed"),
    *("data.symbols=bytes", "+trainer.gradient_clip_algorithm=value", "+trainer.limit_train_batches=3"),
    *("model=mamba", "model=naive_diff", "model=diff_s6", "model=diff_mamba_hybrid", "model=mamba_grouped"),
]


def test_what_changes_a_result_changes_the_name() -> None:
    names = {settings: name(*settings.split()) for settings in ["", *MATTERS]}
    alike = {names[one]: [other for other in names if names[other] == names[one]] for one in names}
    assert [group for group in alike.values() if len(group) > 1] == []


@pytest.mark.parametrize("model", ["diff_s6", "naive_diff", "diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid"])
def test_lambda_form_names_every_differential_model(model: str) -> None:
    forms = ("scalar", "reparam", "channel", "exp", "fixed")
    assert len({name(f"model={model}", f"model.lambda_form={form}") for form in forms}) == len(forms)


def planned(path: Path, *settings: str) -> list[Any]:
    words = ["data=text", f"data.path={path}", f"data.directory={path.parent / 'data'}", "scale.length=16"]
    return expand("table2", [*words, *settings])


def test_corpus_counts_by_its_content(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.txt" for k in range(4)]
    for path, text in zip(paths, (TEXT, TEXT, TEXT.upper(), TEXT + "end"), strict=True):
        path.write_text(text)
    same, copy, capitals, longer = ([run.id for run in planned(path, "seed=0")] for path in paths)
    assert same == copy == capitals  # capitals are the same symbols in Text8's alphabet
    assert not set(same) & set(longer)
    assert not set(same) & {run.id for run in planned(paths[0], "seed=0", "data.symbols=bytes")}


def test_grid_of_table_2_holds_each_run_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    runs = planned(path, "seed=0,7")
    assert len({run.id for run in runs}) == len(runs) == 2 * 10
    assert [run.config["seed"] for run in runs] == [0, 7] * 10
    cells = [
        (run.config["model"]["name"], run.config["model"]["outer_norm"], run.config["model"]["lambda_form"])
        for run in runs[::2]
    ]
    assert [cell[:2] for cell in cells[:2]] == [("mamba", False), ("mamba", True)]
    assert cells[2:] == [
        (model, norm, form)
        for model in ("diff_s6", "diff_mamba")
        for norm in (False, True)
        for form in ("scalar", "reparam")
    ]
    assert {run.config["group"] for run in runs} == {"table2"}


def test_scale_names_the_seeds_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    assert sorted({run.config["seed"] for run in planned(path)}) == [0, 42]
    assert sorted({run.config["seed"] for run in planned(path, "scale.seeds='3,4,5'")}) == [3, 4, 5]
