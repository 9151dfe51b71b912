"""Both scans, Mamba-2's `ssd` and Mamba-1's `selective_scan`, against the recurrences that define them.

What only the chunked form of `ssd` has is in `test_ops_ssd.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import (
    NAMES,
    Scan,
    assert_close,
    by_name,
    selective_arguments,
    selective_recurrence,
    ssd_arguments,
    ssd_recurrence,
    with_dt,
)
from torch import Tensor

from diffmamba.ops import (
    selective_scan,
    selective_scan_sequential,
    selective_scan_step,
    ssd,
    ssd_chunked,
    ssd_sequential,
    ssd_step,
)

SELECTIVE_MODULE = import_module("diffmamba.ops.selective_scan")  # the package's attribute of this name is the function


@dataclass(frozen=True)
class Case:
    """One of the two scans. `arguments(length, heads or channels, groups, batch, d_state)` draws its arguments."""

    scan: Scan
    sequential: Scan
    step: Scan
    recurrence: Scan
    arguments: Callable[..., list[Tensor]]


SSD = Case(ssd, ssd_sequential, ssd_step, ssd_recurrence, ssd_arguments)
SELECTIVE = Case(
    selective_scan, selective_scan_sequential, selective_scan_step, selective_recurrence, selective_arguments
)
EVERY_SCAN = pytest.mark.parametrize("case", [SSD, SELECTIVE], ids=["ssd", "selective_scan"])
Small = Callable[[Case], Scan]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """A scan with chunks of 8 positions, and two chunks in a segment of `ssd`, so that short inputs have many."""
    monkeypatch.setitem(ssd_chunked.SEGMENT, "cpu", 2 * ssd_arguments(8)[0].numel())
    monkeypatch.setattr(SELECTIVE_MODULE, "CHUNK", 8)
    return lambda case: partial(ssd, chunk=8) if case is SSD else selective_scan


@EVERY_SCAN
@pytest.mark.parametrize("form", ["scan", "sequential"])
@pytest.mark.parametrize(("length", "groups"), [(1, 2), (2, 1), (31, 4), (32, 2), (33, 1), (77, 2), (130, 4)])
def test_the_scan_is_the_recurrence(case: Case, form: str, length: int, groups: int) -> None:
    arguments = case.arguments(length, groups=groups)
    assert_close(by_name(getattr(case, form), arguments), by_name(case.recurrence, arguments), 1e-10)


@EVERY_SCAN
@pytest.mark.parametrize("form", ["scan", "sequential"])
def test_the_state_is_zero_by_default(case: Case, form: str) -> None:
    arguments = case.arguments(45)[:-1]
    assert_close(by_name(getattr(case, form), arguments), by_name(case.recurrence, arguments), 1e-10)


@EVERY_SCAN
@pytest.mark.parametrize("chunk", [1, 7, 76, 77, 128])
def test_the_chunk_does_not_matter(case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SELECTIVE_MODULE, "CHUNK", chunk)
    scan = partial(ssd, chunk=chunk) if case is SSD else selective_scan
    arguments = case.arguments(77)
    assert_close(by_name(scan, arguments), by_name(case.recurrence, arguments), 1e-10)


@EVERY_SCAN
def test_one_step_is_a_sequence_of_one(case: Case) -> None:
    x, dt, A, B, C, D, h = case.arguments(1)
    y, after = case.step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, h)
    expected_y, expected_h = case.recurrence(x, dt, A, B, C, D, h)
    assert_close([y, after], [expected_y[:, 0], expected_h], 1e-12)


def in_pieces(scan: Scan, sizes: list[int], *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """The scan of one piece after the other, each from the final state of the piece before."""
    x, dt, A, B, C, D, h = arguments
    ys = []
    for piece in zip(*(tensor.split(sizes, dim=1) for tensor in (x, dt, B, C)), strict=True):
        y, h = scan(piece[0], piece[1], A, piece[2], piece[3], D, h)
        ys.append(y)
    return torch.cat(ys, dim=1), h


@EVERY_SCAN
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 60),
    groups=st.integers(1, 3),
    per_group=st.integers(1, 3),
    d_state=st.integers(1, 5),
    cut=st.floats(0, 1),
)
def test_any_shape_in_one_piece_or_two(
    case: Case, batch: int, length: int, groups: int, per_group: int, d_state: int, cut: float
) -> None:
    """Gradients pass from one piece to the other through the state."""
    arguments = case.arguments(length, groups * per_group, groups, batch, d_state)
    at = int(cut * length)
    pieces = partial(in_pieces, case.scan, [size for size in (at, length - at) if size])
    assert_close(by_name(pieces, arguments), by_name(case.recurrence, arguments), 1e-10)


@EVERY_SCAN
@pytest.mark.parametrize("sizes", [[1, 76], [33, 44], [5, 1, 1, 70]], ids=str)
def test_pieces_are_the_whole(case: Case, sizes: list[int], small: Small) -> None:
    arguments = case.arguments(77)
    pieces = partial(in_pieces, small(case), sizes)
    assert_close(by_name(pieces, arguments), by_name(case.recurrence, arguments), 1e-10)


@EVERY_SCAN
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_finite_differences(case: Case, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of 2 positions, and each a segment of its own."""
    monkeypatch.setattr(SELECTIVE_MODULE, "CHUNK", 2)
    monkeypatch.setitem(ssd_chunked.SEGMENT, "cpu", 1)
    scan = partial(ssd, chunk=2) if case is SSD else selective_scan
    leaves = [t.requires_grad_() for t in case.arguments(5, 2, groups, 1, 2)]
    assert torch.autograd.gradcheck(scan, leaves)


