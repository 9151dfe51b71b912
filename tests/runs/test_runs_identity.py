"""Two configurations are one run exactly if the same things are handed to constructors."""

import hashlib
import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from diffmamba import configuration
from diffmamba.data import CorpusChoice
from diffmamba.errors import SettingError
from diffmamba.mixers import Mamba2
from diffmamba.runs import identity
from diffmamba.runs.execution import work_of
from diffmamba.runs.plan import configurations, expand
from diffmamba.runs.work import Training, Work, build_network

GROUPS = (
    *("model=", "model/embedding=", "data=", "data@measured=", "trainer=", "logger=", "measure=", "weights="),
    *("experiments=", "callbacks=", "task="),
)
TEXT = "the quick brown fox jumps over a lazy dog " * 20
MODELS = sorted(path.stem for path in Path(configuration.CONF, "model").glob("*.yaml"))


@cache
def composed(*choices: str) -> DictConfig:
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        return compose("train", overrides=list(choices))


def changed(config: DictConfig, *settings: str) -> DictConfig:
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.merge_with_dotlist([word.removeprefix("+") for word in settings])
    return config


def work(*settings: str) -> Work:
    """The work that these settings make of the default configuration."""
    config = composed(*(word for word in settings if word.startswith(GROUPS)))
    words = [word for word in settings if not word.startswith(GROUPS)]
    return work_of(configuration.resolved(changed(config, *words)))


def facts_of(work: Work) -> dict[str, Any]:
    """As if every choice of a text had a content of its own."""
    if "corpus" not in work.module.keywords:
        return dict(work.facts)
    choice: CorpusChoice = work.module.keywords["corpus"]  # type: ignore[attr-defined]
    content = json.dumps(choice.describe(), sort_keys=True, default=str)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    of_task = {"chance": 0.1} if "rule" in work.module.keywords else {}
    return {"name": "a text", "fingerprint": fingerprint, "sizes": {"train": 90_000}, "vocabulary": 27} | of_task


def name(*settings: str) -> str:
    return work(*settings).identity(facts_of)


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
        ("model.ssm=mamba1", "model.ssm=mamba1 scale.d_state=8 model.headdim=8"),
        ("model/embedding=auto", "model/embedding=full"),
        ("model/embedding=auto", "model.embedding.div_val=2"),
        ("data=pydoc_words", "data=pydoc_words model/embedding=adaptive"),
        ("trainer=cpu", "trainer=auto"),
        ("trainer=cpu", "trainer=ddp"),
        ("trainer.devices=1", "trainer.devices=2 trainer.strategy=fsdp"),
        ("optimizer.schedule=published", "optimizer.schedule=to_end"),  # a scale without a published length
        ("optimizer.schedule_steps=120", "optimizer.schedule=to_end"),  # of 120 steps
        ("scale.learning_rate=0.001", "optimizer.learning_rate=1e-3"),
        ("scale.dropout=0", "scale.dropout=0.0"),
        ("optimizer.weight_decay=0", "optimizer.weight_decay=0.0"),
        ("scale.steps=86", "scale.steps=null scale.epochs=2"),  # 43 steps an epoch
        ("scale.evaluate_every=43", "scale.evaluate_every=null"),
        ("scale.steps=20 scale.evaluate_every=20", "scale.steps=20 scale.evaluate_every=30"),
        ("trainer.gradient_clip_val=null", "+trainer.gradient_clip_algorithm=null"),
    ],
)
def test_what_changes_no_result_changes_no_name(one: str, other: str) -> None:
    assert name(*one.split()) == name(*other.split())


# settings that no leaf has by default, or that only together change something
MATTERS = [
    *("model=mamba", "model=naive_diff", "model=diff_s6", "model=diff_mamba_hybrid", "model=mamba_grouped"),
    *(
        "model=transformer",
        "model=diff_transformer",
        "model=transformer model.inner=32",
        "model=mamba model.ssm=mamba1",
    ),
    *(f"model.lambda_form={form}" for form in ("reparam", "reparam_bounded", "channel", "exp", "exp_printed", "fixed")),
    *("scale.steps=null scale.epochs=1", "data=pysrc8", "data=pydoc_words", "data.symbols=bytes"),
    *("model/embedding=adaptive model.embedding.cutoffs=[9]", "optimizer.betas=[0.9,0.95]"),
    *("+trainer.gradient_clip_algorithm=value", "+trainer.inference_mode=false", "model.ssm=mamba1 model.d_state=8"),
]


