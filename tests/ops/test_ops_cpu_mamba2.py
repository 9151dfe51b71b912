"""The compiled operators of Mamba-2, together and each by itself, against their definitions in float64."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge import (
    assert_close,
    by_name,
    normal,
    outputs_and_gradients,
    ssd_arguments,
    ssd_recurrence,
    uniform,
    with_dt,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from diffmamba.mixers import Difference, Mamba2
from diffmamba.ops import backend, causal_conv, conv_scan_norm, gated_rms_norm, rms_norm, ssd
from diffmamba.ops.cpu import conv, mamba2, processor
from diffmamba.ops.cpu import ssd as cpu_ssd

pytestmark = pytest.mark.usefixtures("instructions")  # every test runs with each instruction set
ONCE = pytest.mark.parametrize("instructions", processor.available()[:1], indirect=True)
NAMES = ("zxBCdt", "conv_weight", "conv_bias", "dt_bias", "A", "D", "norm_weight", "past", "h")
SEQUENCES = (0, 7, 8)  # which a mixer in mixed precision has in bfloat16; h is always float32

# length, heads, groups, headdim, states, width, batch: around chunks of 16 and 32 and vectors of 4, 8 and 16
SIZES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 2, 2, 3, 5, 4, 3),
    (16, 4, 2, 16, 16, 4, 2),
    (17, 4, 1, 8, 33, 3, 1),
    (31, 6, 3, 5, 20, 2, 2),
    (32, 4, 4, 32, 8, 5, 1),
    (33, 5, 1, 64, 64, 4, 1),
    (65, 8, 1, 24, 4, 16, 1),
    (130, 6, 2, 17, 65, 4, 2),
]
SMALL = (37, 4, 2, 6, 5, 4, 2)


def fused_arguments(
    length: int, heads: int, groups: int, headdim: int, states: int, width: int, batch: int
) -> list[Tensor]:
    """In float64, with states: dt before its bias, which gives steps from 1e-3 to 1."""
    inner, channels = heads * headdim, heads * headdim + 2 * groups * states
    dt, dt_bias = 10 ** (-3 * uniform(batch, length, heads, seed=1)), normal(heads, seed=2)
    rest = normal(batch, length, inner + channels, seed=0)
    return [
        torch.cat([rest, torch.log(torch.expm1(dt)) - dt_bias], dim=-1),
        normal(channels, width, seed=3) / width**0.5,
        normal(channels, seed=4),
        dt_bias,
        -1 - 15 * uniform(heads, seed=5),
        normal(heads, seed=6),
        normal(inner, seed=7),
        normal(batch, width - 1, channels, seed=8),
        normal(batch, heads, headdim, states, seed=9),
    ]


def fused(groups: int, *arguments: Tensor, extend: bool = True) -> tuple[Tensor, ...]:
    """u and the states after it, flat; `arguments` may lack the states before it."""
    zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, *states = arguments
    parameters = (conv_weight, conv_bias, dt_bias, A, D, norm_weight, len(norm_weight) // len(dt_bias), groups)
    u, after = conv_scan_norm(zxBCdt, *parameters, tuple(states) if states else None, extend)  # type: ignore[arg-type]
    return (u, *after) if after else (u,)


def convolution(x: Tensor, weight: Tensor, bias: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """By PyTorch's own, whose channels come before the length."""
    width = weight.shape[1]
    past = x.new_zeros(len(x), width - 1, x.shape[2]) if past is None else past
    before = torch.cat([past, x], dim=1)
    return F.silu(F.conv1d(before.mT, weight[:, None], bias, groups=len(bias)).mT), before[:, x.shape[1] :]


def norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    gated = y * z / (1 + torch.exp(-z))
    return gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def definition(groups: int, *arguments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The formulas of Mamba-2 between its projections, written a second time."""
    zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, *states = arguments
    inner, heads, channels = len(norm_weight), len(dt_bias), len(conv_weight)
    past, h = states or (None, None)
    z, xBC, dt = zxBCdt.split([inner, channels, heads], dim=-1)
    xBC, past = convolution(xBC, conv_weight, conv_bias, past)
    x, B, C = xBC.split([inner, (channels - inner) // 2, (channels - inner) // 2], dim=-1)
    B, C = (t.unflatten(-1, (groups, -1)) for t in (B, C))
    y, h = ssd_recurrence(x.unflatten(-1, (heads, -1)), F.softplus(dt + dt_bias), A, B, C, D, h)
    by_group = (groups, inner // groups)
    u = norm(y.flatten(-2).unflatten(-1, by_group), z.unflatten(-1, by_group), norm_weight.unflatten(0, by_group))
    return u.flatten(-2), past, h


def named(found: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(("u", "after", "final h", *(f"gradient of {name}" for name in NAMES)), found, strict=False))


@cache
def judged(sizes: tuple[int, ...], states: bool = True, added: float = 0) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Arguments in float32, and what the definition makes of them in float64."""
    arguments = [t.float() for t in fused_arguments(*sizes)][: None if states else -2]
    arguments[3] = arguments[3] + added
    return arguments, named(outputs_and_gradients(partial(definition, sizes[2]), [t.double() for t in arguments]))


def on_threads(function: Callable[[], list[Tensor]], *numbers: int) -> list[list[Tensor]]:
    before, found = torch.get_num_threads(), []
    try:
        for threads in numbers:
            torch.set_num_threads(threads)
            found.append(function())
    finally:
        torch.set_num_threads(before)
    return found


# --- the whole block


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_outputs_and_all_gradients_are_those_of_the_definition(sizes: tuple[int, ...]) -> None:
    """The norm of a single number hardly depends on it: its gradient is the little that is left."""
    arguments, expected = judged(sizes)
    alone = sizes[1] * sizes[3] == sizes[2]
    assert_close(
        named(outputs_and_gradients(partial(fused, sizes[2]), arguments)), expected, 2e-5, 1 if alone else 1e-30
    )


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(1, 50),
    groups=st.integers(1, 3),
    per_group=st.integers(1, 5),
    headdim=st.integers(1, 40),
    states=st.integers(1, 70),
    width=st.integers(1, 16),
    batch=st.integers(1, 3),
    threads=st.integers(1, 3),
)
def test_any_shape(
    length: int, groups: int, per_group: int, headdim: int, states: int, width: int, batch: int, threads: int
) -> None:
    """As exact as the definition in float32, which a norm of small numbers and their gradients can make inexact."""
    sizes = (length, groups * per_group, groups, headdim, states, width, batch)
    arguments = [t.float() for t in fused_arguments(*sizes)]
    (found,) = on_threads(lambda: outputs_and_gradients(partial(fused, groups), arguments), threads)
    rounded = outputs_and_gradients(partial(definition, groups), arguments)
    expected = outputs_and_gradients(partial(definition, groups), [t.double() for t in arguments])
    for name, one, other, exact in zip(named(found), found, rounded, expected, strict=True):
        if exact.numel():
            error, of_rounding = ((t - exact).abs().max() / exact.abs().max().clamp(min=1) for t in (one, other))
            assert error <= 5e-5 + 5 * of_rounding, name


@pytest.mark.parametrize("extend", [True, False])
def test_states_are_zero_by_default(extend: bool) -> None:
    arguments, expected = judged(SMALL, states=False)
    found = fused(2, *arguments, extend=extend)
    assert_close(found, list(expected.values())[: len(found)], 1e-5)
    assert len(found) == (3 if extend else 1)
    assert_close(named(outputs_and_gradients(partial(fused, 2), arguments)), expected, 1e-5)


@pytest.mark.parametrize("added", [-12.0, 3.0, 30.0], ids=["weak", "strong", "erased at once"])
def test_decays_from_weak_to_strong(added: float) -> None:
    """dt from 1e-8 on, where exp(dt · A) is 1 but for a rounding, to 30, where it is below the smallest float."""
    arguments, expected = judged((100, 4, 2, 6, 5, 4, 2), added=added)
    found = named(outputs_and_gradients(partial(fused, 2), arguments))
    if added == 30:  # what is left of the decays is below the smallest float
        for name in ("gradient of A", "gradient of h"):
            assert found.pop(name).abs().max() <= 1e-10
            assert expected[name].abs().max() <= 1e-10
        expected = {name: value for name, value in expected.items() if name in found}
    assert_close(found, expected, 5e-5)