@EVERY_SCAN
@pytest.mark.parametrize("wanted", [*NAMES, "x A", "B h"])
def test_each_gradient_alone_is_what_it_is_among_all(case: Case, wanted: str, small: Small) -> None:
    arguments = case.arguments(21)
    leaves = [t.requires_grad_(name in wanted.split()) for name, t in zip(NAMES, arguments, strict=True)]
    (y, h), (expected_y, expected_h) = small(case)(*leaves), case.recurrence(*leaves)
    chosen = [leaf for leaf in leaves if leaf.requires_grad]
    for total, judge in ((y, expected_y), (y[:, 3], expected_y[:, 3]), (h, expected_h)):
        if judge.requires_grad:  # the final state does not depend on C and D
            found, expected = (torch.autograd.grad(z.square().sum(), chosen, retain_graph=True) for z in (total, judge))
            assert_close(found, expected, 1e-9)


@EVERY_SCAN
def test_second_derivatives_are_refused(case: Case) -> None:
    leaves = [t.requires_grad_() for t in case.arguments(5)]
    y, h = case.scan(*leaves)
    slopes = torch.autograd.grad(y.square().sum() + h.square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(sum(slope.square().sum() for slope in slopes), leaves[0])


@EVERY_SCAN
@pytest.mark.parametrize("cut", [1, 7, 8, 9, 16, 36])
def test_later_positions_change_nothing_before_them(case: Case, cut: int, small: Small) -> None:
    """Neither outputs nor gradients."""
    scan, arguments = small(case), case.arguments(37)
    y, _ = scan(*arguments)
    changed = [t.clone() for t in arguments]
    for index in (0, 1, 3, 4):
        changed[index][:, cut:] += 1
    found, _ = scan(*changed)
    torch.testing.assert_close(found[:, :cut], y[:, :cut], rtol=0, atol=1e-12)
    assert (found[:, cut:] != y[:, cut:]).all()
    sequences = [arguments[index].requires_grad_() for index in (0, 1, 3, 4)]
    for gradient in torch.autograd.grad(scan(*arguments)[0][:, cut - 1].sum(), sequences):
        assert not gradient[:, cut:].any()
        assert gradient[:, :cut].any()


@EVERY_SCAN
def test_rows_of_a_batch_do_not_touch_each_other(case: Case) -> None:
    arguments = case.arguments(40, batch=3)
    together = case.scan(*arguments)
    for row in range(3):
        alone = case.scan(*(t[row : row + 1] if t.dim() > 2 else t for t in arguments))  # A and D have no batch
        assert_close(alone, [t[row : row + 1] for t in together], 1e-12)


@EVERY_SCAN
def test_memory_order_does_not_matter(case: Case, small: Small) -> None:
    """x and B of a model are slices of a wider tensor; others may come transposed."""
    arguments = case.arguments(37)

    def elsewhere(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, h = leaves
        x, dt = (torch.cat([t, t], dim=-1)[..., : t.shape[-1]] for t in (x, dt))
        B, C = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (B, C))
        return small(case)(x, dt, A.t().contiguous().t(), B, C, D, h.mT.contiguous().mT)

    assert_close(by_name(elsewhere, arguments), by_name(case.recurrence, arguments), 1e-10)
    leaves = [t.requires_grad_() for t in arguments]
    found, expected = (  # the gradient of y has strides of 0
        torch.autograd.grad(scan(*leaves)[0].sum(), leaves[:-1]) for scan in (small(case), case.recurrence)
    )
    assert_close(found, expected, 1e-10)


@EVERY_SCAN
@pytest.mark.parametrize("length", [1, 8, 21])
def test_arguments_stay_as_they_are_and_the_final_state_has_its_own_memory(
    case: Case, length: int, small: Small
) -> None:
    leaves = [t.requires_grad_() for t in case.arguments(length)]
    before = [t.detach().clone() for t in leaves]
    y, h = small(case)(*leaves)
    assert h.untyped_storage().nbytes() == h.numel() * h.element_size()
    with torch.no_grad():
        h.zero_()  # as a decoder that works in place does
    expected = case.recurrence(*leaves)[0]
    assert_close([y], [expected], 1e-10)
    assert_close(torch.autograd.grad(y.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), 1e-9)
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, before, strict=True))


