"""Mamba-1's scan, a chunk at a time, against the recurrence that defines it, written a second time from its formula."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import NAMES, Scan, assert_close, outputs_and_gradients, with_dt
from judge import selective_arguments as inputs
from judge import selective_recurrence as recurrence
from torch import Tensor

from diffmamba.ops import selective_scan, selective_scan_sequential, selective_scan_step

MODULE = import_module("diffmamba.ops.selective_scan")  # the package's attribute of this name is the function

BOTH = pytest.mark.parametrize("scan", [selective_scan, selective_scan_sequential])


@BOTH
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 77, 130])
def test_scan_is_the_recurrence(scan: Scan, length: int, groups: int) -> None:
    arguments = inputs(length, groups=groups)
    expected = outputs_and_gradients(recurrence, arguments)
    assert_close(outputs_and_gradients(scan, arguments), expected, 1e-10)


@BOTH
@pytest.mark.parametrize(
    ("batch", "channels", "d_state"), [(1, 6, 5), (1, 2, 1), (3, 2, 1), (1, 4, 16)], ids="batch {}".format
)
def test_single_rows_channels_and_states(scan: Scan, batch: int, channels: int, d_state: int) -> None:
    arguments = inputs(33, channels, 2, batch, d_state)
    assert_close(outputs_and_gradients(scan, arguments), outputs_and_gradients(recurrence, arguments), 1e-10)


@BOTH
def test_state_defaults_to_zeros(scan: Scan) -> None:
    arguments = inputs(45)[:-1]
    assert_close(outputs_and_gradients(scan, arguments), outputs_and_gradients(recurrence, arguments), 1e-10)


@pytest.mark.parametrize("chunk", [1, 2, 7, 76, 77, 128])
def test_chunk_size_does_not_matter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = inputs(77)
    expected = outputs_and_gradients(recurrence, arguments)
    monkeypatch.setattr(MODULE, "CHUNK", chunk)
    assert_close(outputs_and_gradients(selective_scan, arguments), expected, 1e-10)


def test_one_step_is_a_sequence_of_one() -> None:
    x, dt, A, B, C, D, h = inputs(1)
    y, after = selective_scan_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, h)
    expected_y, expected_h = recurrence(x, dt, A, B, C, D, h)
    torch.testing.assert_close(y, expected_y[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after, expected_h, rtol=1e-12, atol=1e-12)


def in_pieces(*arguments: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The scan of one piece after the other, each from the state the one before it ended with."""
    x, dt, A, B, C, D, h = arguments
    ys = []
    for piece in zip(*(tensor.split(sizes, dim=1) for tensor in (x, dt, B, C)), strict=True):
        y, h = selective_scan(piece[0], piece[1], A, piece[2], piece[3], D, h)
        ys.append(y)
    return torch.cat(ys, dim=1), h


@pytest.mark.parametrize("sizes", [[1, 76], [76, 1], [32, 32, 13], [33, 44], [5, 1, 1, 70]], ids=str)
def test_pieces_are_the_whole_and_gradients_pass_between_them(sizes: list[int]) -> None:
    arguments = inputs(77)
    found = outputs_and_gradients(lambda *leaves: in_pieces(*leaves, sizes=sizes), arguments)
    assert_close(found, outputs_and_gradients(recurrence, arguments), 1e-10)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 70),
    groups=st.integers(1, 3),
    channels_per_group=st.integers(1, 4),
    d_state=st.integers(1, 5),
    cut=st.floats(0, 1),
)
def test_any_shape_in_one_piece_or_two(
    batch: int, length: int, groups: int, channels_per_group: int, d_state: int, cut: float
) -> None:
    arguments = inputs(length, groups * channels_per_group, groups, batch, d_state)
    at = int(cut * length)
    sizes = [size for size in (at, length - at) if size]
    found = outputs_and_gradients(lambda *leaves: in_pieces(*leaves, sizes=sizes), arguments)
    assert_close(found, outputs_and_gradients(recurrence, arguments), 1e-10)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_finite_differences(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "CHUNK", 2)
    leaves = [t.requires_grad_() for t in inputs(5, channels=2, groups=groups, batch=1, d_state=2)]
    assert torch.autograd.gradcheck(selective_scan, leaves)


