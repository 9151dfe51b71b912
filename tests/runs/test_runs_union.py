"""A union of grids has the cells of each small grid in turn, and each is what Hydra composes of its words."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra

from diffmamba.configuration import composed
from diffmamba.dashboard.specification import specification
from diffmamba.errors import SettingError
from diffmamba.runs.described import describe
from diffmamba.runs.execution import work_of
from diffmamba.runs.grid import grid_of
from diffmamba.runs.plan import cells_of, check_grid, configurations, expand
from tests.runs.test_runs_grid import assert_equal

FACTORS = """
grid: factors
grids:
  factors:
    - {data: "pydoc8,pysrc8"}
    - {data: pydoc8, scale.d_state: "8,16"}
    - {data: pysrc8, scale.n_layers: 1}
  small:
    - {data: pydoc8, scale.d_state: 4}
"""
SEEDS = "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
OF_ONE_SEED = [
    "data=pydoc8",
    "data=pysrc8",
    "data=pydoc8 scale.d_state=8",
    "data=pydoc8 scale.d_state=16",
    "data=pysrc8 scale.n_layers=1",
]
Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the sweep `mine`."""
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path / "conf"))
    (tmp_path / "conf" / "sweeps").mkdir(parents=True)
    return lambda text: (tmp_path / "conf/sweeps/mine.yaml").write_text(f"# @package _global_\n{text}") and None


def cells(*words: str) -> list[str]:
    """The words that a cell has beside those for all cells."""
    with grid_of(["sweeps=mine", *words], "train") as grid:
        return [" ".join(word for word in cell.overrides if word != "sweeps=mine") for cell in grid.cells]


def test_cells_are_those_of_each_item_in_turn_and_what_hydra_composes(write: Write) -> None:
    write(FACTORS + SEEDS)
    found = cells()
    assert sorted(found) == sorted(f"seed={seed} {words}" for words in OF_ONE_SEED for seed in (0, 1))
    assert [words.partition(" ")[2] for words in found if words.startswith("seed=0")] == OF_ONE_SEED
    with grid_of(["sweeps=mine"], "train") as grid:
        grid.composed(grid.cells[0])
        assert_equal(grid, grid.cells[5:6])  # of the same files, and with one setting more


def test_a_sweep_needs_no_other_grid_than_those_of_its_items(write: Write) -> None:
    write(FACTORS)
    assert cells() == OF_ONE_SEED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["grid=small"], ["data=pydoc8 scale.d_state=4"]),
        (["grid=small,factors"], ["data=pydoc8 scale.d_state=4", *OF_ONE_SEED]),
        (["scale.d_state=8", "grid=small"], ["data=pydoc8 scale.d_state=8"]),
        (["data=pydoc8"], ["data=pydoc8", "data=pydoc8 scale.d_state=8", "data=pydoc8 scale.d_state=16"]),
        (["data=pysrc8,pydoc8"], ["data=pysrc8", "data=pydoc8", *OF_ONE_SEED[2:]]),
        (
            ["data=text8", "scale.n_layers=1"],
            [f"data=text8{more} scale.n_layers=1" for more in ("", " scale.d_state=8", " scale.d_state=16")],
        ),
        (["scale.d_state=8"], [OF_ONE_SEED[2], *(f"{OF_ONE_SEED[one]} scale.d_state=8" for one in (1, 4))]),
    ],
)
def test_a_word_takes_the_place_of_a_setting_and_equal_cells_are_one(
    write: Write, words: list[str], expected: list[str]
) -> None:
    """`data=pydoc8` leaves the items of this data; a data that no item has is in the place of all of theirs."""
    write(FACTORS)
    assert sorted(sorted(cell.split()) for cell in cells(*words)) == sorted(sorted(cell.split()) for cell in expected)


def test_values_are_texts_numbers_lists_or_nothing(write: Write) -> None:
    write(
        "grid: one\ngrids:\n  one:\n    - {model.layer: [mixer, ffn], scale.dropout: 1e-05, force: true, group: null}\n"
        "    - {scale.n_layers: '${scale.d_state}', seed: 'range(0,2)'}\n"
    )
    assert cells() == [
        "model.layer=['mixer','ffn'] scale.dropout=1e-05 force=True group=null",
        "scale.n_layers=16 seed=0",
        "scale.n_layers=16 seed=1",
    ]
    with grid_of(["sweeps=mine"], "train") as grid:
        made = grid.composed(grid.cells[0])
    assert (made["model"]["layer"], made["force"], made["group"]) == (["mixer", "ffn"], True, None)


def test_a_work_of_several_items_is_there_once_and_is_the_work_without_a_sweep(write: Write, tmp_path: Path) -> None:
    write("grid: a\ngrids: {a: [{model: 'mamba,diff_s6'}, {model: mamba, scale.d_state: '8,16'}]}")  # smoke has 16
    (tmp_path / "story.txt").write_text("the quick brown fox jumps over a lazy dog " * 20)
    words = ["data=text", f"data.path={tmp_path / 'story.txt'}", f"data.directory={tmp_path}", "scale.length=8"]
    plan = expand("mine", words)
    assert [item.words for item in plan] == ["model=mamba", "model=diff_s6", "model=mamba scale.d_state=8"]
    for item in plan:
        alone = work_of(composed([*words, *item.words.split()]))
        assert (item.id, item.config) == (alone.identity(), dict(alone.settings))
    assert len(cells_of(plan)) == len(plan)