@EVERY_SCAN
def test_without_gradients_it_is_the_same(case: Case, small: Small) -> None:
    leaves = [t.requires_grad_() for t in case.arguments(45)]
    y, h = small(case)(*leaves)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            alone = small(case)(*leaves)
        assert torch.equal(alone[0], y)
        assert torch.equal(alone[1], h)
        assert not alone[0].requires_grad


# --- types


@pytest.mark.usefixtures("path")
@EVERY_SCAN
@pytest.mark.parametrize("length", [3, 130, 2100])
def test_float32_is_close_to_float64(case: Case, length: int) -> None:
    """As long as a window of training: the gradient of A is a sum over all of it."""
    arguments = [t.float() for t in case.arguments(length)]
    judge = case.recurrence if length < 1000 else case.scan  # which the tests above judge
    tolerance = 1e-4 if case is SSD else 2e-6  # a sum of decays is less exact than each of them
    assert_close(by_name(case.scan, arguments), by_name(judge, [t.double() for t in arguments]), tolerance)


@pytest.mark.usefixtures("path")
@EVERY_SCAN
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mixed", [False, True], ids=["all narrow", "A, D and dt in float32"])
def test_narrow_types_are_computed_in_float32(case: Case, narrow: torch.dtype, mixed: bool) -> None:
    wide = (1, 2, 5) if mixed else ()
    arguments = [t.float() if i in wide else t.to(narrow) for i, t in enumerate(case.arguments(130))]
    expected = by_name(case.recurrence, [t.double() for t in arguments])
    found = by_name(case.scan, arguments)
    assert (found["y"].dtype, found["final h"].dtype) == (narrow, torch.float32)
    for name, argument in zip(NAMES, arguments, strict=True):
        assert found[f"gradient of {name}"].dtype == argument.dtype
    assert_close(found, expected, 1e-2)  # y and gradients are rounded once, to 8 or 11 bits
    assert_close({"final h": found["final h"]}, {"final h": expected["final h"]}, 1e-5)


