"""The chunked scan against the recurrence it is a fast form of, written a second time from its formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import Scan, assert_close, outputs_and_gradients, with_dt
from judge import ssd_arguments as inputs
from judge import ssd_recurrence as recurrence
from torch import Tensor

from diffmamba.ops import ssd, ssd_sequential, ssd_step


@pytest.mark.parametrize("scan", [ssd, ssd_sequential])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 77, 130])
def test_scan_is_the_recurrence(scan: Scan, length: int, groups: int) -> None:
    arguments = inputs(length, groups=groups)
    expected = outputs_and_gradients(recurrence, arguments)
    assert_close(outputs_and_gradients(scan, arguments), expected, 1e-10)


@pytest.mark.parametrize("scan", [ssd, ssd_sequential])
def test_state_defaults_to_zeros(scan: Scan) -> None:
    arguments = inputs(45)[:-1]
    assert_close(outputs_and_gradients(scan, arguments), outputs_and_gradients(recurrence, arguments), 1e-10)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 64, 128])
def test_chunk_size_does_not_matter(chunk: int) -> None:
    arguments = inputs(77)
    found = outputs_and_gradients(lambda *leaves: ssd(*leaves, chunk=chunk), arguments)
    assert_close(found, outputs_and_gradients(recurrence, arguments), 1e-10)


def test_one_step_is_a_sequence_of_one() -> None:
    x, dt, A, B, C, D, h = inputs(1)
    y, after = ssd_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, h)
    expected_y, expected_h = recurrence(x, dt, A, B, C, D, h)
    torch.testing.assert_close(y, expected_y[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after, expected_h, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 70),
    groups=st.integers(1, 3),
    heads_per_group=st.integers(1, 3),
    headdim=st.integers(1, 5),
    d_state=st.integers(1, 5),
    chunk=st.integers(1, 80),
    cut=st.floats(0, 1),
)
def test_any_shape_in_one_piece_or_two(
    batch: int, length: int, groups: int, heads_per_group: int, headdim: int, d_state: int, chunk: int, cut: float
) -> None:
    arguments = inputs(length, groups * heads_per_group, groups, batch, headdim, d_state)
    x, dt, A, B, C, D, h = arguments
    expected_y, expected_h = recurrence(*arguments)
    pieces = []
    at = int(cut * length)
    for piece in (slice(0, at), slice(at, length)):
        if piece.stop > piece.start:
            y, h = ssd(x[:, piece], dt[:, piece], A, B[:, piece], C[:, piece], D, h, chunk=chunk)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected_y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(h, expected_h, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_finite_differences(groups: int) -> None:
    leaves = [t.requires_grad_() for t in inputs(5, heads=2, groups=groups, batch=1, headdim=2, d_state=2)]
    assert torch.autograd.gradcheck(lambda *arguments: ssd(*arguments, chunk=2), leaves)


def test_second_derivatives_are_right_or_refused() -> None:
    leaves = [t.requires_grad_() for t in inputs(5, heads=2, groups=1, batch=1, headdim=2, d_state=2)]

    def curvature(scan: Scan) -> Tensor:
        y, h = scan(*leaves)
        slopes = torch.autograd.grad(y.square().sum() + h.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), leaves[0])[0]

    expected = curvature(recurrence)
    try:
        found = curvature(lambda *arguments: ssd(*arguments, chunk=2))
    except RuntimeError:
        return
    torch.testing.assert_close(found, expected)


def test_float32_is_within_1e_4() -> None:
    arguments = [t.float() for t in inputs(130)]
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(ssd, arguments), expected, 1e-4)


@pytest.mark.parametrize("length", [3, 33, 130])
def test_gradients_in_float32_at_the_dt_a_model_starts_with(length: int) -> None:
    """With dt near 1e-3 the scan adds little to D x, and A's gradient must not drown in the rounding of the sum."""
    x, dt, A, B, C, D, h = inputs(length)
    arguments = [t.float() for t in (x, torch.full_like(dt, 1e-3), A, B, C, torch.ones_like(D), torch.zeros_like(h))]
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(ssd, arguments), expected, 1e-5)


def test_bfloat16_is_computed_in_float32() -> None:
    arguments = [t.bfloat16() for t in inputs(130)]
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    found = outputs_and_gradients(ssd, arguments)
    assert found["y"].dtype == torch.bfloat16
    assert found["final h"].dtype == torch.float32
    assert_close(found, expected, 1e-2)  # y and the gradients are rounded once, to 8 bits
    assert_close({"final h": found["final h"]}, {"final h": expected["final h"]}, 1e-5)