@pytest.mark.parametrize("at", ["z", "x", "B", "C", "dt"])
def test_nan_gives_nan_from_there_on_and_stays_in_its_row(at: str) -> None:
    """In an earlier position only where both are in one chunk, as with every chunked form."""
    _, heads, groups, headdim, states, *_ = SMALL
    arguments, _ = judged((90, *SMALL[1:]))
    inner, projected = heads * headdim, groups * states
    parts = arguments[0].split([inner, inner, projected, projected, heads], dim=-1)
    columns = dict(zip(["z", "x", "B", "C", "dt"], parts, strict=True))
    clean, _, clean_h = fused(2, *arguments)
    columns[at] = columns[at].clone()
    columns[at][1, 40] = torch.nan
    u, _, h = fused(2, torch.cat(list(columns.values()), dim=-1), *arguments[1:])
    assert torch.equal(u[0], clean[0])
    assert torch.equal(h[0], clean_h[0])
    assert torch.equal(u[1, :32], clean[1, :32])
    lasts = {"z": 1, "C": 4}.get(at, 50)  # positions: z is not remembered, C only by the convolution
    assert u[1, 40 : 40 + lasts].isnan().all()
    assert h[1].isnan().all() == (at not in "zC")


@pytest.mark.parametrize("name", ["conv_weight", "conv_bias", "dt_bias", "A", "D", "norm_weight", "past", "h"])
def test_nan_in_a_parameter_or_state_reaches_the_outputs(name: str) -> None:
    arguments, _ = judged(SMALL)
    changed = list(arguments)
    changed[NAMES.index(name)] = torch.full_like(changed[NAMES.index(name)], torch.nan)
    u, _, h = fused(2, *changed)
    assert u[:, 0].isnan().all()
    assert h.isnan().all() == (name not in ("D", "norm_weight"))


@pytest.mark.parametrize("sizes", [SMALL, (65, 3, 1, 20, 33, 4, 1)], ids=str)
def test_bfloat16_in_and_out_is_float32_inside(sizes: tuple[int, ...]) -> None:
    arguments = [t.bfloat16() if i in SEQUENCES[:2] else t.float() for i, t in enumerate(fused_arguments(*sizes))]
    groups = sizes[2]
    found = named(outputs_and_gradients(partial(fused, groups), arguments))
    expected = named(outputs_and_gradients(partial(definition, groups), [t.double() for t in arguments]))
    assert [found[name].dtype for name in ("u", "after", "final h")] == [torch.bfloat16, torch.bfloat16, torch.float32]
    for name, argument in zip(NAMES, arguments, strict=True):
        assert found[f"gradient of {name}"].dtype == argument.dtype
    for name, value in found.items():  # the gradient of u is rounded before anything is computed from it
        assert_close([value], [expected[name]], {"u": 4e-3, "after": 0, "final h": 1e-5}.get(name, 1e-2))


@ONCE
@pytest.mark.parametrize("of_state", [torch.float32, torch.bfloat16], ids=str)
def test_the_state_of_the_convolution_keeps_its_type(of_state: torch.dtype) -> None:
    """Under autocast a mixer in float32 continues a state in float32 with inputs in bfloat16."""
    arguments = [t.float() for t in fused_arguments(2, *SMALL[1:])]
    arguments[0], arguments[-2] = arguments[0].bfloat16(), arguments[-2].to(of_state)
    u, *after = fused(2, *arguments)
    with backend.use("torch"):
        _, *expected = fused(2, *arguments)
    assert u.dtype == torch.bfloat16
    assert [t.dtype for t in after] == [t.dtype for t in expected] == [of_state, torch.float32]
    assert torch.equal(after[0], expected[0])
    assert_close(after[1:], expected[1:], 1e-2)


