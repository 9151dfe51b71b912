"""A file of sweeps/ as a sweep of W&B: its agents start the works of our own plan, each once."""

import subprocess
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from diffmamba.configuration import composed
from diffmamba.runs.execution import work_of
from diffmamba.runs.plan import expand
from tests.outcome import Outcome, outcome_of


def made(folder: Path, *words: str) -> tuple[Outcome, dict]:
    """What `diffmamba wandb_sweep` says, and the specification that it writes."""
    outcome = outcome_of("wandb_sweep", f"reports={folder}/reports", *words)
    (file,) = (folder / "reports" / "sweeps").iterdir()
    return outcome, yaml.safe_load(file.read_text())


def started(told: dict, values: dict) -> list[str]:
    """The words that the process gets which an agent starts, with `printf` in the place of Python."""
    handed = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    parts = handed | {"env": ["/usr/bin/env"], "program": [told["program"]], "interpreter": ["python"]}
    command = []
    for one in told["command"]:
        command += parts[one[2:-1]] if one.startswith("${") and one.endswith("}") else [one]
    place = command.index("-m") - 1
    command[place : place + 1] = ["printf", r"%s\0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert said[:2] == ["-m", "diffmamba.train"]
    return said[2:]


def of_words(words: list[str]) -> str:
    """The identity of the work that these words of `diffmamba.train` stand for."""
    return work_of(composed(words)).identity()


def test_the_cells_are_the_works_of_the_plan_each_once(tmp_path):
    """Models of one branch ignore λ, so that two of their cells are one work."""
    own = ["seed=0", "model=mamba,diff_mamba", "model.outer_norm=true"]
    outcome, told = made(tmp_path, "sweep=table2", *own, f"runs={tmp_path}/my runs")
    cells = told["parameters"]["cell"]["values"]
    words = [started(told, {"cell": cell}) for cell in cells]
    planned = [item.id for item in expand("table2", own) if item.asked]
    assert [of_words(one) for one in words] == planned
    assert len(cells) == len(set(cells)) == 3
    assert (told["method"], told["metric"]) == ("grid", {"name": "val/ppl", "goal": "minimize"})
    assert all({"hydra.mode=RUN", "sweeps=table2", f"runs={tmp_path}/my runs"} <= set(one) for one in words)
    name = "table2-model.outer_norm=true-model=mamba,diff_mamba-seed=0.yaml"
    assert f"wandb sweep {tmp_path}/reports/sweeps/{name}" in outcome.out


def test_a_value_that_depends_on_another_is_resolved(tmp_path):
    _, told = made(tmp_path, "sweep=table1", "seed=1", "published.depth=deep", "model=mamba")
    words = [started(told, {"cell": cell}) for cell in told["parameters"]["cell"]["values"]]
    assert {word for one in words for word in one if word.startswith("data=")} == {
        f"data={name}" for name in ("pydoc_words", "pydoc8", "pysrc8")
    }
    assert not any("${" in word for one in words for word in one)


def test_words_with_spaces_quotes_and_stars_arrive_as_they_are(tmp_path):
    texts = [tmp_path / 'it\'s $HOME * "text".txt', tmp_path / "two  words.txt"]
    for number, text in enumerate(texts):
        text.write_text("the fox jumps over the dog " * (3000 + number))  # one corpus each
    quoted = ["'" + str(text).replace("'", r"\'") + "'" for text in texts]
    rest = ["seed=0", "model=mamba", "model.outer_norm=false", "model.lambda_form=scalar", f"data.directory={tmp_path}"]
    _, told = made(tmp_path, "sweep=table2", "data=text", f"data.path={','.join(quoted)}", *rest)
    cells = told["parameters"]["cell"]["values"]
    assert [started(told, {"cell": cell})[-1] for cell in cells] == [f"data.path={one}" for one in quoted]


def test_a_search_has_its_ranges(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    further = ["scale.n_layers=range(1,4)", "model.lambda_form=choice(scalar,reparam)", "hydra.sweeper.n_trials=5"]
    _, told = made(tmp_path, "sweep=search", "scale.d_model=int(interval(32,64))", *further, "seed=3")
    assert told["parameters"] == {
        "scale.learning_rate": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1e-1},
        "optimizer.weight_decay": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1.0},
        "scale.d_model": {"distribution": "int_uniform", "min": 32, "max": 64},
        "scale.n_layers": {"values": [1, 2, 3]},
        "model.lambda_form": {"values": ["scalar", "reparam"]},
    }
    assert (told["method"], told["run_cap"]) == ("bayes", 5)
    assert told["metric"] == {"name": "val/ppl", "goal": "minimize"}
    values = {"scale.learning_rate": 0.02, "scale.n_layers": 2, "model.lambda_form": "reparam"}
    words = started(told, values)
    settings = composed(words)
    assert (settings["optimizer"]["learning_rate"], settings["seed"], settings["group"]) == (0.02, 3, "search")
    assert (settings["model"]["n_layers"], settings["model"]["lambda_form"]) == (2, "reparam")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which grid or search? sweep=NAME"),
        (["sweep=search", "logger=csv"], "use logger=default"),
        (["sweep=tabel2"], "sweep=tabel2 is not known; did you mean table2?"),
        (["sweep=search", "model=choice(mamba,diff_mamba)"], "model: W&B cannot search for model"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, words, says):
    outcome = outcome_of("wandb_sweep", f"reports={tmp_path}/reports", *words)
    assert says in outcome.refusal()
    assert not (tmp_path / "reports").exists()