def test_autocast_changes_nothing() -> None:
    arguments = [t.float() for t in inputs(45)]
    y, h = ssd(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        y_autocast, h_autocast = ssd(*arguments)
    assert torch.equal(y, y_autocast)
    assert torch.equal(h, h_autocast)


@pytest.mark.parametrize("values", [(1e-7,), (50.0,), (1e3,), (1e-7, 50.0), (1e-7, 1e-2, 1e3)], ids=str)
def test_extreme_dt_in_float32_is_close_to_float64(values: tuple[float, ...]) -> None:
    arguments = with_dt(inputs(130, headdim=8, d_state=8), *values)
    y, h = ssd(*arguments)
    expected_y, expected_h = recurrence(*(t.double() for t in arguments))
    assert_close({"y": y, "final h": h}, {"y": expected_y, "final h": expected_h}, 1e-4)


def test_gradients_at_tiny_dt_in_float32_are_close_to_float64() -> None:
    arguments = with_dt(inputs(130, headdim=8, d_state=8), 1e-7)
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(ssd, arguments), expected, 1e-4)


@pytest.mark.parametrize("values", [(50.0,), (1e3,), (1e-7, 50.0), (1e-7, 1e-2, 50.0), (1e-7, 1e-2, 1e3)], ids=str)
def test_gradients_at_huge_dt_in_float32_are_finite_and_close_to_float64(values: tuple[float, ...]) -> None:
    """Where the state is erased at once, A's gradient is next to nothing: the rest of large terms that cancel."""
    arguments = with_dt(inputs(130, headdim=8, d_state=8), *values)
    found = outputs_and_gradients(ssd, arguments)
    assert all(gradient.isfinite().all() for gradient in found.values())
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    x, dt = arguments[:2]
    cancelling = (dt * (x * expected["gradient of x"]).sum(-1)).abs().sum((0, 1))
    assert ((found["gradient of A"] - expected.pop("gradient of A")).abs() <= 1e-4 * cancelling).all()
    torch.testing.assert_close(found["gradient of h"], expected.pop("gradient of h").float())
    assert_close(found, expected, 1e-3)


@pytest.mark.parametrize("values", [(1e-7,), (1e-3, 1e-1)], ids=str)
def test_20000_steps_in_float32_are_close_to_float64(values: tuple[float, ...]) -> None:
    arguments = with_dt(inputs(20_000, heads=2, groups=1, batch=1, headdim=2, d_state=2), *values)
    found = outputs_and_gradients(ssd, arguments)
    in_float64 = [t.double() for t in arguments]
    expected_y, expected_h = recurrence(*in_float64)
    assert_close(found, {"y": expected_y, "final h": expected_h}, 1e-4)
    assert_close(found, outputs_and_gradients(ssd, in_float64), 1e-4)  # whose gradients the tests above judge


def test_zeros_give_zeros() -> None:
    found = outputs_and_gradients(ssd, [torch.zeros_like(t, dtype=torch.float32) for t in inputs(70)])
    for name, value in found.items():
        assert value.isfinite().all(), name
    assert not found["y"].any()
    assert not found["final h"].any()


def test_arguments_stay_as_they_are() -> None:
    arguments = inputs(32)
    kept = [t.clone() for t in arguments]
    outputs_and_gradients(ssd, arguments)
    leaves = [t.requires_grad_() for t in arguments]
    ssd(*leaves)[0].sum().backward()
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, kept, strict=True))


@pytest.mark.parametrize("log_decay", [-1.6, -8.0, -16.0, -24.0])
def test_gradient_of_strong_decays_is_not_rounding(log_decay: float) -> None:
    """All that a decay weighs on is as small as it is: far below the last digit of y and x themselves."""
    generator = torch.Generator().manual_seed(0)
    x, B, C = (torch.randn(shape, generator=generator) for shape in [(1, 150, 2, 8), (1, 150, 1, 6), (1, 150, 1, 6)])
    dt = 0.5 + 0.1 * torch.rand(1, 150, 2, generator=generator)
    arguments = [x, dt, torch.full((2,), 2 * log_decay), B, C, torch.ones(2)]
    towards = torch.randn(x.shape, generator=generator)

    def of_decays(scan: Scan, dtype: torch.dtype) -> Tensor:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in arguments]
        return torch.autograd.grad((scan(*leaves)[0] * towards.to(dtype)).sum(), leaves[2])[0]

    judge = of_decays(ssd_sequential, torch.float64)
    assert (of_decays(ssd, torch.float32) - judge).abs().max() <= 1e-3 * judge.abs().max()