@pytest.mark.parametrize("heads", [1, 6, 7], ids=lambda n: f"{n} heads")
@pytest.mark.parametrize(("batch", "groups"), [(1, 1), (3, 1)])
def test_the_same_bits_with_any_number_of_threads(heads: int, batch: int, groups: int) -> None:
    """With one group of many heads the heads are divided among the threads."""
    arguments = [t.float() for t in fused_arguments(70, heads, groups, 64, 16, 4, batch)]
    first, *others = on_threads(lambda: outputs_and_gradients(partial(fused, groups), arguments), 1, 2, 3, 5)
    for other in others:
        assert all(map(torch.equal, first, other))
    with torch.no_grad():
        for other in on_threads(lambda: list(fused(groups, *arguments)), 1, 2, 3):
            assert all(map(torch.equal, first, other))


@pytest.mark.parametrize("wanted", ["zxBCdt", "A norm_weight", "h", "past D", "conv_weight dt_bias"])
@pytest.mark.parametrize("of", [0, 1, 2], ids=["u", "after", "final h"])
def test_some_gradients_alone_and_of_one_output(wanted: str, of: int) -> None:
    arguments, _ = judged(SMALL)
    leaves = [t.clone().requires_grad_(name in wanted.split()) for name, t in zip(NAMES, arguments, strict=True)]
    wide = [t.detach().double().requires_grad_(t.requires_grad) for t in leaves]
    totals = [function(2, *given)[of].square().sum() for function, given in ((fused, leaves), (definition, wide))]
    # the state of the convolution depends on its inputs only
    assert totals[0].requires_grad == totals[1].requires_grad == (of != 1 or "zx" in wanted or "past" in wanted)
    if not totals[0].requires_grad:
        return
    both = [
        torch.autograd.grad(total, [t for t in given if t.requires_grad], allow_unused=True)
        for total, given in zip(totals, (leaves, wide), strict=True)
    ]
    for found, expected in zip(*both, strict=True):
        if found is None or expected is None:
            assert all(t is None or not t.any() for t in (found, expected))
        else:
            assert_close([found], [expected], 1e-5)


def test_without_gradients_it_is_the_same_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module, kept = import_module("diffmamba.ops.fused"), []

    def watched(*arguments: Any) -> tuple[Tensor, ...]:
        found = mamba2.mamba2(*arguments)
        kept.append([t.numel() for t in found[2:]])
        return found

    monkeypatch.setattr(module, "mamba2", watched)
    leaves = [t.clone().requires_grad_() for t in judged(SMALL)[0]]
    first = fused(2, *leaves)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert all(map(torch.equal, fused(2, *leaves), first))
    fused(2, *(t.detach() for t in leaves))
    assert all(kept[0])
    assert kept[1:] == [[0, 0]] * 3


def test_later_positions_change_nothing_before_them() -> None:
    arguments, _ = judged((70, *SMALL[1:]))
    u = fused(2, *arguments)[0]
    for cut in (1, 15, 16, 17, 33, 69):
        changed = arguments[0].clone()
        changed[0, cut:] += 1
        found = fused(2, changed, *arguments[1:])[0]
        assert torch.equal(found[0, :cut], u[0, :cut])
        assert torch.equal(found[1], u[1])
        assert (found[0, cut:] != u[0, cut:]).any(-1).all()


