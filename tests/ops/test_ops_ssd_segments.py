"""The chunked form of the scan by itself: cut into segments, what it keeps, and its gradients at length."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from judge import NAMES, assert_close, outputs_and_gradients, with_dt
from judge import ssd_arguments as arguments
from judge import ssd_recurrence as recurrence
from torch import Tensor

from diffmamba.ops import ssd, ssd_chunked

BATCH, HEADS, HEADDIM, CHUNK = 2, 4, 3, 8
OF_A_CHUNK = BATCH * CHUNK * HEADS * HEADDIM  # numbers of x


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets segments hold so many chunks at most; less than one still makes one."""

    def arrange(chunks: float) -> None:
        monkeypatch.setitem(ssd_chunked.SEGMENT, "cpu", int(chunks * OF_A_CHUNK))

    return arrange


def in_chunks(*leaves: Tensor) -> tuple[Tensor, Tensor]:
    return ssd(*leaves, chunk=CHUNK)


@pytest.mark.parametrize(
    ("length", "per_segment", "expected"),
    [
        (
            64,
            0.1,
            [(0, 8, 1), (8, 16, 1), (16, 24, 1), (24, 32, 1), (32, 40, 1), (40, 48, 1), (48, 56, 1), (56, 64, 1)],
        ),
        (64, 3, [(0, 24, 3), (24, 48, 3), (48, 64, 2)]),
        (64, 100, [(0, 64, 8)]),
        (67, 4, [(0, 32, 4), (32, 64, 4), (64, 67, 1)]),
        (67, 100, [(0, 64, 8), (64, 67, 1)]),
        (8, 1, [(0, 8, 1)]),
        (3, 1, [(0, 3, 1)]),
        (1, 0.1, [(0, 1, 1)]),
    ],
)
def test_segments_are_whole_chunks_and_what_is_left_over(
    length: int, per_segment: float, expected: list[tuple[int, int, int]], segments: Callable[[float], None]
) -> None:
    segments(per_segment)
    plan = ssd_chunked._plan(torch.empty(BATCH, length, HEADS, HEADDIM), CHUNK)
    assert [(positions.start, positions.stop, count) for positions, count in plan] == expected


@pytest.mark.parametrize("per_segment", [0.1, 1, 2, 3, 100])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 61, 64])
def test_segments_do_not_matter(
    length: int, groups: int, per_segment: float, segments: Callable[[float], None]
) -> None:
    inputs = arguments(length, HEADS, groups, BATCH, HEADDIM)
    expected = outputs_and_gradients(recurrence, inputs)
    segments(per_segment)
    assert_close(outputs_and_gradients(in_chunks, inputs), expected, 1e-10)
    with torch.no_grad():  # where states of one segment take the place of those before
        y, h = in_chunks(*inputs)
    assert_close({"y": y, "final h": h}, {name: expected[name] for name in ("y", "final h")}, 1e-10)


@pytest.mark.parametrize("per_segment", [1, 2])
def test_gradients_over_segments_are_those_of_finite_differences(
    per_segment: float, segments: Callable[[float], None]
) -> None:
    segments(per_segment * 8 / OF_A_CHUNK)  # a chunk of 2 of these is 8 numbers of x
    leaves = [t.requires_grad_() for t in arguments(5, heads=2, groups=1, batch=1, headdim=2, d_state=2)]
    assert torch.autograd.gradcheck(lambda *inputs: ssd(*inputs, chunk=2), leaves)


@pytest.mark.parametrize("values", [None, (1e-3,), (1e-3, 1e-1)], ids=str)
def test_long_gradients_in_float32_are_close_to_float64(
    values: tuple[float, ...] | None, segments: Callable[[float], None]
) -> None:
    """As long as a window of training: A's gradient is a sum over all of it."""
    inputs = arguments(2100, headdim=8, d_state=8)
    inputs = with_dt(inputs, *values) if values else [t.float() for t in inputs]
    expected = outputs_and_gradients(ssd, [t.double() for t in inputs])  # which the tests above judge
    for per_segment in (1000, 100):  # all 65 chunks of 32 and headdim 8 at once, and 9 at a time
        segments(per_segment)
        found = outputs_and_gradients(ssd, inputs)
        assert_close(found, {"gradient of A": expected["gradient of A"]}, 1e-4)
        assert_close(found, {name: value for name, value in expected.items() if name != "gradient of A"}, 1e-5)


