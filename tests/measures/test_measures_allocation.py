"""How the weights of a row are shared out: figures of rows made by hand."""

import math

import pytest
import torch

from diffmamba.measures.allocation import Asked, readings, shared_out, uniform
from diffmamba.measures.attention import Sums

EIGHT = 8


def at(position: int, length: int = EIGHT) -> torch.Tensor:
    return torch.eye(length, dtype=torch.float64)[position][None, None, None]


def numbered(like: torch.Tensor) -> torch.Tensor:
    """Symbols of which no two are alike."""
    return torch.arange(like.shape[1]).expand_as(like)


def figures(weights: torch.Tensor, asked: Asked) -> dict[str | int, list[float]]:
    return {name: value.flatten().tolist() for name, value in readings(weights, asked).items()}


def test_a_single_weight_has_no_entropy_and_its_own_distance():
    asked = Asked(torch.tensor([6]), torch.ones(1, 1, dtype=torch.bool))
    found = figures(at(2), asked)
    assert found == {"own": [0], "entropy": [0], "first": [0], "distance": [4], 1: [0], 2: [0], 4: [1]}
    assert figures(at(0), asked)["first"] == [1]
    assert figures(at(3), asked)[2] == [1]


def test_equal_weights_have_the_entropy_of_their_number():
    asked = Asked(torch.tensor([4, 7]), torch.ones(1, 2, dtype=torch.bool))
    found = figures(uniform(asked, EIGHT), asked)
    assert found["entropy"] == pytest.approx([2, math.log2(7)])
    assert found["first"] == pytest.approx([1 / 4, 1 / 7])
    assert found["distance"] == pytest.approx([2.5, 4])
    assert found["own"] == pytest.approx([1 / 5, 1 / 8])


def test_the_own_position_stands_by_itself_and_signs_do_not_count():
    weights, rows = torch.tensor([[-3.0, 1.0, -6.0, 0.0], [-3.0, 1.0, 4.0, 0.0]]), torch.tensor([2, 3])
    for size in (1, 1e-30):
        shares, own = shared_out(size * weights, rows)
        assert shares.tolist() == [pytest.approx([3 / 4, 1 / 4, 0, 0]), pytest.approx([3 / 8, 1 / 8, 1 / 2, 0])]
        assert own.tolist() == pytest.approx([0.6, 0])
    assert shared_out(torch.zeros(1, 4), torch.tensor([0]))[0].tolist() == [[0] * 4]


def test_needle_and_distractors_are_where_the_gaps_say():
    """Two questions: at 9 for what stands at 2, at 7 for what stands at 5; the needles are [1, 3] and [4, 6]."""
    targets, gaps = torch.full((1, 10), -100), torch.zeros(1, 10, dtype=torch.int64)
    targets[0, [7, 9]], gaps[0, [7, 9]] = 5, torch.tensor([2, 7])
    asked = Asked.of_answers(numbered(targets), targets, gaps, reach=1)
    assert asked.rows.tolist() == [7, 9]
    where = {name: [row.nonzero()[:, 0].tolist() for row in there[0]] for name, there in asked.marks.items()}
    assert where == {"needle": [[4, 5, 6], [1, 2, 3]], "distractors": [[1, 2, 3], [4, 5, 6]]}
    found = figures(uniform(asked, 10), asked)
    assert found["needle"] == pytest.approx([3 / 7, 3 / 9])
    assert found["needle_each"] == pytest.approx([1 / 7, 1 / 9])
    assert found["elsewhere"] == pytest.approx([4 / 7, 6 / 9])
    for parts in zip(*(found[name] for name in ("needle", "distractors", "rest")), strict=True):
        assert sum(parts) == pytest.approx(1)


def test_an_earlier_showing_of_the_same_pair_is_no_distractor():
    """The pairs 1 2 | 3 4 | 1 2 | 3 5 | 1 2: the last 1 asks for the 2 at 5, and at 1 is the same answer."""
    inputs = torch.tensor([[1, 2, 3, 4, 1, 2, 3, 5, 1]])
    targets, gaps = torch.full((1, 9), -100), torch.zeros(1, 9, dtype=torch.int64)
    targets[0, [4, 6, 8]], gaps[0, [4, 6, 8]] = torch.tensor([2, 4, 2]), torch.tensor([3, 3, 3])
    asked = Asked.of_answers(inputs, targets, gaps, reach=0)
    where = [row.nonzero()[:, 0].tolist() for row in asked.marks["distractors"][0]]
    assert where == [[2, 3], [0, 1, 4, 5], [2, 3]]


def test_rows_without_a_distractor_do_not_count_in_the_selectivity():
    """Of two rows that have all weight on the needle and a distractor in equal parts, one has no distractor."""
    marks = {name: torch.zeros(1, 2, EIGHT, dtype=torch.bool) for name in ("needle", "distractors")}
    marks["needle"][0, :, 2], marks["distractors"][0, 0, 4] = True, True
    asked = Asked(torch.tensor([6, 7]), torch.ones(1, 2, dtype=torch.bool), marks)
    sums = Sums()
    sums.add((1, "output"), at(2).expand(1, 1, 2, EIGHT) + at(4), asked)
    assert {row.measure: row.value for row in sums.figures()}["selectivity"] == pytest.approx(1)


def test_rows_that_are_not_asked_in_an_example_do_not_count():
    targets, gaps = torch.full((2, 6), -100), torch.zeros(2, 6, dtype=torch.int64)
    targets[0, 3], gaps[0, 3] = 1, 2
    targets[1, 5], gaps[1, 5] = 1, 2
    asked = Asked.of_answers(numbered(targets), targets, gaps, reach=0)
    assert asked.rows.tolist() == [3, 5]
    assert asked.counted.tolist() == [[True, False], [False, True]]


def test_a_row_does_not_see_what_comes_after_it():
    targets, gaps = torch.full((1, 4), -100), torch.zeros(1, 4, dtype=torch.int64)
    targets[0, 3], gaps[0, 3] = 1, 1
    asked = Asked.of_answers(numbered(targets), targets, gaps, reach=3)
    assert asked.marks["needle"][0, 0].tolist() == [False, True, True, False]
    assert asked.marks["distractors"].sum() == 0


@pytest.mark.parametrize(("length", "rows"), [(16, 8), (17, 3), (4, 1)])
def test_rows_of_a_text_lie_in_its_second_half(length, rows):
    found = Asked.of_text(2, length, rows).rows.tolist()
    assert found == sorted(set(found))
    assert found[-1] == length - 1
    assert len(found) == rows
    assert found[0] >= length // 2


def test_all_distances_of_a_row_add_up():
    asked = Asked(torch.tensor([EIGHT - 1]), torch.ones(1, 1, dtype=torch.bool))
    weights = torch.rand(1, 1, 1, EIGHT, generator=torch.Generator().manual_seed(0))
    found = figures(weights, asked)
    masses = {name: value for name, (value,) in found.items() if isinstance(name, int)}
    assert list(masses) == [1, 2, 4]
    assert sum(masses.values()) == pytest.approx(1)
    assert masses[4] == pytest.approx((weights[..., :4].sum() / weights[..., :-1].sum()).item())
