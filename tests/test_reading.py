"""A key that nothing reads is refused with its file, before anything is done. What is read is not."""

from pathlib import Path

import pytest

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.runs.plan import configurations

SWEEP = "# @package _global_\n{}\nhydra: {{mode: MULTIRUN, sweeper: {{params: {{seed: '{}'}}}}}}\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory."""
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    for group in ("sweeps", "experiments", "scale", "model", "data"):
        (tmp_path / group).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("modle: mamba", "nothing reads modle; did you mean model?"),
        ("scale: {stepz: 3}", "nothing reads scale.stepz; did you mean scale.steps?"),
        ("scales: {steps: 3}", "nothing reads scales; did you mean scale?"),
        ("optimizer: {lr: 3}", "optimizer.lr is no argument of AdamW; did you mean optimizer.learning_rate?"),
        ("trainer: {max_steps: 3}", "trainer.max_steps is set by the run itself; use scale.steps or scale.epochs"),
        ("defaults: [override /experimets: table2]", "there is no setting experimets; did you mean experiments?"),
    ],
)
def test_a_key_of_a_sweep_that_nothing_reads_is_one_line(own: Path, content: str, line: str) -> None:
    (own / "sweeps" / "mine.yaml").write_text(SWEEP.format(content, "0,1"))
    with pytest.raises(SettingError) as refused:
        configurations("mine")
    assert str(refused.value) == f"sweeps/mine.yaml: {line}"


@pytest.mark.parametrize(
    ("hydra", "line"),
    [
        (
            "sweeper: {parms: {seed: '0,1'}}",
            "there is no setting hydra.sweeper.parms; did you mean hydra.sweeper.params?",
        ),
        ("sweepr: {params: {seed: '0,1'}}", "there is no setting hydra.sweepr; did you mean hydra.sweeper?"),
        ("sweeper: {params: {modle: 'a,b'}}", "hydra.sweeper.params: there is no setting modle; did you mean model?"),
    ],
)
def test_a_slip_in_the_grid_of_a_sweep_is_one_line(own: Path, hydra: str, line: str) -> None:
    (own / "sweeps" / "mine.yaml").write_text(f"# @package _global_\nhydra: {{mode: MULTIRUN, {hydra}}}\n")
    with pytest.raises(SettingError) as refused:
        configurations("mine")
    assert str(refused.value) == f"sweeps/mine.yaml: {line}"


@pytest.mark.parametrize(
    ("file", "content", "words", "line"),
    [
        (
            "scale/mine",
            "defaults: [smoke]\nbatchsize: 3",
            ["scale=mine"],
            "scale.batchsize; did you mean scale.batch_size?",
        ),
        ("model/mine", "defaults: [mamba]\nexpnd: 3", ["model=mine"], "model.expnd; did you mean model.expand?"),
        ("data/mine", "defaults: [pydoc8]\nsymbol: text8", ["data=mine"], "data.symbol; did you mean data.symbols?"),
        (
            "data/mine",
            "defaults: [pydoc8]\nsymbol: a",
            ["data@measured=mine"],
            "data.symbol; did you mean data.symbols?",
        ),
        ("experiments/mine", "# @package _global_\nsede: 3", ["experiments=mine"], "sede; did you mean seed?"),
    ],
)
def test_a_key_of_a_file_of_the_user_that_nothing_reads_is_one_line(
    own: Path, file: str, content: str, words: list[str], line: str
) -> None:
    (own / f"{file}.yaml").write_text(content)
    with pytest.raises(SettingError) as refused:
        composed(words)
    assert str(refused.value) == f"{file}.yaml: nothing reads {line}"


def test_keys_that_something_reads_are_taken(own: Path) -> None:
    """A setting of the user's that others refer to, by its name, from beside it, as a whole, or in the grid alone."""
    (own / "model" / "mine.yaml").write_text("defaults: [mamba]\nname: mine\nhalf: 1\nexpand: ${.half}\n")
    content = (
        "defaults: [override /model: mine]\n"
        "mine: {sizes: {deep: 2}, rate: 1e-3}\nchosen: ${mine.sizes}\nseeds: 3,4\ngroup: mine\n"
        "budget: {evaluate_every: 5}\n"
        "scale: {n_layers: '${chosen.deep}'}\noptimizer: {learning_rate: '${mine.rate}'}\npublished: {anything: 1}\n"
        "logger: {second: {_target_: lightning.pytorch.loggers.CSVLogger, save_dir: x}}"
    )
    (own / "sweeps" / "mine.yaml").write_text(SWEEP.format(content, "${seeds}"))
    found = configurations("mine")
    assert [(one["seed"], one["model"]["expand"], one["model"]["n_layers"]) for one in found] == [(3, 1, 2), (4, 1, 2)]


def test_a_file_that_is_no_yaml_is_one_line_with_its_place(own: Path) -> None:
    (own / "sweeps" / "mine.yaml").write_text("# @package _global_\nhydra:\n  mode: MULTIRUN\n mode: RUN\n")
    with pytest.raises(SettingError, match=r"sweeps/mine\.yaml, line 4: this is no YAML: "):
        configurations("mine")