@pytest.mark.parametrize("wanted", [*NAMES, "x A", "B h"])
def test_each_gradient_alone_is_what_it_is_among_all(wanted: str, segments: Callable[[float], None]) -> None:
    segments(2)
    inputs = arguments(45, HEADS, 2, BATCH, HEADDIM)
    leaves = [t.requires_grad_(name in wanted.split()) for name, t in zip(NAMES, inputs, strict=True)]
    y, h = in_chunks(*leaves)
    expected_y, expected_h = recurrence(*leaves)
    chosen = [leaf for leaf in leaves if leaf.requires_grad]
    for total, judge in ((y, expected_y), (y[:, 3], expected_y[:, 3]), (h, expected_h)):
        if judge.requires_grad:  # the final state knows nothing of C and D
            found = torch.autograd.grad(total.square().sum(), chosen, retain_graph=True)
            expected = torch.autograd.grad(judge.square().sum(), chosen, retain_graph=True)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_nothing_is_kept_where_no_gradient_is_wanted(
    segments: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, outputs = ssd_chunked._chunked, []

    def watched(*inputs: Any) -> tuple[Tensor, ...]:
        outputs.append(original(*inputs))
        return outputs[-1]

    monkeypatch.setattr(ssd_chunked, "_chunked", watched)
    segments(2)
    leaves = [t.requires_grad_() for t in arguments(61, HEADS, 2, BATCH, HEADDIM)]
    kept = in_chunks(*leaves)
    with torch.no_grad():
        alone = in_chunks(*leaves)
    constants = in_chunks(*(leaf.detach() for leaf in leaves))
    with torch.inference_mode():
        inferred = in_chunks(*leaves)
    for y, h in (alone, constants, inferred):
        assert torch.equal(y, kept[0])
        assert torch.equal(h, kept[1])
        assert not y.requires_grad
        assert not h.requires_grad
    assert [states.numel() == 0 for _, _, states in outputs] == [False, True, True, True]
    assert outputs[0][2].shape[0] == 61 // CHUNK + 1 + 1  # the state before every chunk, and the last one


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("length", [1, 8, 9, 61])
def test_the_final_state_is_a_tensor_of_its_own(
    length: int, gradients: bool, segments: Callable[[float], None]
) -> None:
    segments(2)
    leaves = [t.requires_grad_(gradients) for t in arguments(length, HEADS, 2, BATCH, HEADDIM)]
    before = [t.detach().clone() for t in leaves]
    y, h = in_chunks(*leaves)
    assert h.untyped_storage().nbytes() == h.numel() * h.element_size()
    with torch.no_grad():
        h.zero_()  # as whoever decodes in place would
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, before, strict=True))
    torch.testing.assert_close(y, recurrence(*leaves)[0], rtol=1e-10, atol=1e-10)
    if gradients:
        found = torch.autograd.grad(y.sum(), leaves)
        for one, other in zip(found, torch.autograd.grad(recurrence(*leaves)[0].sum(), leaves), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_memory_order_does_not_matter(segments: Callable[[float], None]) -> None:
    """x, B and C of a model are slices of one tensor; others may come transposed or expanded."""
    segments(2)
    inputs = arguments(61, HEADS, 2, BATCH, HEADDIM)
    expected = outputs_and_gradients(recurrence, inputs)

    def elsewhere(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, h = leaves
        x, dt = torch.cat([x, dt[..., None]], dim=-1).split([HEADDIM, 1], dim=-1)
        B, C = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (B, C))
        return in_chunks(x, dt[..., 0], A, B, C, D, h.mT.contiguous().mT)

    assert_close(outputs_and_gradients(elsewhere, inputs), expected, 1e-10)


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 16, 60])
def test_later_positions_change_nothing_before_them(cut: int, segments: Callable[[float], None]) -> None:
    segments(2)
    inputs = arguments(61, HEADS, 2, BATCH, HEADDIM)
    y, _ = in_chunks(*inputs)
    changed = [t.clone() for t in inputs]
    for index in (0, 1, 3, 4):
        changed[index][:, cut:] += 1
    found, _ = in_chunks(*changed)
    torch.testing.assert_close(found[:, :cut], y[:, :cut], rtol=0, atol=1e-12)
    assert (found[:, cut:] != y[:, cut:]).all()
    sequences = [inputs[index].requires_grad_() for index in (0, 1, 3, 4)]
    for gradient in torch.autograd.grad(in_chunks(*inputs)[0][:, cut - 1].sum(), sequences):
        assert not gradient[:, cut:].any()
        assert gradient[:, :cut].any()


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("values", [(1e-7, 1e-2), (50.0,)], ids=str)
def test_huge_and_tiny_states(size: float, values: tuple[float, ...]) -> None:
    """A state of 1e30 is read as it is while it lasts, and forgotten where dt is large."""
    inputs = with_dt(arguments(70), *values)
    inputs[6] = inputs[6] * size
    y, h = ssd(*inputs)
    expected_y, expected_h = recurrence(*(t.double() for t in inputs))
    assert_close({"y": y, "final h": h}, {"y": expected_y, "final h": expected_h}, 1e-5)