@pytest.mark.parametrize("sizes", [[36, 1], [1, 36], [16, 21], [2, 2, 33]], ids=str)
def test_pieces_are_the_whole(sizes: list[int]) -> None:
    """With the gradients that pass from one to the other through the states."""
    arguments, expected = judged(SMALL)

    def in_pieces(zxBCdt: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        *parameters, past, h = rest
        us = []
        for piece in zxBCdt.split(sizes, dim=1):
            u, past, h = fused(2, piece, *parameters, past, h)
            us.append(u)
        return torch.cat(us, dim=1), past, h

    assert_close(named(outputs_and_gradients(in_pieces, arguments)), expected, 1e-5)


# --- memory, types and how PyTorch sees it


def slices(tensor: Tensor) -> Tensor:
    """Columns of a wider tensor, as those of a mixer are."""
    return torch.cat([tensor, tensor, tensor], dim=-1)[..., tensor.shape[-1] : -tensor.shape[-1]]


def last_first(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT


def transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def conv_arguments(length: int = 45, channels: int = 21, width: int = 4, batch: int = 2) -> list[Tensor]:
    shapes = [(batch, length, channels), (channels, width), (channels,), (batch, width - 1, channels)]
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def norm_arguments(rows: int = 45, groups: int = 2, size: int = 21) -> list[Tensor]:
    return [normal(2, rows, groups, size, seed=0), normal(2, rows, groups, size, seed=1), normal(groups, size, seed=2)]


OPERATORS: dict[str, tuple[Callable[..., Any], Callable[..., list[Tensor]]]] = {
    "conv_scan_norm": (partial(fused, 2), lambda: fused_arguments(*SMALL)),
    "ssd": (ssd, lambda: ssd_arguments(37)),
    "causal_conv": (causal_conv, conv_arguments),
    "gated_rms_norm": (gated_rms_norm, norm_arguments),
    "rms_norm": (rms_norm, lambda: [normal(2, 45, 21, seed=0), normal(21, seed=1)]),
}
EVERY_OPERATOR = pytest.mark.parametrize("name", OPERATORS)


@EVERY_OPERATOR
@pytest.mark.parametrize("layout", [slices, last_first, transposed], ids=lambda f: f.__name__)
def test_memory_order_does_not_matter(name: str, layout: Callable[[Tensor], Tensor]) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.float() for t in make()]

    def elsewhere(*leaves: Tensor) -> Any:
        return operator(*(layout(t) if t.dim() > 1 or layout is slices else t for t in leaves))

    expected = outputs_and_gradients(operator, arguments)
    assert all(map(torch.equal, outputs_and_gradients(elsewhere, arguments), expected))
    leaves = [t.requires_grad_() for t in arguments]

    def of_a_sum(function: Callable[..., Any]) -> tuple[Tensor, ...]:
        found = function(*leaves)
        return torch.autograd.grad(found[0].sum() if isinstance(found, tuple) else found.sum(), leaves[:2])

    assert all(map(torch.equal, of_a_sum(elsewhere), of_a_sum(operator)))  # the gradient of y has strides of 0


@EVERY_OPERATOR
def test_each_operator_gives_the_same_bits_with_any_number_of_threads(name: str) -> None:
    operator, make = OPERATORS[name]
    wide = {"gated_rms_norm": lambda: norm_arguments(700), "rms_norm": lambda: norm_arguments(900, 2)[1:]}
    wide |= {"causal_conv": lambda: conv_arguments(200, 150), "ssd": lambda: ssd_arguments(70, 6, 1, 1, 16, 64)}
    arguments = [t.float() for t in wide.get(name, make)()]
    if name == "rms_norm":
        arguments[1] = arguments[1][0]
    first, *others = on_threads(lambda: outputs_and_gradients(operator, arguments), 1, 2, 3, 5)
    for other in others:
        assert all(map(torch.equal, first, other))


@EVERY_OPERATOR
def test_arguments_stay_as_they_are(name: str) -> None:
    operator, make = OPERATORS[name]
    leaves = [t.float().requires_grad_() for t in make()]
    kept = [t.detach().clone() for t in leaves]
    found = operator(*leaves)
    torch.autograd.grad(sum(t.sum() for t in (found if isinstance(found, tuple) else [found])), leaves)
    assert all(map(torch.equal, leaves, kept))


@EVERY_OPERATOR
@pytest.mark.usefixtures("nan_in_new_memory")
def test_every_number_of_the_results_is_written(name: str) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.float() for t in make()]
    assert all(t.isfinite().all() for t in outputs_and_gradients(operator, arguments))
    with torch.no_grad():
        found = operator(*arguments)
    assert all(t.isfinite().all() for t in (found if isinstance(found, tuple) else [found]))