@pytest.mark.parametrize("wanted", [*NAMES, "x A", "B h"])
def test_each_gradient_alone_is_what_it_is_among_all(wanted: str) -> None:
    arguments = inputs(45)
    leaves = [t.requires_grad_(name in wanted.split()) for name, t in zip(NAMES, arguments, strict=True)]
    y, h = selective_scan(*leaves)
    expected_y, expected_h = recurrence(*leaves)
    chosen = [leaf for leaf in leaves if leaf.requires_grad]
    for total, judge in ((y, expected_y), (y[:, 3], expected_y[:, 3]), (h, expected_h)):
        if judge.requires_grad:  # the final state knows nothing of C and D
            found = torch.autograd.grad(total.square().sum(), chosen, retain_graph=True)
            expected = torch.autograd.grad(judge.square().sum(), chosen, retain_graph=True)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_refused_rather_than_wrong() -> None:
    leaves = [t.requires_grad_() for t in inputs(5)]
    y, h = selective_scan(*leaves)
    slopes = torch.autograd.grad(y.square().sum() + h.square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(sum(slope.square().sum() for slope in slopes), leaves[0])


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 69])
def test_later_positions_change_nothing_before_them(cut: int) -> None:
    """Exactly, and no gradient of an earlier output reaches them."""
    arguments = inputs(70)
    y, _ = selective_scan(*arguments)
    changed = [t.clone() for t in arguments]
    for index in (0, 1, 3, 4):
        changed[index][:, cut:] += 1
    found, _ = selective_scan(*changed)
    assert torch.equal(found[:, :cut], y[:, :cut])
    assert (found[:, cut:] != y[:, cut:]).all()
    sequences = [arguments[index].requires_grad_() for index in (0, 1, 3, 4)]
    for gradient in torch.autograd.grad(selective_scan(*arguments)[0][:, cut - 1].sum(), sequences):
        assert not gradient[:, cut:].any()
        assert gradient[:, :cut].any()


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    arguments = inputs(40, batch=3)
    y, h = selective_scan(*arguments)
    for row in range(3):
        alone = [t[row : row + 1] if t.dim() > 2 else t for t in arguments]  # all but A and D
        one_y, one_h = selective_scan(*alone)
        torch.testing.assert_close(one_y[0], y[row], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one_h[0], h[row], rtol=1e-12, atol=1e-12)


def test_memory_order_does_not_matter() -> None:
    """The channels of a model's x and B are slices of a wider tensor; others may come transposed or expanded."""
    arguments = inputs(40)
    expected = outputs_and_gradients(recurrence, arguments)

    def elsewhere(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, h = leaves
        both = torch.cat([x, dt], dim=-1)
        x, dt = both.split(x.shape[-1], dim=-1)
        B, C = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (B, C))
        return selective_scan(x, dt, A.mT.contiguous().mT, B, C, D, h.mT.contiguous().mT)

    assert_close(outputs_and_gradients(elsewhere, arguments), expected, 1e-10)
    leaves = [t.requires_grad_() for t in arguments]
    for scan in (selective_scan, recurrence):
        scan(*leaves)[0].sum().backward()  # the gradient of y has strides of 0
    doubled = [t.grad.clone() for t in leaves]
    for leaf in leaves:
        leaf.grad = None
    (2 * recurrence(*leaves)[0]).sum().backward()
    for found, leaf in zip(doubled, leaves, strict=True):
        torch.testing.assert_close(found, leaf.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [1, 32, 33])
