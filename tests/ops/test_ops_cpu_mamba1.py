"""Mamba-1's selective scan by the compiled library, against the recurrence in float64."""

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients, selective_arguments, selective_recurrence
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend, gated_selective_scan, selective_scan
from diffmamba.ops.cpu import mamba1, processor

pytestmark = pytest.mark.usefixtures("instructions")  # every test runs with each instruction set
ONCE = pytest.mark.parametrize("instructions", processor.available()[:1], indirect=True)
NAMES = ("x", "dt", "A", "B", "C", "D", "dt_bias", "z", "h")
SIZES = [  # length, channels, groups, states: around the chunk of 32, the vectors of 4 to 16 and the 4 states at a time
    (1, 1, 1, 1),
    (1, 4, 2, 5),
    (31, 3, 1, 4),
    (32, 16, 1, 16),
    (33, 34, 2, 3),
    (65, 150, 1, 8),
    (70, 24, 3, 2),
    (97, 264, 2, 17),
    (40, 5, 1, 64),
]


def gated_arguments(length: int, channels: int = 24, groups: int = 2, states: int = 5, batch: int = 2) -> list[Tensor]:
    """In float64: dt before its bias, which gives steps from 1e-3 to 1."""
    x, dt, A, B, C, D, h = selective_arguments(length, channels, groups, batch, states)
    dt_bias, z = normal(channels, seed=8), normal(*x.shape, seed=9)
    return [x, torch.log(torch.expm1(dt)) - dt_bias, A, B, C, D, dt_bias, z, h]