@ONCE
@pytest.mark.parametrize("name", ["conv_scan_norm", "ssd", "causal_conv"])
@pytest.mark.parametrize("path", ["auto", "torch"])
def test_what_is_no_first_derivative_is_refused_rather_than_wrong(name: str, path: str) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.float() for t in make()]
    with backend.use(path):
        leaves = [t.clone().requires_grad_() for t in arguments]
        (slope,) = torch.autograd.grad(operator(*leaves)[0].square().sum(), leaves[:1], create_graph=True)
        with pytest.raises(RuntimeError, match="no autograd formula"):
            slope.square().sum().backward()
        for at in range(len(arguments)):  # along any of them
            towards = tuple(torch.ones_like(t) if i == at else torch.zeros_like(t) for i, t in enumerate(arguments))
            with pytest.raises(NotImplementedError, match=r"^.*: forward-mode derivatives need backend=definition$"):
                torch.func.jvp(operator, tuple(arguments), towards)
        rows = tuple(torch.stack([t, 2 * t]) for t in arguments)
        mapped = torch.func.vmap(operator)(*rows)[0]
        torch.testing.assert_close(mapped[1], operator(*(t[1] for t in rows))[0], rtol=1e-4, atol=1e-4)


@ONCE
@EVERY_OPERATOR
def test_autocast_changes_nothing(name: str) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.float() for t in make()]
    expected = outputs_and_gradients(operator, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_and_gradients(operator, arguments)
    assert all(map(torch.equal, found, expected))


@ONCE
@EVERY_OPERATOR
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_other_types_are_pytorchs(name: str, dtype: torch.dtype) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.to(dtype) for t in make()]
    with backend.use("torch"):
        expected = outputs_and_gradients(operator, arguments)
    with backend.use("auto"):
        found = outputs_and_gradients(operator, arguments)
    assert all(map(torch.equal, found, expected))
    with pytest.raises(ValueError, match="only float32 and bfloat16") if name != "rms_norm" else backend.use("cpu"):
        operator(*arguments)


@ONCE
@EVERY_OPERATOR
def test_under_the_compiler_it_is_one_graph_whatever_the_length(name: str) -> None:
    operator, make = OPERATORS[name]
    torch.compiler.reset()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(operator, backend=counted, fullgraph=True)
    sequences = {"conv_scan_norm": (0,), "ssd": (0, 1, 3, 4)}.get(name, (0,) if "gated" not in name else (0, 1))
    for length in (37, 21, 30, 12, 1):
        arguments = [t.float()[:, :length] if i in sequences else t.float() for i, t in enumerate(make())]
        found, expected = (outputs_and_gradients(one, arguments) for one in (compiled, operator))
        assert_close(found, expected, 1e-5 if "norm" in name[-8:] else 0)  # norms alone are left to the compiler
    assert counted.frame_count <= 4  # the first length, any length, one that is a shorter chunk, and a length of 1
    with torch.no_grad():
        compiled(*arguments)


@ONCE
@EVERY_OPERATOR
def test_shapes_can_be_had_without_memory(name: str) -> None:
    operator, make = OPERATORS[name]
    arguments = [t.float() for t in make()]
    expected = outputs_and_gradients(operator, arguments)
    with FakeTensorMode() as mode:
        leaves = [mode.from_tensor(t).requires_grad_() for t in arguments]
        found = operator(*leaves)
        outputs = found if isinstance(found, tuple) else (found,)
        slopes = torch.autograd.grad(sum(t.sum() for t in outputs), leaves)
    assert [(t.shape, t.dtype) for t in (*outputs, *slopes)] == [(t.shape, t.dtype) for t in expected]
    with backend.use("auto"):
        found = operator(*(t.to("meta") for t in arguments))
    outputs = found if isinstance(found, tuple) else (found,)
    assert [(t.shape, t.dtype) for t in outputs] == [(t.shape, t.dtype) for t in expected[: len(outputs)]]