@pytest.mark.usefixtures("path")
@EVERY_SCAN
def test_autocast_changes_nothing(case: Case) -> None:
    arguments = [t.float() for t in case.arguments(45)]
    expected = by_name(case.scan, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = by_name(case.scan, arguments)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# --- extremes

EXTREMES = pytest.mark.parametrize("values", [(1e-7,), (1e3,), (1e-7, 50.0), (1e-7, 1e-2, 1e3)], ids=str)


@pytest.mark.usefixtures("path")
@EXTREMES
def test_extreme_dt_of_the_selective_scan(values: tuple[float, ...]) -> None:
    arguments = with_dt(selective_arguments(130, 8, d_state=8), *values)
    expected = by_name(selective_recurrence, [t.double() for t in arguments])
    assert_close(by_name(selective_scan, arguments), expected, 1e-5)


@pytest.mark.usefixtures("path")
@EXTREMES
def test_extreme_dt_of_ssd(values: tuple[float, ...]) -> None:
    """Where the state is erased at once, the gradient of A is almost zero: what is left of large terms that cancel."""
    arguments = with_dt(ssd_arguments(130, d_state=8, headdim=8), *values)
    expected = by_name(ssd_recurrence, [t.double() for t in arguments])
    found = by_name(ssd, arguments)
    assert all(value.isfinite().all() for value in found.values())
    if max(values) > 1:
        x, dt = arguments[:2]
        cancelling = (dt * (x * expected["gradient of x"]).sum(-1)).abs().sum((0, 1))
        assert ((found["gradient of A"] - expected.pop("gradient of A")).abs() <= 1e-4 * cancelling).all()
        torch.testing.assert_close(found["gradient of h"], expected.pop("gradient of h").float())
    assert_close(found, {name: expected.pop(name) for name in ("y", "final h")}, 1e-4)
    assert_close(found, expected, 1e-3)


@pytest.mark.usefixtures("path")
@EVERY_SCAN
@pytest.mark.parametrize("values", [(1e-7,), (1e-3, 1e-1)], ids=str)
def test_errors_do_not_grow_over_5000_steps(case: Case, values: tuple[float, ...]) -> None:
    """exp(dt · A) in float32 is off by up to 2^-25, and each step multiplies by it again."""
    arguments = with_dt(case.arguments(5000, 2, 1, 1, 2), *values)
    found = by_name(case.scan, arguments)
    in_float64 = [t.double() for t in arguments]
    with torch.no_grad():
        y, h = case.sequential(*in_float64)
    assert_close(found, {"y": y, "final h": h}, 5000 * 2**-25)
    assert_close(found, by_name(case.scan, in_float64), 5000 * 2**-25)  # which the tests above judge


@pytest.mark.usefixtures("path")
@EVERY_SCAN
@pytest.mark.parametrize(("size", "values"), [(1e30, (1e-7, 1e-2)), (1e30, (50.0,)), (1e-30, (1e-7, 1e-2))], ids=str)
def test_huge_and_tiny_states(case: Case, size: float, values: tuple[float, ...]) -> None:
    """A state of 1e30 is read as it is while it lasts, and forgotten where dt is large."""
    arguments = with_dt(case.arguments(70), *values)
    arguments[6] = arguments[6] * size
    y, h = case.scan(*arguments)
    assert_close([y, h], case.recurrence(*(t.double() for t in arguments)), 1e-5)


@pytest.mark.usefixtures("path")
@EVERY_SCAN
def test_zeros_give_zeros(case: Case) -> None:
    found = by_name(case.scan, [torch.zeros_like(t, dtype=torch.float32) for t in case.arguments(70)])
    assert all(value.isfinite().all() for value in found.values())
    assert not found["y"].any()
    assert not found["final h"].any()