def definition(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    x, dt, A, B, C, D, dt_bias, z, *h = arguments
    y, final = selective_recurrence(x, F.softplus(dt + dt_bias), A, B, C, D, *h)
    return y * F.silu(z), final


def named(found: list[Tensor]) -> dict[str, Tensor]:
    labels = ("u", "final h", *(f"gradient of {name}" for name in NAMES))
    return dict(zip(labels, found, strict=False))


def assert_is_the_definition(arguments: list[Tensor], tolerance: float) -> None:
    found = named(outputs_and_gradients(gated_selective_scan, arguments))
    expected = named(outputs_and_gradients(definition, [t.double() for t in arguments]))
    assert_close(found, expected, tolerance)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_outputs_and_all_gradients_are_those_of_the_definition(sizes: tuple[int, ...]) -> None:
    assert_is_the_definition([t.float() for t in gated_arguments(*sizes)], 3e-6)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_so_are_those_of_the_scan_alone(sizes: tuple[int, ...]) -> None:
    length, channels, groups, states = sizes
    arguments = [t.float() for t in selective_arguments(length, channels, groups, 2, states)]
    expected = outputs_and_gradients(selective_recurrence, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(selective_scan, arguments), expected, 3e-6)


def test_the_state_is_zero_by_default() -> None:
    assert_is_the_definition([t.float() for t in gated_arguments(40)[:-1]], 3e-6)


@pytest.mark.parametrize("added", [-12.0, 3.0, 30.0], ids=["weak", "strong", "erased at once"])
def test_decays_from_weak_to_strong(added: float) -> None:
    """dt from 1e-8 on, where exp(dt · A) is 1 but for a rounding, to 30, where it is below the smallest float."""
    arguments = [t.float() for t in gated_arguments(100)]
    arguments[1] = arguments[1] + added
    assert_is_the_definition(arguments, 1e-5)


def test_a_long_sequence_of_one_row() -> None:
    """The gradient of A is a sum over all of it; blocks of channels are the tasks."""
    assert_is_the_definition([t.float() for t in gated_arguments(1500, 40, 1, 4, batch=1)], 5e-6)


@pytest.mark.parametrize("at", ["x", "dt", "B", "C", "z"])
def test_nan_gives_nan_from_there_on(at: str) -> None:
    arguments = [t.float() for t in gated_arguments(70, 20, 1)]
    clean, _ = gated_selective_scan(*arguments)
    arguments[NAMES.index(at)][1, 40] = torch.nan
    y, final = gated_selective_scan(*arguments)
    assert torch.equal(y[0], clean[0])
    assert torch.equal(y[1, :40], clean[1, :40])
    last = slice(40, 41) if at in "Cz" else slice(40, None)  # these two are not remembered
    assert y[1, last].isnan().all()
    assert final[1].isnan().all() == (at not in "Cz")


@pytest.mark.parametrize("narrow", ["x", "dt B C", "z", "x dt B C z"])
def test_bfloat16_in_and_out_is_float32_inside(narrow: str) -> None:
    chosen = narrow.split()
    arguments = [
        t.bfloat16() if name in chosen else t.float() for name, t in zip(NAMES, gated_arguments(45), strict=True)
    ]
    found = named(outputs_and_gradients(gated_selective_scan, arguments))
    expected = named(outputs_and_gradients(definition, [t.double() for t in arguments]))
    for name, argument in zip(NAMES, arguments, strict=True):
        assert found[f"gradient of {name}"].dtype == argument.dtype
    assert found["u"].dtype == (torch.bfloat16 if len(chosen) == 5 else torch.float32)
    for name, value in found.items():  # the gradient of a narrow u is rounded before anything is computed from it
        rounded = value.dtype == torch.bfloat16 or (len(chosen) == 5 and name != "final h")
        assert_close([value], [expected[name]], 4e-3 if rounded else 1e-5)


@pytest.mark.usefixtures("nan_in_new_memory")
def test_every_number_of_the_results_is_written() -> None:
    for scan, make in ((gated_selective_scan, gated_arguments), (selective_scan, selective_arguments)):
        found = outputs_and_gradients(scan, [t.float() for t in make(45, 21, 3)])
        assert all(t.isfinite().all() for t in found)


def test_slices_are_read_where_they_lie() -> None:
    """x and z are halves of one projection, B and C parts of another; anything else is copied."""
    arguments = [t.float() for t in gated_arguments(45)]

    def elsewhere(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, dt_bias, z, h = leaves
        x, z = torch.cat([x, z], dim=-1).chunk(2, dim=-1)
        B, C = torch.cat([B, C], dim=-1).chunk(2, dim=-1)
        dt = dt.transpose(0, 1).contiguous().transpose(0, 1)
        return gated_selective_scan(x, dt.mT.contiguous().mT, A.T.contiguous().T, B, C, D, dt_bias, z, h)

    expected = outputs_and_gradients(gated_selective_scan, arguments)
    assert all(map(torch.equal, outputs_and_gradients(elsewhere, arguments), expected))
    leaves = [t.requires_grad_() for t in arguments]
    found, wanted = (  # the gradient of y has strides of 0
        torch.autograd.grad(scan(*leaves)[0].sum(), leaves) for scan in (gated_selective_scan, definition)
    )
    assert_close(found, wanted, 1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_same_bits_with_any_number_of_threads(batch: int) -> None:
    arguments = [t.float() for t in gated_arguments(70, 300, 2, 4, batch)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(outputs_and_gradients(gated_selective_scan, arguments))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("wanted", [("x", "B"), ("A",), ("h",), ("dt_bias", "z")], ids=str)
@pytest.mark.parametrize("of", [0, 1], ids=["u", "final h"])
def test_some_gradients_alone(wanted: tuple[str, ...], of: int) -> None:
    leaves = [t.float().requires_grad_(name in wanted) for name, t in zip(NAMES, gated_arguments(40), strict=True)]
    chosen = [leaf for leaf in leaves if leaf.requires_grad]
    results = [
        torch.autograd.grad(scan(*leaves)[of].square().sum(), chosen, allow_unused=True)
        for scan in (gated_selective_scan, definition)
    ]
    for found, expected in zip(*results, strict=True):
        assert_close([found], [torch.zeros_like(found) if expected is None else expected], 1e-5)


@pytest.mark.parametrize("of", ["x", "dt", "B", "C", "z"])
def test_nan_stays_in_its_row(of: str) -> None:
    """Rows follow one another in the same memory, where vectors are longer than the 5 channels."""
    arguments = [t.float() for t in gated_arguments(40, 5, 1, 3, batch=8)]
    arguments[NAMES.index(of)][0] = torch.nan
    y, h, *gradients = outputs_and_gradients(gated_selective_scan, arguments)
    by_row = [gradients[NAMES.index(name)] for name in ("x", "dt", "B", "C", "z")]
    assert all(t[1:].isfinite().all() for t in (y, h, *by_row))


@ONCE
@pytest.mark.parametrize("gradients", [True, False])
def test_what_the_operators_tell_the_compiler_is_so(gradients: bool) -> None:
    x, dt, A, B, C, D, dt_bias, z, h = (t.float().requires_grad_(gradients) for t in gated_arguments(45))
    positive = F.softplus(dt).detach().requires_grad_(gradients)
    for step, bias, gate in ((dt, dt_bias, z), (positive, None, None)):
        torch.library.opcheck(mamba1.scan, (x, step, A, B, C, D, h, bias, gate, bias is not None, gradients))


@ONCE
def test_it_is_one_graph_whatever_the_length() -> None:
    torch.compiler.reset()
    compiled = torch.compile(gated_selective_scan, backend="aot_eager", fullgraph=True)
    for length in (45, 33, 1):
        arguments = [t.float() for t in gated_arguments(length)]
        expected = outputs_and_gradients(gated_selective_scan, arguments)
        assert all(map(torch.equal, outputs_and_gradients(compiled, arguments), expected))


@ONCE
def test_autocast_changes_nothing() -> None:
    arguments = [t.float() for t in gated_arguments(45)]
    expected = outputs_and_gradients(gated_selective_scan, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_and_gradients(gated_selective_scan, arguments)
    assert all(map(torch.equal, found, expected))


@ONCE
def test_the_definition_can_be_differentiated_again_and_forward() -> None:
    """`backend=definition` is for analysis; the compiled operator has first derivatives only."""
    leaves = [t.requires_grad_() for t in gated_arguments(3, 2, 1, 2, 1)]
    with backend.use("definition"):
        assert torch.autograd.gradgradcheck(gated_selective_scan, leaves)
        assert torch.autograd.gradcheck(gated_selective_scan, leaves, check_forward_ad=True)
    narrow = [t.detach().float().requires_grad_() for t in leaves]
    slopes = torch.autograd.grad(gated_selective_scan(*narrow)[0].square().sum(), narrow, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(slopes[0].sum(), narrow[0])


@ONCE
def test_a_wrong_shape_is_one_line() -> None:
    arguments = [t.float() for t in gated_arguments(5)]
    for name, wrong in (("dt_bias", torch.zeros(3)), ("z", torch.zeros(2, 5, 3)), ("the state", torch.zeros(2, 24, 4))):
        changed = list(arguments)
        changed[NAMES.index("h" if name == "the state" else name)] = wrong
        with pytest.raises(ValueError, match=f"{name} has shape") as raised:
            gated_selective_scan(*changed)
        assert "\n" not in str(raised.value)