@ONCE
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_what_the_operators_tell_the_compiler_is_so(states: bool, gradients: bool) -> None:
    def prepared(arguments: list[Tensor], lacking: int) -> list[Tensor | None]:
        given = [slices(t.float()).detach().requires_grad_(gradients) for t in arguments]
        return given if states else [*given[:-lacking], *[None] * lacking]

    torch.library.opcheck(mamba2.mamba2, (*prepared(fused_arguments(*SMALL), 2), 6, 2, 1e-5, gradients))
    torch.library.opcheck(cpu_ssd.ssd, (*prepared(ssd_arguments(37), 1), gradients))
    torch.library.opcheck(conv.conv, (*prepared(conv_arguments(), 1), torch.float32))


@ONCE
@pytest.mark.parametrize("scope", ["block", "ssm"])
def test_a_mixer_called_with_other_parameters_uses_those(scope: Any) -> None:
    mixer = Mamba2(8, 1, 4, 5, combine=partial(Difference, scope=scope))
    others = {name: p.detach() + 0.1 * normal(*p.shape, seed=1).float() for name, p in mixer.named_parameters()}
    x = normal(2, 20, 8, seed=0).float()
    found = torch.func.functional_call(mixer, others, x)
    assert (found - mixer(x)).abs().max() > 1e-3
    mixer.load_state_dict(others)
    assert torch.equal(found, mixer(x))


# --- each operator by itself


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("state", [True, False])
def test_ssd_is_the_recurrence(sizes: tuple[int, ...], state: bool) -> None:
    length, heads, groups, headdim, states, _, batch = sizes
    arguments = [t.float() for t in ssd_arguments(length, heads, groups, batch, states, headdim)]
    arguments = arguments if state else arguments[:-1]
    assert_close(by_name(ssd, arguments), by_name(ssd_recurrence, [t.double() for t in arguments]), 1e-5)


def test_ssd_of_bfloat16_is_float32_inside() -> None:
    arguments = [t.bfloat16() if i in (0, 3, 4) else t.float() for i, t in enumerate(ssd_arguments(70))]
    found = by_name(ssd, arguments)
    expected = by_name(ssd_recurrence, [t.double() for t in arguments])
    assert (found["y"].dtype, found["final h"].dtype) == (torch.bfloat16, torch.float32)
    for name, value in found.items():
        assert_close([value], [expected[name]], 1e-5 if name == "final h" else 5e-3)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize(("length", "channels"), [(1, 1), (2, 70), (33, 64), (65, 7)])
def test_the_convolution_is_pytorchs_own(width: int, length: int, channels: int) -> None:
    arguments = [t.float() for t in conv_arguments(length, channels, width)]
    for some in (arguments, arguments[:-1]):
        expected = outputs_and_gradients(convolution, [t.double() for t in some])
        assert_close(outputs_and_gradients(causal_conv, some), expected, 5e-6)


@ONCE
def test_a_wider_convolution_is_left_to_pytorch() -> None:
    arguments = [t.float() for t in conv_arguments(width=17)]
    found = outputs_and_gradients(causal_conv, arguments)
    block = [t.float() for t in fused_arguments(37, 4, 2, 6, 5, 17, 2)]
    of_block = outputs_and_gradients(partial(fused, 2), block)
    assert_close(of_block, outputs_and_gradients(partial(definition, 2), [t.double() for t in block]), 1e-5)
    with backend.use("torch"):
        assert all(map(torch.equal, found, outputs_and_gradients(causal_conv, arguments)))


