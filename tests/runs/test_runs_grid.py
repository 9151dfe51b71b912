"""A cell of a grid has the configuration, or the error, that Hydra makes of it alone; but most of it is made once."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.configuration import explained, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.grid import Cell, Grid, grid_of
from tests.examples import few

CELLS = 3  # of a random grid, that are compared
AXES = [
    *("model=mamba,diff_s6,transformer", "model/embedding=full,adaptive,auto", "data=pydoc8,text8", "trainer=cpu,auto"),
    *(
        "scale=smoke,paper",
        "measure=perplexity,null",
        "data@measured=pysrc8,null",
        "logger=csv,default",
        "logger=odd,2",
    ),
    *("experiments=table1,table2,null", "weights=fresh,trained", "+data@other=pydoc8", "model=nosuch,mamba"),
    *("callbacks=early_stopping", "callbacks.early_stopping.patience=2,3", "callbacks={},null"),
    *("seed=0,1", "seed=1.0,1,true", "seed=null,-1", "optimizer.learning_rate=1e-3,2e-3,fast,null"),
    *("scale.n_layers=1,2,3", "scale.d_model=48,64,30", "model.d_model=32,null", "scale.hyper_parameters=own,odd"),
    *("scale.headdim=16,32,7", "scale.name=a,3", "model.ssm=mamba1,mamba2,mamba3", "data.cutoffs=[3,9],null,5"),
    *("model.layer=[mixer,ffn],[mixer]", "optimizer.betas=[0.9,0.95],[0.9]", "model.layer.0=ffn,mixer"),
    *("data.batch_size=${scale.length},8", "data.batch_size='${scale.n_layers}','${seed}'", "data.source.name=x,y"),
    *("scale={n_layers:3},{steps:4}", "budget.steps=5,null,???", "group=a,null,7", "runs=r,3", "scale.seeds=3,'3,4'"),
    *("+trainer.deterministic=true,false", "+colour=red,blue", "++seed=3,4", "+seed=5", "~logger.wandb", "~seed"),
    *("model.mixers=null,[]", "model.network.d_model=16,32", "measured.batch_size=3,4", "published.depth=shallow,deep"),
    *(
        "+logger.wandb.name=a,b",
        "logger.wandb.offline=true,false",
        "modle=mamba,x",
        "scale.stepz=1,2",
        "trainer.devices=2,x",
    ),
]


def told(make: Any) -> Any:
    """What is made, or the line that says why it cannot be."""
    try:
        return make()
    except SettingError as error:
        return str(error)


@cache
def alone(words: tuple[str, ...], root: str) -> Any:
    """What Hydra makes of these words, without anything that was made before."""

    def make() -> Any:
        with explained(root, words):
            return resolved(compose(root, overrides=list(words)), root, words)

    return told(make)


def assert_equal(grid: Grid, cells: Sequence[Cell], root: str = "train") -> None:
    for cell in cells:
        made, expected = told(lambda cell=cell: grid.composed(cell)), alone(cell.overrides, root)
        assert made == expected, cell
        assert repr(made) == repr(expected), cell  # where 1 is not True, and the order is the same


@pytest.mark.parametrize("scale", ["smoke", "paper"])
@pytest.mark.parametrize("sweep", ["table1", "table2"])
def test_a_cell_of_a_published_sweep_is_what_hydra_composes(sweep: str, scale: str) -> None:
    with grid_of([f"sweeps={sweep}", f"scale={scale}", "model=mamba,diff_mamba", "scale.seeds='0,1'"], "train") as grid:
        assert_equal(grid, grid.cells[1::7])


@given(st.lists(st.sampled_from(AXES), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
@few(3)
def test_a_cell_of_a_random_grid_is_what_hydra_composes(words: list[str], random: Any) -> None:
    root = random.choice(["train", "measure"])
    try:
        with grid_of(words, root) as grid:
            some = random.sample(grid.cells, min(3 * CELLS, len(grid.cells)))
            for cell in some:
                told(lambda cell=cell: grid.composed(cell))
            assert_equal(grid, some[:CELLS], root)
    except SettingError:  # the words have no grid
        return


@given(st.lists(st.sampled_from(AXES), max_size=6, unique=True), st.randoms(use_true_random=False))
@few(2)
def test_a_cell_of_a_random_union_is_what_hydra_composes(words: list[str], random: Any) -> None:
    """Cells of the same files, each with some of the words."""
    try:
        with grid_of([*words, "scale.steps=3,4", "scale.d_state=8,16", "seed=0,1"], "train") as grid:
            some = random.sample(grid.cells, min(2 * CELLS, len(grid.cells)))
            cells = [[word for word in cell.overrides if random.random() < 0.7] for cell in some]
            union = Grid("train", cells, {})
            for cell in union.cells:
                told(lambda cell=cell: union.composed(cell))
            assert_equal(union, union.cells[:CELLS])
    except SettingError:  # the words have no grid
        return


def test_a_cell_of_a_sweep_of_the_users_own_is_what_hydra_composes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With groups within groups, a package of another name, a part that is referred to as a whole, and a variable."""
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    monkeypatch.setenv("OF_THE_TEST", "7")
    for file, content in {
        "model/mine": "defaults: [mamba]\nname: mine\nexpand: ${.half}\nhalf: ${choose:scale.name,{smoke:1,own:2}}\n",
        "scale/own": "defaults: [smoke]\nname: own\nsteps: ${oc.decode:${oc.env:OF_THE_TEST}}\nseeds: 3,4\n",
        "sweeps/mine": (
            "# @package _global_\nsizes: {here: {n: '${scale.d_state}'}}\nhere: ${sizes.here}\n"
            "scale: {warmup_steps: '${here.n}'}\n"
            "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '${scale.seeds}', scale.d_state: '8,16'}}}\n"
        ),
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / f"{file}.yaml").write_text(content)
    words = ["sweeps=mine", "model=mine,mamba", "scale=own", "model/embedding=full", "data@measured=pysrc8"]
    with grid_of(
        [*words, "measure=perplexity", "weights=trained", "weights@weights.start=run", "weights.start.run=a,b"], "train"
    ) as grid:
        assert len(grid.cells) == 16
        assert_equal(grid, grid.cells[::3])
        made = [grid.composed(cell) for cell in grid.cells]
    assert {(one["optimizer"]["warmup_steps"], one["budget"]["steps"], one["seed"]) for one in made} == {
        (state, 7, seed) for state in (8, 16) for seed in (3, 4)
    }