def test_what_varies_is_known_before_the_cells_are(write: Write) -> None:
    write("report: {baseline: {model: mamba}}\n" + FACTORS + SEEDS)
    told = describe("mine", ["model=mamba,diff_mamba", "grid=small,factors"])
    assert told.varied == ("seed", "data", "scale.d_state", "scale.n_layers", "model")
    assert told.fixed == ()


def test_agents_of_wandb_are_told_the_works_of_all_items(write: Write) -> None:
    write(FACTORS)
    told = specification("mine", ["model=mamba", "scale.length=16", "logger=default"])
    assert told["parameters"]["cell"]["values"] == [cell for cell in OF_ONE_SEED if "d_state=16" not in cell]
    assert "sweeps=mine" in told["command"]


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (FACTORS, ["grid=smal"], "sweeps/mine.yaml: grid=smal is none of its grids, which are factors, small; did you"),
        (FACTORS, ["grid=small,x"], "sweeps/mine.yaml: grid=x is none of its grids, which are factors, small"),
        ("grids: {a: [{seed: 0}]}", [], "sweeps/mine.yaml: grid=null is none of its grids, which are a; give"),
        (FACTORS, ["grid=null"], "sweeps/mine.yaml: grid=null is none of its grids, which are factors, small; give"),
        ("grid: a", ["seed=0,1"], "sweeps/mine.yaml: grid=a chooses among grids, and there are none"),
        (SEEDS, ["grid=a"], "there is no setting grid; only a sweep has it whose file has `grids`"),
        ("grid: a\ngrids: [{seed: 0}]", [], "sweeps/mine.yaml: grids must be names, each with a list"),
        ("grid: a\ngrids: {a: {seed: 0}}", [], "sweeps/mine.yaml: grids.a must be a list of small grids such as - {"),
        ("grid: a\ngrids: {a: []}", [], "sweeps/mine.yaml: grids.a must be a list of small grids such as - {"),
        ("grid: a\ngrids: {a: [{seed: 0}, {}]}", [], "sweeps/mine.yaml: grids.a: item 2 must be settings with"),
        ("grid: a\ngrids: {a: [seed=0]}", [], "sweeps/mine.yaml: grids.a: item 1 must be settings with"),
        (
            "grid: a\ngrids: {a: [{scale: {steps: 2}}]}",
            [],
            "sweeps/mine.yaml: grids.a: item 1: scale must be a setting",
        ),
        (
            "grid: a\ngrids: {a: [{scale.stepz: '2,3'}]}",
            [],
            "sweeps/mine.yaml: grids.a: there is no setting scale.stepz",
        ),
        ("grid: a\ngrids: {a: [{seed: '${scale.seds}'}]}", [], "sweeps/mine.yaml: grids.a[0].seed: "),
        ("grid: a\ngrids: {a: [{seed: 'range(3,3)'}]}", [], "sweeps/mine.yaml: grids.a: item 1: seed has no values"),
        ("grid: '${scale.seds}'\ngrids: {a: [{seed: 1}]}", [], "sweeps/mine.yaml: grid: "),
        (
            "grid: a\ngrids: {a: [{seed: 2}]}\n" + SEEDS,
            [],
            "sweeps/mine.yaml: grids.a: item 1 and hydra.sweeper.params",
        ),
    ],
)
def test_what_is_wrong_with_a_union_is_one_line_with_its_file(
    write: Write, text: str, words: list[str], line: str
) -> None:
    write(text)
    with pytest.raises(SettingError) as refused:
        check_grid(["sweeps=mine", *words], "train")
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_search_has_no_grids(write: Write) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    write("defaults: [override /hydra/sweeper: optuna]\n" + FACTORS)
    for call in (lambda: describe("mine", []), lambda: expand("mine"), lambda: specification("mine", [])):
        with pytest.raises(SettingError, match=r"^sweeps/mine\.yaml: grids .* leave out one$"):
            call()


def test_the_files_of_cells_are_found_once_for_each_choice_of_files(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many items choose them: here there are six kinds of cells for two choices."""
    seen: list[str] = []

    def noted(owner: type, name: str) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: seen.append(name) or original(*given, **named))

    noted(Hydra, "compose_config")
    noted(ConfigLoaderImpl, "compute_defaults_list")
    items = [
        f"{{data: {data}, {factor}}}"
        for data in ("pydoc8", "pysrc8")
        for factor in ("scale.steps: '1,2'", "scale.n_layers: '1,2'", "scale.d_state: '1,2'")
    ]
    write(f"grid: a\ngrids: {{a: [{', '.join(items)}]}}")
    assert len(configurations("mine")) == 12
    assert seen.count("compose_config") == 3  # the sweep itself, and both
    assert seen.count("compute_defaults_list") == 2
