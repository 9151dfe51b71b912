"""What only the chunked form of `ssd` has: segments, what it keeps for the gradient, and strong decays."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from judge import Scan, assert_close, by_name, normal, ssd_arguments, ssd_recurrence, uniform, with_dt
from torch import Tensor

from diffmamba.ops import ssd, ssd_chunked, ssd_sequential

CHUNK = 8
NUMBERS = ssd_arguments(CHUNK)[0].numel()  # of x in one chunk
in_chunks = partial(ssd, chunk=CHUNK)


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the number of chunks that a segment holds at most; less than one still makes one."""

    def arrange(chunks: float) -> None:
        monkeypatch.setitem(ssd_chunked.SEGMENT, "cpu", int(chunks * NUMBERS))

    return arrange


@pytest.mark.parametrize(
    ("length", "per_segment", "expected"),
    [
        (24, 0.1, [(0, 8, 1), (8, 16, 1), (16, 24, 1)]),
        (64, 3, [(0, 24, 3), (24, 48, 3), (48, 64, 2)]),
        (64, 100, [(0, 64, 8)]),
        (67, 4, [(0, 32, 4), (32, 64, 4), (64, 67, 1)]),
        (8, 1, [(0, 8, 1)]),
        (3, 1, [(0, 3, 1)]),
    ],
)
def test_segments_are_whole_chunks_and_the_rest(
    length: int, per_segment: float, expected: list[tuple[int, int, int]], segments: Callable[[float], None]
) -> None:
    segments(per_segment)
    plan = ssd_chunked._plan(ssd_arguments(length)[0], CHUNK)
    assert [(positions.start, positions.stop, count) for positions, count in plan] == expected


@pytest.mark.parametrize(
    ("length", "groups", "per_segment"),
    [(1, 1, 1), (7, 2, 100), (8, 4, 1), (9, 1, 0.1), (16, 2, 1), (61, 4, 2), (61, 1, 3), (64, 2, 3), (64, 4, 100)],
)
def test_segments_do_not_matter(
    length: int, groups: int, per_segment: float, segments: Callable[[float], None]
) -> None:
    inputs = ssd_arguments(length, groups=groups)
    expected = by_name(ssd_recurrence, inputs)
    segments(per_segment)
    assert_close(by_name(in_chunks, inputs), expected, 1e-10)
    with torch.no_grad():  # the states of one segment then take the place of those before
        assert_close(in_chunks(*inputs), [expected["y"], expected["final h"]], 1e-10)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("values", [(1e-3,), (1e-3, 1e-1)], ids=str)
def test_gradients_in_float32_at_the_dt_a_model_starts_with(
    values: tuple[float, ...], segments: Callable[[float], None]
) -> None:
    """With dt near 1e-3 the scan adds little to D x, and rounding must not hide the gradient of A."""
    x, dt, A, B, C, D, h = with_dt(ssd_arguments(2100, d_state=8, headdim=8), *values)
    inputs = [x, dt, A, B, C, torch.ones_like(D), torch.zeros_like(h)]
    expected = by_name(ssd, [t.double() for t in inputs])  # which other tests judge
    for per_segment in (1000, 100):  # all 65 chunks of 32 positions at once, and 9 at a time
        segments(per_segment)
        found = by_name(ssd, inputs)
        assert_close(found, {"gradient of A": expected["gradient of A"]}, 1e-4)
        assert_close(found, {name: value for name, value in expected.items() if name != "gradient of A"}, 1e-5)


def test_nothing_is_kept_where_no_gradient_is_wanted(
    segments: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, kept = ssd_chunked._chunked, []

    def watched(*inputs: Any) -> tuple[Tensor, ...]:
        outputs = original(*inputs)
        kept.append(outputs[2].numel())
        return outputs

    monkeypatch.setattr(ssd_chunked, "_chunked", watched)
    segments(2)
    leaves = [t.requires_grad_() for t in ssd_arguments(61)]
    _, h = in_chunks(*leaves)
    with torch.no_grad():
        in_chunks(*leaves)
    in_chunks(*(leaf.detach() for leaf in leaves))
    assert kept == [(61 // CHUNK + 2) * h.numel(), 0, 0]  # the state before every chunk, and the last one


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("log_decay", [-1.6, -8.0, -16.0, -24.0])
def test_the_gradient_of_strong_decays_is_not_rounding(log_decay: float) -> None:
    """What a decay acts on is as small as the decay: far below the last digit of y and x themselves."""
    x, B, C = (normal(1, 150, *shape, seed=i) for i, shape in enumerate([(2, 8), (1, 6), (1, 6)]))
    arguments = [x, 0.5 + 0.1 * uniform(1, 150, 2, seed=3), torch.full((2,), 2 * log_decay), B, C, torch.ones(2)]
    towards = normal(*x.shape, seed=4)

    def of_decays(scan: Scan, dtype: torch.dtype) -> Tensor:
        leaves = [tensor.float().to(dtype).requires_grad_() for tensor in arguments]
        return torch.autograd.grad((scan(*leaves)[0] * towards.to(dtype)).sum(), leaves[2])[0]

    assert_close([of_decays(ssd, torch.float32)], [of_decays(ssd_sequential, torch.float64)], 1e-3)