def test_what_changes_a_result_changes_the_name() -> None:
    names = {settings: name(*settings.split()) for settings in ["", *MATTERS]}
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("model", [model for model in MODELS if "diff" in model])
def test_lambda_form_names_every_differential_model(model: str) -> None:
    forms = ("scalar", "reparam", "reparam_bounded", "channel", "exp", "fixed")
    assert len({name(f"model={model}", f"model.lambda_form={form}") for form in forms}) == len(forms)


UNNAMED = {
    "runs": "where results lie",
    "retry": "whether to go on with a failed run",
    "retries": "how often a sweep does",
    "name": "a label",
    "checkpoint": "how often a state is kept that a run may go on from",
    "force": "whether to do anew what was done with other sources",
    "compile": "the same arithmetic within rounding",
    "threads": "the same",
    "group": "a label",
    "published": "which row of a table a run stands for",
    "logger": "who is told",
    "model.name": "a label",
    "model.backend": "the same arithmetic within rounding",
    "data.name": "a label",
    "data.directory": "where prepared corpora lie",
    "data.stands_for": "which row of a table a run stands for",
    "scale.name": "a label",
    "scale.seeds": "of a sweep",
    "scale.corpora": "of a sweep",
    "scale.hyper_parameters": "of an experiment",
    "trainer.accelerator": identity.NEUTRAL["lightning.Trainer.accelerator"],
    "trainer.devices": identity.NEUTRAL["lightning.Trainer.devices"],
    "trainer.num_nodes": identity.NEUTRAL["lightning.Trainer.num_nodes"],
    "trainer.strategy": identity.NEUTRAL["lightning.Trainer.strategy"],
    "trainer.log_every_n_steps": identity.NEUTRAL["lightning.Trainer.log_every_n_steps"],
    "data.eval_batch_size": identity.NEUTRAL["LanguageModellingData.eval_batch_size"],
    "scale.eval_batch_size": identity.NEUTRAL["LanguageModellingData.eval_batch_size"],
    "data.path": "where raw files lie; the content counts",
    "data.source.path": "the same",
    "data.source.url": "the same",
    "data.source.repository": "the same",
}
"""The short list: settings that change no result, with the reason."""
SHORTHAND = ("model.", "scale.", "data.", "budget.", "optimizer.")
"""Groups whose settings reach constructors only where something refers to them, or in place of each other."""
REFUSED = (".ssm", ".groups", ".epochs")
"""Every other value may be refused: Mamba-1 has no two groups, and steps are set."""
ELSEWHERE = "scale.efficiency"
"""Sizes that one experiment reads alone: with others they are not walked, which would take long and find nothing."""
WORDS = {
    "model.residual": ["pre_norm"],
    "model.lambda_index": ["mixers"],
    "model.layer.0": ["ffn"],
    "model.layer.1": ["ffn"],
    "model.layer.2": ["mixer"],
    "scale.mad.layer.0": ["ffn"],
    "scale.mad.precision": ["bf16-mixed"],
    "scale.efficiency.precision": ["bf16-mixed"],
    "data.symbols": ["bytes"],
    "optimizer.schedule": ["to_end"],
    "trainer.precision": ["bf16-mixed"],
    "trainer.strategy": ["ddp"],
    "model.embedding.cutoffs": [[3]],
    "data.cutoffs": [[3]],
    "data.task": ["diffmamba.tasks.LanguageModelling"],
    "data.network": ["diffmamba.models.AutoEncoder"],
}
"""Other values of settings that take words or lists."""


def leaves(node: Any, path: str = "") -> Iterator[str]:
    """The path of every setting below a node. What has a `_target_` is walked through as well."""
    if isinstance(node, DictConfig | ListConfig) and not node._is_none() and not node._is_missing():
        keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
        for key in keys:
            if str(key) in ("_target_", "_partial_"):
                continue
            below = f"{path}.{key}" if path else str(key)
            child = node._get_node(key)
            yield from leaves(child, below)
    else:
        yield path


def others(path: str, value: Any) -> list[Any]:
    """Values to put in the place of a setting's."""
    if path in WORDS:
        return WORDS[path]
    if path.endswith(".ssm"):
        return ["mamba1"]
    if path.endswith(".scope"):
        return [{"block": "ssm", "ssm": "block"}[value]]
    if path.endswith(".lambda_form"):
        return ["exp", "scalar"]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, -value]
    if isinstance(value, float):
        return [value / 2, 0.25, 1]
    return [7, "else", True] if value is None else [f"{value}x"]


