"""Examples of synthetic tasks as Lightning gets them: splits, order, ranks, parts, resuming, and what is refused."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.data import Compression, InContextRecall, Memorization, Rule, SelectiveCopying
from diffmamba.data.examples import SyntheticData
from diffmamba.data.streams import IGNORED
from diffmamba.data.synthetic import SPLITS, Examples
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of

SIZES = {"examples": 22, "evaluated": 7, "batch_size": 8, "eval_batch_size": 3, "seed": 0}


class Numbered(Rule):
    """Each example consists of its number in the split."""

    vocabulary, length, answers, repeats = 1000, 4, 1000, True

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        numbers = np.repeat(np.arange(count)[:, None], self.length, axis=1)
        return Examples(numbers, numbers + 100, numbers + 200)

    def check(self) -> None: ...


def data_of(rule: Rule | None = None, rank: int = 0, world_size: int = 1, **changes: Any) -> SyntheticData:
    data = SyntheticData(rule=rule or Numbered(), **(SIZES | changes))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return data


def numbers(loader: Any) -> list[list[int]]:
    """The numbers of the examples of each batch."""
    return [batch[0][:, 0].tolist() for batch in loader]


def test_an_epoch_reads_each_example_once_and_the_next_one_in_another_order() -> None:
    data = data_of()
    loader = data.train_dataloader()
    epochs = [numbers(loader) for _ in range(3)]
    assert len(loader) == data.steps_per_epoch == 3
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [8, 8, 6]
        assert sorted(chain(*epoch)) == list(range(22))
    assert len({str(epoch) for epoch in epochs}) == 3
    assert numbers(data_of(seed=1).train_dataloader()) != epochs[0]
    for inputs, targets in data_of().train_dataloader():
        assert (targets == inputs + 100).all()
        assert inputs.dtype == targets.dtype == torch.int64


@pytest.mark.parametrize(("world_size", "parts"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_ranks_and_parts_share_the_same_steps(world_size: int, parts: int) -> None:
    sizes = {"examples": 20, "batch_size": 8}
    whole = data_of(**sizes).train_dataloader()
    ranks = [data_of(None, rank, world_size, parts=parts, **sizes).train_dataloader() for rank in range(world_size)]
    for _ in range(2):
        steps = numbers(whole)
        batches = [numbers(rank) for rank in ranks]
        assert [len(own) for own in batches] == [len(loader) for loader in ranks] == [3 * parts] * world_size
        for number, step in enumerate(steps):
            shares = [part for own in batches for part in own[number * parts : (number + 1) * parts]]
            assert [*chain(*shares)] == step
            assert len({len(share) for share in shares}) == 1


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_a_resumed_training_gets_the_very_next_batch(step: int, parts: int) -> None:
    """At the state that it has when the last part of a step has been handed out."""
    for rank in range(2):
        first = data_of(None, rank, 2, parts=parts, examples=20)
        loader = first.train_dataloader()
        batches = loader.__iter__()
        for number in range(step * parts):
            if number == 3 * parts:
                batches = loader.__iter__()
            next(batches)
            whole = (number + 1) // parts
            assert first.state_dict() == {"epoch": whole // 3, "position": whole % 3}
        state = first.state_dict()
        resumed = data_of(None, rank, 2, parts=parts, examples=20)
        resumed.load_state_dict(state)
        left = numbers(batches) if step % 3 else numbers(loader)
        again = resumed.train_dataloader()
        assert numbers(again) == left
        assert numbers(again) == numbers(loader)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("evaluated", "size"), [(3, 3), (7, 3), (8, 3), (8, 1), (7, 100)])
def test_evaluations_read_each_example_once_in_as_many_batches_on_every_rank(
    world_size: int, evaluated: int, size: int
) -> None:
    for split in range(2):
        changes = {"evaluated": evaluated, "eval_batch_size": size}
        loaders = [data_of(None, rank, world_size, **changes).val_dataloader()[split] for rank in range(world_size)]
        ranks = [list(loader) for loader in loaders]
        assert {len(batches) for batches in ranks} == {len(loader) for loader in loaders}
        assert len({len(batches) for batches in ranks}) == 1
        counted = []
        for inputs, targets, gaps in chain(*ranks):
            assert 1 <= len(inputs) <= size
            assert (gaps == inputs + 200).all()
            counts = targets[:, 0] != IGNORED
            assert (targets[counts] == inputs[counts] + 100).all()
            assert (targets[~counts] == IGNORED).all()
            counted += inputs[counts, 0].tolist()
        assert counted == list(range(evaluated))


def rows(examples: Examples) -> list[tuple[int, ...]]:
    return [tuple(row) for row in examples.inputs.tolist()]


@pytest.mark.parametrize(
    ("rule", "examples", "evaluated"),
    [
        (Compression(4, 7), 200, 150),  # 729 different ones
        (Compression(3, 9), 64, 60),  # 256
        (InContextRecall(4, 6), 8, 4),  # 20, and unequally likely
        (SelectiveCopying(5, 9, 2), 12, 10),  # 45
        (Compression(16, 32), 300, 50),
    ],
)
def test_no_example_stands_in_two_splits(rule: Rule, examples: int, evaluated: int) -> None:
    data = data_of(rule, examples=examples, evaluated=evaluated)
    splits = {split: rows(data.splits[split]) for split in SPLITS}
    assert [len(splits[split]) for split in SPLITS] == [examples, evaluated, evaluated]
    assert len({*splits["val"], *splits["test"]}) == 2 * evaluated  # none of them twice
    assert not {*splits["train"]} & {*splits["val"], *splits["test"]}
    again = data_of(rule, examples=examples, evaluated=evaluated)
    assert all(rows(again.splits[split]) == splits[split] for split in SPLITS)


def test_the_first_of_the_examples_that_are_made_are_kept_where_they_are_new() -> None:
    rule = Compression(16, 32)
    for examples in (22, 44):  # more to train on leaves the test as it is
        data = data_of(rule, examples=examples)
        for split in ("val", "test"):
            assert rows(data.splits[split]) == rows(rule.examples(split, 7, 0))


def test_examples_repeat_only_where_the_rule_lets_them() -> None:
    """A dictionary is asked for in the test as in training."""
    data = data_of(Memorization(5, 4), examples=40, evaluated=30)  # 4 different inputs
    assert {*rows(data.splits["test"])} <= {*rows(data.splits["train"])}


@pytest.mark.parametrize("rule", [Compression(3, 5), SelectiveCopying(4, 256, 1), InContextRecall(4, 4)])
def test_too_few_different_examples_are_refused_before_anything_is_trained(rule: Rule) -> None:
    data = data_of(rule, examples=100, evaluated=50)
    said = rf"data.vocabulary={rule.vocabulary}, data.length={rule.length}.* too few different examples for val .*"
    with pytest.raises(SettingError, match=said):
        data.check(1)
    with pytest.raises(SettingError, match=said):
        data.train_dataloader()


def test_what_is_known_of_them_takes_no_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compression, "examples", None)
    data = data_of(Compression(16, 32), examples=1000)
    assert data.facts == {
        "name": "compression",
        "fingerprint": None,
        "sizes": {"train": 32_000, "val": 224, "test": 224},
        "vocabulary": 16,
        "chance": 1 / 16,
        "ceiling": 1.0,
    }
    assert data.steps_per_epoch == SyntheticData.steps_in_epoch({}, examples=1000, batch_size=8) == 125
    assert data_of(InContextRecall(16, 32)).facts["sizes"] == {"train": 22 * 31, "val": 7 * 31, "test": 7 * 31}
    assert data.described() == (
        "compression (vocabulary 16, length 32): 1,000 examples of training, 7 of val and as many of test; "
        "chance 0.062, at most 1.000 can be expected"
    )


@pytest.mark.parametrize(
    ("changes", "world_size", "said"),
    [
        ({"examples": 7}, 1, "data.examples=7: fewer than one batch; use at least data.batch_size=8"),
        (
            {"examples": 16, "batch_size": 8},
            3,
            "data.batch_size=8: steps of 8 examples cannot be divided among 3 ranks",
        ),
        (
            {"examples": 22},
            4,
            "steps of 6 examples cannot be divided among 4 ranks with 1 accumulated parts each; use a",
        ),
        ({"examples": 20, "parts": 4}, 2, "use a multiple of 8 that divides data.examples=20"),
        ({"evaluated": 1}, 2, "data.evaluated=1: each of 2 ranks needs an example"),
    ],
)
def test_sizes_that_do_not_fit_are_named_with_their_bound(changes: dict[str, int], world_size: int, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        data_of(world_size=world_size, **changes).check(world_size)


def test_sizes_that_fit_are_taken() -> None:
    data_of(examples=8, evaluated=2).check(2)
    data_of(examples=20, parts=2).check(2)


@pytest.mark.parametrize("words", [["data=mad/noisy_in_context_recall", "data.noise=0"], ["data=mad/compression"]])
def test_a_record_has_one_name_of_its_task(words: list[str]) -> None:
    work = work_of(composed(["experiments=mad", *words]))
    assert work.facts["name"] == work.data_settings["name"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data=mad/noisy_in_context_recall data.noise=1", "data.noise=1"),
        ("data=pydoc8", "^data=pydoc8 is no data of examples, .* data=mad/NAME$"),
        ("data=mad/memorization data.examples=20", "data.examples=20: .* data.batch_size=32"),
    ],
)
def test_bad_factors_of_a_command_line_are_refused(words: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        work_of(composed(["experiments=mad", "trainer=cpu", *words.split()])).check()


@pytest.mark.parametrize("rule", [Memorization(2, 32), SelectiveCopying(2, 256, 16), InContextRecall(1, 128)])
def test_facts_of_a_rule_that_cannot_be_are_refused_in_one_line(rule: Rule) -> None:
    """A plan asks for them first, and there is no symbol to divide by."""
    data = SyntheticData(rule=rule, examples=8, evaluated=4, batch_size=4, eval_batch_size=4, seed=0)
    with pytest.raises(SettingError, match=r"^data\.vocabulary=\d: .* at least \d"):
        _ = data.facts