@pytest.mark.parametrize("narrow", [(0,), (0, 3), (3,), (1, 2), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("other", [torch.float32, torch.float64], ids=str)
def test_types_of_a_convolution_mix(narrow: tuple[int, ...], other: torch.dtype) -> None:
    """Also with float64, which the library does not have."""
    arguments = [t.to(torch.bfloat16 if i in narrow else other) for i, t in enumerate(conv_arguments())]
    with backend.use("auto"):
        found = outputs_and_gradients(causal_conv, arguments)
    with backend.use("torch"):
        expected = outputs_and_gradients(causal_conv, arguments)
    exact = outputs_and_gradients(convolution, [t.double() for t in arguments])
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert_close(found, exact, 1e-2)
    assert_close(found[1:2], exact[1:2], 0 if other == torch.float64 else 4e-3)
    if found[0].dtype != torch.bfloat16:
        assert_close(found[:1], exact[:1], 1e-6)


@pytest.mark.parametrize(("rows", "groups", "size"), [(1, 1, 1), (3, 2, 5), (65, 1, 16), (70, 3, 33), (40, 2, 128)])
@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
def test_the_gated_norm_is_its_formula(rows: int, groups: int, size: int, shared: bool) -> None:
    y, z, weight = norm_arguments(rows, groups, size)
    for dtype, tolerance in ((torch.float32, 3e-6), (torch.bfloat16, 1e-2)):
        arguments = [t.to(dtype) for t in (y, z, weight[0] if shared else weight)]
        found = outputs_and_gradients(gated_rms_norm, arguments)
        assert [t.dtype for t in found] == [dtype] * 4
        assert_close(
            found, outputs_and_gradients(norm, [t.double() for t in arguments]), tolerance, 1e-30 if size > 1 else 1
        )


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 5), (65, 16), (130, 33)])
def test_the_plain_norm_is_its_formula(rows: int, size: int) -> None:
    def written(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    arguments = [normal(rows, size, seed=0).float(), normal(size, seed=1).float()]
    expected = outputs_and_gradients(written, [t.double() for t in arguments])
    assert_close(outputs_and_gradients(rms_norm, arguments), expected, 3e-6, 1e-30 if size > 1 else 1)


@pytest.mark.parametrize("norm_of", [gated_rms_norm, rms_norm], ids=lambda f: f.__name__)
def test_nan_in_a_norm_stays_in_its_row(norm_of: Callable[..., Tensor]) -> None:
    arguments = [t.float() for t in (norm_arguments() if norm_of is gated_rms_norm else norm_arguments(groups=1)[1:])]
    if norm_of is rms_norm:
        arguments[1] = arguments[1][0]
    clean = norm_of(*arguments)
    arguments[0][1, 40, ..., 3] = torch.nan
    found = norm_of(*arguments)
    assert found[1, 40].isnan().all()
    assert torch.equal(found[0], clean[0])
    assert torch.equal(found[1, :40], clean[1, :40])


@ONCE
def test_shapes_that_are_broadcast_are_left_to_pytorch() -> None:
    """The library reads as many numbers of the gate as of y."""
    y, z, weight = (t.float() for t in norm_arguments())
    for gate in (z[:1], z[:, :1], z[..., :1], z[0, 0]):
        torch.testing.assert_close(gated_rms_norm(y, gate, weight), norm(y, gate, weight))
    torch.testing.assert_close(rms_norm(y, weight), rms_norm(y, torch.ones(21)) * weight)


# --- extreme steps

STEPS = [(1e-4,), (1e-3,), (1e-3, 1e-1), (1.0,), (10.0,), (1e3,), (1e-4, 10.0), (1e-4, 1e3), (1e-2, 1.0, 1e2)]
STEPS += [(1e-4, 1e-2, 1.0, 1e3)]


@pytest.mark.parametrize("sizes", [(33, 4, 2), (130, 4, 1), (200, 2, 2), (64, 3, 1)], ids=str)
@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_the_gradient_of_decays_at_extreme_steps(steps: tuple[float, ...], sizes: tuple[int, int, int]) -> None:
    """160 combinations. PyTorch's operators are off by up to 2e-2 here, since they take sums of large terms apart.

    Where all is forgotten at once the gradient is 0, or below what float32 holds.
    """
    for A in (None, 1e-2, 1.0, 16.0):
        arguments, expected = extreme(steps, sizes, A)
        assert_close(by_name(ssd, arguments), expected, 1e-5, least=1e-24)


@cache
def extreme(
    steps: tuple[float, ...], sizes: tuple[int, int, int], A: float | None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    arguments = with_dt(ssd_arguments(*sizes, d_state=8, headdim=8), *steps)
    arguments[2] = arguments[2] if A is None else torch.full_like(arguments[2], -A)
    with backend.use("torch"):  # in float64, which other tests judge
        return arguments, by_name(ssd, [t.double() for t in arguments])
