"""A plan of a sweep: what it costs, what a worker can read of it, and in which order its works come."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.parts import BuiltOnce
from diffmamba.runs.plan import CheckedOnce, check_grid, configurations, expand
from diffmamba.runs.work import Training

ONE = ("model.outer_norm=true", "model.lambda_form=scalar")
MAMBA = ("model=mamba", *ONE)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A tiny text of its own."""
    path = tmp_path / "story.txt"
    path.write_text("the quick brown fox jumps over a lazy dog " * 20)
    small = ("scale.length=16", "scale.batch_size=8", "data.stands_for=text8")
    return ["data=text", f"data.path={path}", f"data.directory={tmp_path / 'data'}", *small]


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Hydra composes."""
    seen: list[Any] = []
    compose_config = Hydra.compose_config

    def noted(self: Hydra, *given: Any, **named: Any) -> Any:
        seen.append(named["overrides"])
        return compose_config(self, *given, **named)

    monkeypatch.setattr(Hydra, "compose_config", noted)
    return seen


def test_a_cell_costs_less_than_six_milliseconds_and_hydra_composes_each_set_of_files_once(
    words: list[str], compositions: list[Any]
) -> None:
    grid = ["model=mamba,diff_mamba", "seed=range(0,50)", "scale.n_layers=1,2", "data.batch_size=4,8"]
    rates = "optimizer.learning_rate=1e-3,2e-3,4e-3"
    started = time.process_time()
    plan = expand("table2", [*words, *ONE, *grid, rates])
    once = CheckedOnce(here=False)
    for item in plan:
        once(item.work)
    assert len({item.id for item in plan}) == len(plan) == 1200
    assert len(compositions) == 3  # the sweep itself, and a set of files for each model
    assert time.process_time() - started < 0.006 * len(plan)


def test_what_is_wrong_in_many_cells_is_one_line_with_their_number(words: list[str], compositions: list[Any]) -> None:
    grid = [*words, *ONE, "model=mamba,diff_mamba", "seed=range(0,25)", "scale.n_layers=1,2"]
    for wrong, line in {
        "optimizer.learning_rate=fast,1e-3": r"learning_rate=fast must be .* \(in 100 of 200 cells, first model=mamba ",
        "scale.headdim=7": r"headdim",
        "scale.stepz=3": r"^there is no setting scale.stepz; did you mean scale.steps\?$",
        "+colour=red,blue": r"^\+colour=red: nothing uses colour.* \(in 100 of 200 cells, .*\n\+colour=blue: nothing",
    }.items():
        compositions.clear()
        with pytest.raises(SettingError, match=line):
            expand("table2", [*grid, wrong])
        assert len(compositions) < 12, wrong
    with pytest.raises(SettingError, match=r"learning_rate=fast must be [^(]*$"):
        check_grid([*grid, "optimizer.learning_rate=fast"], "train")


@pytest.mark.parametrize(
    "more",
    [
        ("table1", ()),
        ("table2", ()),
        ("table2", ("measure=perplexity", "weights=trained", "weights.checkpoint=last,best")),
        ("table2", ("measure=perplexity", "weights=fresh", "data@measured=pydoc8")),
    ],
)
def test_a_worker_reads_the_same_works_from_json_and_no_two_have_the_same_words(
    words: list[str], more: tuple[str, tuple[str, ...]]
) -> None:
    sweep, further = more
    plan = expand(sweep, [*words, "model=mamba,diff_mamba", "seed=0,1", *further])
    for item in plan:
        assert work_of(json.loads(json.dumps(item.config))).identity() == item.id
    named = {item.words: item.id for item in plan}
    assert len(named) == len(plan) > 2
    assert all(item.words for item in plan)


def test_works_come_after_all_that_they_need_at_any_depth(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a training needs another one of a later seed, which needs one too."""

    def needs(work: Training) -> tuple[Training, ...]:
        return () if work.seed >= 200 else (Training.of({**work.settings, "seed": work.seed + 100}),)

    monkeypatch.setattr(Training, "needs", property(needs))
    plan = expand("table2", [*words, "model=diff_mamba", *ONE, "seed=7,107"])
    assert [(item.config["seed"], item.asked) for item in plan] == [(207, False), (107, False), (7, True), (107, True)]
    ids = {item.config["seed"]: item.id for item in plan}
    assert [item.needs for item in plan] == [(), (ids[207],), (ids[107],), (ids[207],)]


def test_cells_share_what_is_equal_and_no_cell_changes_another(words: list[str]) -> None:
    one, two, three = configurations("table2", [*words, "model=diff_mamba", *ONE, "seed=0,1,2", "data.name=3"])
    assert one["model"] is two["model"] is three["model"]
    assert (one["seed"], two["seed"], three["seed"]) == (0, 1, 2)
    assert one["data"]["name"] == "3"  # text, though 3 is a number


@pytest.mark.parametrize("here", [True, False])
def test_works_that_are_checked_once_pass_or_fail_as_each_does_alone(words: list[str], here: bool) -> None:
    grid = ["scale.d_model=32,30", "scale.headdim=16", "scale.batch_size=8,4,9000", "trainer.devices=1,3", "seed=0,1"]
    measured = ["measure=perplexity", "measure.stride=16,64", "weights=trained"]
    once, build, lines = CheckedOnce(here), BuiltOnce(), set()
    for config in [cell for more in (grid, measured) for cell in configurations("table2", [*words, *MAMBA, *more])]:
        work = work_of(config, build)
        found = []
        for check in (once, lambda work: work.check(here)):
            try:
                check(work)
                found.append("")
            except SettingError as error:
                found.append(str(error))
        assert found[0] == found[1]
        lines.add(found[0])
    assert len(lines) == (6 if here else 4), lines  # devices are looked at here alone