def test_the_final_state_is_a_tensor_of_its_own(length: int) -> None:
    leaves = [t.requires_grad_() for t in inputs(length)]
    before = [t.detach().clone() for t in leaves]
    y, h = selective_scan(*leaves)
    assert h.untyped_storage().nbytes() == h.numel() * h.element_size()
    with torch.no_grad():
        h.zero_()  # as whoever decodes in place would
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, before, strict=True))
    found = torch.autograd.grad(y.sum(), leaves)
    expected = torch.autograd.grad(recurrence(*leaves)[0].sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_without_gradients_it_is_the_same() -> None:
    leaves = [t.requires_grad_() for t in inputs(77)]
    y, h = selective_scan(*leaves)
    with torch.no_grad():
        y_alone, h_alone = selective_scan(*leaves)
    with torch.inference_mode():
        y_inferred, h_inferred = selective_scan(*leaves)
    assert not y_alone.requires_grad
    for one in (y_alone, y_inferred):
        assert torch.equal(one, y)
    for one in (h_alone, h_inferred):
        assert torch.equal(one, h)


# --- types


@pytest.mark.parametrize("length", [3, 33, 130, 2100])
def test_float32_is_close_to_float64(length: int) -> None:
    arguments = [t.float() for t in inputs(length)]
    scan = recurrence if length < 1000 else selective_scan  # in float64, which the tests above judge
    expected = outputs_and_gradients(scan, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(selective_scan, arguments), expected, 2e-6)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mixed", [False, True], ids=["all narrow", "A, D and dt in float32"])
def test_narrow_types_are_computed_in_float32(narrow: torch.dtype, mixed: bool) -> None:
    wide = (1, 2, 5) if mixed else ()
    arguments = [t.float() if i in wide else t.to(narrow) for i, t in enumerate(inputs(130))]
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    found = outputs_and_gradients(selective_scan, arguments)
    assert found["y"].dtype == narrow
    assert found["final h"].dtype == torch.float32
    for name, argument in zip(NAMES, arguments, strict=True):
        assert found[f"gradient of {name}"].dtype == argument.dtype
    assert_close(found, expected, 1e-2)  # y and gradients are rounded once, to 8 or 11 bits
    assert_close({"final h": found["final h"]}, {"final h": expected["final h"]}, 1e-5)


def test_autocast_changes_nothing() -> None:
    arguments = [t.float() for t in inputs(45)]
    expected = outputs_and_gradients(selective_scan, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_and_gradients(selective_scan, arguments)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# --- extremes


@pytest.mark.parametrize("values", [(1e-7,), (1e3,), (1e-7, 1e3), (1e-7, 1e-2, 1e3)], ids=str)
def test_extreme_dt_in_float32_is_close_to_float64(values: tuple[float, ...]) -> None:
    arguments = with_dt(inputs(130, channels=8, d_state=8), *values)
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(selective_scan, arguments), expected, 1e-5)


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        # exp(dt · A) lies so near to 1 that rounding it is off by up to 2^-25, and each step multiplies by it again
        ((1e-7,), 20_000 * 2**-25),
        ((1e-3, 1e-1, 1e3), 1e-5),
    ],
    ids=str,
)
def test_20000_steps_in_float32_are_close_to_float64(values: tuple[float, ...], tolerance: float) -> None:
    arguments = with_dt(inputs(20_000, channels=2, groups=1, batch=1, d_state=2), *values)
    found = outputs_and_gradients(selective_scan, arguments)
    in_float64 = [t.double() for t in arguments]
    with torch.no_grad():
        expected_y, expected_h = selective_scan_sequential(*in_float64)
    assert_close(found, {"y": expected_y, "final h": expected_h}, tolerance)
    assert_close(found, outputs_and_gradients(selective_scan, in_float64), tolerance)  # which the tests above judge


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("values", [(1e-7, 1e-2), (1e3,)], ids=str)
def test_huge_and_tiny_states(size: float, values: tuple[float, ...]) -> None:
    """A state of 1e30 is read as it is while it lasts, and forgotten where dt is large."""
    arguments = with_dt(inputs(70), *values)
    arguments[6] = arguments[6] * size
    expected = outputs_and_gradients(recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(selective_scan, arguments), expected, 1e-5)


def test_zeros_give_zeros() -> None:
    found = outputs_and_gradients(selective_scan, [torch.zeros_like(t, dtype=torch.float32) for t in inputs(70)])
    for name, value in found.items():
        assert value.isfinite().all(), name
    assert not found["y"].any()
    assert not found["final h"].any()


def test_arguments_stay_as_they_are() -> None:
    arguments = inputs(40)
    kept = [t.clone() for t in arguments]
    outputs_and_gradients(selective_scan, arguments)
    leaves = [t.requires_grad_() for t in arguments]
    selective_scan(*leaves)[0].sum().backward()
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, kept, strict=True))
