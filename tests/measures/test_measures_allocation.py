"""How the weights of a row are shared out: figures of rows made by hand."""

import math

import pytest
import torch

from diffmamba.measures.allocation import Asked, by_distance, normalised, readings, uniform

EIGHT = 8


def at(position: int, length: int = EIGHT) -> torch.Tensor:
    return torch.eye(length, dtype=torch.float64)[position][None, None, None]


def test_a_single_weight_has_no_entropy_and_its_own_distance():
    asked = Asked(torch.tensor([6]), torch.ones(1, 1, dtype=torch.bool))
    found = readings(at(2), asked)
    assert {name: value.item() for name, value in found.items()} == {"entropy": 0.0, "first": 0.0, "distance": 4.0}
    assert readings(at(0), asked)["first"].item() == 1
    assert {start: mass.item() for start, mass in by_distance(at(2), asked).items()} == {0: 0.0, 1: 0.0, 2: 0.0}
    assert by_distance(at(3), asked)[2].item() == 1


def test_equal_weights_have_the_entropy_of_their_number():
    asked = Asked(torch.tensor([3, 7]), torch.ones(1, 2, dtype=torch.bool))
    found = readings(uniform(asked, EIGHT), asked)
    assert found["entropy"].flatten().tolist() == pytest.approx([2, 3])
    assert found["first"].flatten().tolist() == pytest.approx([1 / 4, 1 / 8])
    assert found["distance"].flatten().tolist() == pytest.approx([1.5, 3.5])


def test_signs_and_sizes_do_not_count():
    weights = torch.tensor([-3.0, 1.0, 0.0, -4.0])
    assert normalised(1e-30 * weights).tolist() == pytest.approx([3 / 8, 1 / 8, 0, 1 / 2])
    assert normalised(torch.zeros(3)).tolist() == [0, 0, 0]


def test_needle_and_distractors_are_where_the_gaps_say():
    """Two questions: at 9 for what stands at 2, at 7 for what stands at 5; the needles are [1, 3] and [4, 6]."""
    targets, gaps = torch.full((1, 10), -100), torch.zeros(1, 10, dtype=torch.int64)
    targets[0, [7, 9]], gaps[0, [7, 9]] = 5, torch.tensor([2, 7])
    asked = Asked.of_answers(targets, gaps, reach=1)
    assert asked.rows.tolist() == [7, 9]
    where = {name: [row.nonzero()[:, 0].tolist() for row in there[0]] for name, there in asked.marks.items()}
    assert where == {"needle": [[4, 5, 6], [1, 2, 3]], "distractors": [[1, 2, 3], [4, 5, 6]]}
    found = readings(uniform(asked, 10), asked)
    assert found["needle"].flatten().tolist() == pytest.approx([3 / 8, 3 / 10])
    assert found["needle_each"].flatten().tolist() == pytest.approx([1 / 8, 1 / 10])
    assert sum(found[name] for name in ("needle", "distractors", "rest")).flatten().tolist() == pytest.approx([1, 1])
    assert found["elsewhere"].flatten().tolist() == pytest.approx([5 / 8, 7 / 10])


def test_rows_that_are_not_asked_in_an_example_do_not_count():
    targets, gaps = torch.full((2, 6), -100), torch.zeros(2, 6, dtype=torch.int64)
    targets[0, 3], gaps[0, 3] = 1, 2
    targets[1, 5], gaps[1, 5] = 1, 2
    asked = Asked.of_answers(targets, gaps, reach=0)
    assert asked.rows.tolist() == [3, 5]
    assert asked.counted.tolist() == [[True, False], [False, True]]


def test_a_row_does_not_see_what_comes_after_it():
    targets, gaps = torch.full((1, 4), -100), torch.zeros(1, 4, dtype=torch.int64)
    targets[0, 3], gaps[0, 3] = 1, 1
    asked = Asked.of_answers(targets, gaps, reach=3)
    assert asked.marks["needle"][0, 0].tolist() == [False, True, True, True]
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
    shares = normalised(torch.rand(1, 1, 1, EIGHT))
    masses = by_distance(shares, asked)
    assert list(masses) == [0, 1, 2, 4]
    assert sum(mass.item() for mass in masses.values()) == pytest.approx(1)
    assert math.isclose(masses[4].item(), shares[..., :4].sum().item())