def handed(work: Work) -> str:
    """Everything that constructors are given and the network they make, whatever the identity leaves out."""
    assert isinstance(work, Training)
    settings = {key: value for key, value in work.module.keywords.items() if key != "corpus"}
    parts = [facts_of(work), settings, work.optimizer.over(100), work.budget.over(43), work.trainer.keywords, work.seed]
    with torch.device("meta"):
        network = build_network(work.network, 30_000)
    weights = [(name, tuple(weight.shape)) for name, weight in network.named_parameters()]
    return repr([parts, network, weights, work.network.keywords["embedding"]])


def walked(choices: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    """The settings whose change is neither another identity, nor on the short list, nor without any effect."""
    config = composed(*choices)
    start = work_of(configuration.resolved(config))
    own, given = start.identity(facts_of), handed(start)
    wrong = []
    for path in leaves(config):
        value = OmegaConf.select(config, path)
        if isinstance(value, DictConfig | ListConfig):
            continue  # refers to what is walked elsewhere
        if not path.startswith(groups) or path.startswith(("model.network", "data.module", "task", "weights")):
            continue
        if path.startswith(ELSEWHERE) and ELSEWHERE not in groups:
            continue
        if any(path == listed or path.startswith(f"{listed}.") for listed in UNNAMED):
            continue
        names, effects = set(), set()
        for other in others(path, value):
            new = config.copy()
            OmegaConf.set_struct(new, False)
            OmegaConf.update(new, path, other, merge=False)
            try:
                found = work_of(configuration.resolved(new))
                names.add(found.identity(facts_of))
                if names != {own}:
                    break
                effects.add(handed(found))
            except (SettingError, ValueError, TypeError, RuntimeError):
                continue  # refused
        has_effect = effects - {given}
        if (names and names <= {own}) and (has_effect or not path.startswith(SHORTHAND)):
            wrong.append(path)
        if not names and not path.endswith(REFUSED):
            wrong.append(f"{path} without an accepted value")
    return wrong


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_of_a_model_names_it_or_reaches_nothing(model: str) -> None:
    assert walked((f"model={model}",), ("model", "scale")) == []


@pytest.mark.parametrize("data", ["pydoc8", "pydoc_words", "text8"])
def test_every_other_setting_names_a_run_or_is_on_the_short_list(data: str) -> None:
    assert walked((f"data={data}",), ("",)) == []


def test_every_setting_of_a_synthetic_task_names_a_run_or_is_on_the_short_list() -> None:
    groups = ("data", "optimizer", "callbacks", "seed", "scale.mad")
    assert walked(("experiments=mad", "data=mad/noisy_in_context_recall"), groups) == []
    assert walked(("experiments=mad", "data=mad/compression"), ("data",)) == []


def test_every_size_of_what_is_timed_names_it_or_reaches_nothing() -> None:
    assert walked(("experiments=efficiency",), (ELSEWHERE,)) == []


def test_a_setting_that_is_forgotten_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk itself: an argument that is left out of the identity by mistake."""
    monkeypatch.setitem(identity.NEUTRAL, "Backbone.dropout", "a mistake")
    monkeypatch.setitem(identity.NEUTRAL, "AdamW.weight_decay", "a mistake")
    assert walked((), ("model", "optimizer", "scale")) == ["model.dropout", "optimizer.weight_decay", "scale.dropout"]


def test_a_moved_class_keeps_its_name_and_a_renamed_one_its_old() -> None:
    class Elsewhere:
        def __init__(self, size: int, new: bool = False): ...

    class Other(Elsewhere):
        known_as = f"{Elsewhere.__module__}.{Elsewhere.__qualname__}"

    class Third(Other): ...

    one, two = type("Toy", (), {"__module__": "one"}), type("Toy", (), {"__module__": "two.part"})
    assert identity.canonical(one) != identity.canonical(two)  # two people may choose the same name
    moved = type("Toy", (), {"__module__": "one.elsewhere"})
    assert identity.canonical(moved) == identity.canonical(one)
    names = [identity.canonical(partial(kind, size=1)) for kind in (Elsewhere, Other, Third)]
    assert names[0] == names[1] != names[2]
    assert identity.canonical(partial(Elsewhere, size=1.0, new=False)) == names[0]  # a neutral default
    assert identity.canonical(partial(Elsewhere, size=1, new=True)) != names[0]
    assert identity.canonical(Mamba2) == {"is": "Mamba2"}


def test_what_has_no_identity_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no identity"):
        identity.canonical({"a": object()})


def test_versions_of_tasks_and_measures_name_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    task, measure = work(), work("measure=perplexity", "weights=trained")
    before = task.identity(facts_of), measure.identity(facts_of)
    monkeypatch.setattr("diffmamba.tasks.LanguageModelling.version", 2)
    assert task.identity(facts_of) != before[0]
    assert measure.identity(facts_of) != before[1]  # other weights
    monkeypatch.undo()
    monkeypatch.setattr("diffmamba.measures.Perplexity.version", 2)
    assert (task.identity(facts_of), measure.identity(facts_of)) != before


def test_what_names_a_measurement() -> None:
    base = ("measure=perplexity", "weights=trained")
    names = {
        settings: name(*base, *settings.split())
        for settings in (
            *("", "measure.stride=64", "measure.split=val", "measure.limit=3", "weights.checkpoint=best", "seed=1"),
            *("weights=fresh", "weights=fresh seed=1", "model=mamba", "trainer.precision=bf16-mixed"),
            "data@measured=pysrc8",
        )
    }
    assert len(set(names.values())) == len(names)
    for neutral in ("measure.batch=3", "measure.window=128", "measure.stride=128", "trainer=auto", "threads=2"):
        assert name(*base, neutral) == names[""]


def test_a_measure_that_reads_no_data_is_the_same_run_on_any() -> None:
    fresh = ("measure=perturbation", "weights=fresh")
    assert name(*fresh) == name(*fresh, "data@measured=pysrc8")
    assert name(*fresh) != name(*fresh, "seed=1")
    assert name("measure=free_running", *fresh[1:]) != name("measure=free_running", *fresh[1:], "data@measured=pysrc8")


def test_how_a_loss_by_position_is_read_names_no_measurement() -> None:
    base = ("measure=loss_by_position", "weights=trained", "model=mamba")
    for neutral in ("measure.batch=3", "measure.window=7"):
        assert name(*base, neutral) == name(*base)
    assert name(*base, "measure.shift=2") != name(*base)


def test_examples_made_of_a_corpus_count_by_what_they_are_made_with_too() -> None:
    lens = ("data=needle", "measure=lens", "weights=trained", "model=mamba")
    training = name("data=needle", "model=mamba")
    for factor in ("distance=3", "keys=2", "shown=1", "seed=5"):
        measured = ("data=pydoc8", *lens[1:], "data@measured=needle")
        assert name(*measured, f"measured.{factor}") != name(*measured)
        assert name("data=needle", "model=mamba", f"data.{factor}") != training


def test_corpus_counts_by_its_content(tmp_path: Path) -> None:
    def trained_on(file: str, text: str, *settings: str) -> str:
        (tmp_path / file).write_text(text)
        CorpusChoice.forget()
        place = (f"data.path={tmp_path / file}", f"data.directory={tmp_path / 'data'}", "scale.batch_size=2")
        return work("data=text", *place, "scale.length=16", *settings).identity()

    one = trained_on("one.txt", TEXT)
    assert trained_on("other.txt", TEXT) == one
    assert trained_on("capitals.txt", TEXT.upper()) == one  # the same symbols in Text8's alphabet
    assert trained_on("one.txt", TEXT + "end") != one
    assert trained_on("one.txt", TEXT, "data.symbols=bytes") != one


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
    assert [config["seed"] for config in configurations("table2", [*words, *cell])] == [0, 42, 77]
    assert [config["seed"] for config in configurations("table2", [*words, *cell, "scale.seeds='3,4'"])] == [3, 4]


def test_a_plan_holds_what_a_measurement_needs_before_it(words: list[str]) -> None:
    cells = ["model=mamba,diff_mamba", "model.outer_norm=true", "model.lambda_form=scalar", "seed=0"]
    both = ["measure=perplexity", "weights=trained"]
    plan = expand("table2", [*words, *cells, *both])
    assert [(item.work.kind, item.asked) for item in plan] == 2 * [("training", False), ("measurement", True)]
    assert [item.id for item in plan if item.work.kind == "training"] == [
        item.id for item in expand("table2", [*words, *cells])
    ]
