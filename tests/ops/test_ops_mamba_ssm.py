"""Our operators, and the mixers made of them, against mamba-ssm's own references (see `conftest.py`).

In float64 both sides differ only by rounding (about 1e-14), so agreement to 12 digits means that they are the same
function with the same gradients. In float32 and bfloat16 the references run unchanged.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients, selective_arguments, ssd_arguments
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer, Single
from diffmamba.ops import (
    causal_conv,
    causal_conv_step,
    gated_rms_norm,
    selective_scan,
    selective_scan_step,
    ssd,
    ssd_step,
)

pytestmark = pytest.mark.usefixtures("path")
EPSILON = 1e-5  # of Mamba-2's gated norm in mamba-ssm

# By a tensor's type, relative to its largest number. float32: sums of up to a thousand terms in another order, each
# good to 6e-8; 4e-6 is seen. bfloat16 has 8 bits: both sides compute in float32 and round results, but we round the
# gated norm's factors one by one, and they the gradients of what heads share before adding them up; 2^-7 is seen.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-5, torch.bfloat16: 2**-6}
PRECISE = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
ALL_TYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
LENGTHS = pytest.mark.parametrize(
    ("length", "groups", "dtype"),
    [
        (1, 2, torch.float64),
        (31, 1, torch.float32),
        (32, 4, torch.float64),
        (77, 2, torch.bfloat16),
        (130, 4, torch.float32),
        (130, 1, torch.bfloat16),
    ],
)


def in_type(arguments: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Tensors with a batch get the type. A and D are float32 or wider, as mamba-ssm's kernels need them."""
    return [t.to(dtype if t.dim() > 2 else torch.promote_types(dtype, torch.float32)) for t in arguments]


def ssd_inputs(*sizes: int, dtype: torch.dtype = torch.float64, with_state: bool = False) -> list[Tensor]:
    """dt is at most 0.1, as in a model that starts."""
    x, dt, *rest = ssd_arguments(*sizes)
    return in_type([x, dt / 10, *rest], dtype)[: 6 + with_state]


def scan_inputs(*sizes: int, dtype: torch.dtype = torch.float64, with_state: bool = False) -> list[Tensor]:
    x, dt, *rest = selective_arguments(*sizes)
    return in_type([x, dt / 10, *rest], dtype)[: 6 + with_state]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert expected[0].any()
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert_close([one], [other], TOLERANCE[one.dtype], least=1e-2)  # one position: A has no gradient


def assert_same_function(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arguments: list[Tensor],
    float64: Callable[[], AbstractContextManager[None]],
) -> None:
    with float64() if arguments[0].dtype == torch.float64 else nullcontext():
        expected = outputs_and_gradients(theirs, arguments)
    assert_same(outputs_and_gradients(ours, arguments), expected)


# --- the scan of Mamba-2


def ssd_output(*arguments: Tensor) -> Tensor:
    """The output only; two of their references do not return the final state."""
    return ssd(*arguments)[0]


@PRECISE
@pytest.mark.parametrize(("length", "their_chunk", "groups"), [(1, 1, 2), (37, 37, 1), (77, 11, 4), (96, 32, 2)])
def test_ssd_is_their_chunked_scan(
    mamba_ssm: Any, length: int, their_chunk: int, groups: int, dtype: torch.dtype
) -> None:
    def theirs(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        return mamba_ssm.ssd_chunk_scan_combined_ref(x, dt, A, B, C, their_chunk, D=D)

    arguments = ssd_inputs(length, 4, groups, dtype=dtype)
    assert_same_function(ssd_output, theirs, arguments, mamba_ssm.float64)


@LENGTHS
def test_ssd_is_their_sequential_scan(mamba_ssm: Any, length: int, groups: int, dtype: torch.dtype) -> None:
    arguments = ssd_inputs(length, 4, groups, dtype=dtype)
    assert_same_function(ssd_output, mamba_ssm.ssd_selective_scan, arguments, mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize(("length", "their_chunk", "groups"), [(1, 1, 2), (37, 37, 1), (77, 11, 2)])
def test_ssd_from_a_state_is_theirs_to_a_state(
    mamba_ssm: Any, length: int, their_chunk: int, groups: int, dtype: torch.dtype
) -> None:
    """Built from their parts as `ssd_chunk_scan_combined_ref` is, which has no initial or final state itself."""

    def theirs(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        dt = dt.unflatten(1, (-1, their_chunk)).permute(0, 3, 1, 2)
        s = (dt * A[:, None, None]).cumsum(-1)
        added = mamba_ssm.chunk_state_ref(B, x, dt, s)
        entering, final = mamba_ssm.state_passing_ref(added.flatten(-2), s[..., -1], h.flatten(-2))
        entering, final = (states.unflatten(-1, h.shape[-2:]) for states in (entering, final))
        return mamba_ssm.chunk_scan_ref(B, C, x, dt, s, entering, D=D), final

    arguments = ssd_inputs(length, 4, groups, dtype=dtype, with_state=True)
    assert_same_function(ssd, theirs, arguments, mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize("groups", [1, 2])
def test_ssd_step_is_their_state_update(mamba_ssm: Any, groups: int, dtype: torch.dtype) -> None:
    x, dt, A, B, C, D, h = (t.to(dtype) for t in ssd_inputs(5, 4, groups, with_state=True))
    theirs = h.clone()  # which they change in place
    for t in range(5):
        y, h = ssd_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, h)
        expected = mamba_ssm.selective_state_update_ref(
            theirs, x[:, t], dt[:, t, :, None].expand_as(x[:, t]), A[:, None, None].expand(h.shape[1:]), B[:, t],
            C[:, t], D[:, None].expand(x.shape[2:]),
        )  # fmt: skip
        assert_same([y, h], [expected, theirs])


# --- the scan of Mamba-1


def their_scan(
    mamba_ssm: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    B, C = (t.permute(0, 2, 3, 1) for t in (B, C))
    y, state = mamba_ssm.selective_scan_ref(x.mT, dt.mT, A, B, C, D, return_last_state=True)
    return y.mT, state


@LENGTHS
def test_selective_scan_is_theirs(mamba_ssm: Any, length: int, groups: int, dtype: torch.dtype) -> None:
    arguments = scan_inputs(length, 4, groups, dtype=dtype)
    assert_same_function(selective_scan, partial(their_scan, mamba_ssm), arguments, mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize(("length", "cut"), [(2, 1), (77, 33), (77, 64), (77, 76)])
def test_selective_scan_continues_theirs(mamba_ssm: Any, length: int, cut: int, dtype: torch.dtype) -> None:
    """Our scan, started from their state after the first part, gives their outputs and gradients of the whole."""
    theirs = partial(their_scan, mamba_ssm)

    def pieces(*arguments: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return tuple([t[:, piece] if t.dim() > 2 else t for t in arguments] for piece in (slice(cut), slice(cut, None)))

    def continued(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        beginning, rest = pieces(*arguments)
        with mamba_ssm.float64() if dtype == torch.float64 else nullcontext():
            state = theirs(*beginning)[1]
        return selective_scan(*rest, state)

    def whole(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        y, state = theirs(*arguments)
        return y[:, cut:], state

    assert_same_function(continued, whole, scan_inputs(length, dtype=dtype), mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize("groups", [1, 2])
def test_selective_scan_step_is_their_state_update(mamba_ssm: Any, groups: int, dtype: torch.dtype) -> None:
    """Their update has groups of heads only, so each of our groups is one of their heads."""
    x, dt, A, B, C, D, h = (t.to(dtype) for t in scan_inputs(5, 4, groups, with_state=True))
    heads = (groups, -1)
    theirs = h.unflatten(1, heads).clone()  # which they change in place
    for t in range(5):
        y, h = selective_scan_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, h)
        expected = mamba_ssm.selective_state_update_ref(
            theirs, x[:, t].unflatten(1, heads), dt[:, t].unflatten(1, heads), A.unflatten(0, heads), B[:, t], C[:, t],
            D.unflatten(0, heads),
        )  # fmt: skip
        assert_same([y, h], [expected.flatten(1), theirs.flatten(1, 2)])


# --- what surrounds the scan


@ALL_TYPES
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_gated_norm_is_theirs(mamba_ssm: Any, groups: int, dtype: torch.dtype) -> None:
    def ours(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        y, z, weight = (t.unflatten(-1, (groups, -1)) for t in (y, z, weight))
        return gated_rms_norm(y, z, weight).flatten(-2)

    def theirs(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return mamba_ssm.rms_norm_ref(
            y, weight, None, z, eps=EPSILON, group_size=weight.numel() // groups, norm_before_gate=False
        )

    arguments = [t.to(dtype) for t in (normal(2, 5, 12, seed=0), normal(2, 5, 12, seed=1), normal(12, seed=2))]
    assert_same_function(ours, theirs, arguments, mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize(
    ("with_state", "length", "width"), [(False, 1, 4), (False, 33, 2), (True, 1, 2), (True, 3, 4), (True, 33, 4)]
)
def test_causal_conv_is_theirs(mamba_ssm: Any, with_state: bool, length: int, width: int, dtype: torch.dtype) -> None:
    def theirs(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = mamba_ssm.causal_conv1d_ref(
            x.mT, weight, bias, None if state is None else state.mT, return_final_states=True, activation="silu"
        )
        return y.mT, state.mT

    arguments = [normal(2, length, 5, seed=0), normal(5, width, seed=1), normal(5, seed=2)]
    if with_state:
        arguments.append(normal(2, width - 1, 5, seed=3))
    assert_same_function(causal_conv, theirs, in_type(arguments, dtype), mamba_ssm.float64)


@pytest.mark.parametrize("width", [2, 4])
def test_causal_conv_step_is_their_update(mamba_ssm: Any, width: int) -> None:
    x, weight, bias = normal(2, 6, 5, seed=0), normal(5, width, seed=1), normal(5, seed=2)
    state = normal(2, width - 1, 5, seed=3)
    theirs = state.mT.clone()  # which they change in place
    for t in range(6):
        y, state = causal_conv_step(x[:, t], weight, bias, state)
        expected = mamba_ssm.causal_conv1d_update_ref(x[:, t], theirs, weight, bias, activation="silu")
        assert_same([y, state], [expected, theirs.mT])


# --- whole blocks

DIFFERENTIAL = partial(Difference, scope="block")
DIFFERENTIAL_SSM = partial(Difference, scope="ssm")


def assert_same_block(
    mixer: Mixer,
    theirs: Callable[[Tensor], Tensor],
    length: int,
    dtype: torch.dtype,
    float64: Callable[[], AbstractContextManager[None]],
) -> None:
    """`theirs` uses the weights of the mixer. Their gradients are compared, too."""
    torch.manual_seed(0)
    mixer.to(dtype)
    with torch.no_grad():
        for parameter in mixer.parameters():  # away from neutral values
            parameter.add_(0.2 * torch.randn_like(parameter))

    def outputs_and_all_gradients(block: Callable[[Tensor], Tensor]) -> list[Tensor]:
        mixer.zero_grad()
        x = normal(2, length, 8, seed=0).to(dtype).requires_grad_()
        y = block(x)
        (y * normal(*y.shape, seed=9)).sum().backward()
        return [y, *(leaf.grad for leaf in (x, *mixer.parameters()))]

    with float64() if dtype == torch.float64 else nullcontext():
        expected = outputs_and_all_gradients(theirs)
    assert_same(outputs_and_all_gradients(mixer), expected)


@PRECISE
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("combine", [Single, DIFFERENTIAL], ids=["vanilla", "two branches"])
@pytest.mark.parametrize("length", [1, 45])
def test_mamba2_is_their_block(
    mamba_ssm: Any, length: int, combine: Callable[..., Any], groups: int, dtype: torch.dtype
) -> None:
    """Two branches are one block of theirs with twice the groups, up to the combination, which is ours."""
    mixer = Mamba2(d_model=8, depth=3, headdim=4, d_state=3, groups=groups, combine=combine)

    def theirs(x: Tensor) -> Tensor:
        block = partial(
            mamba_ssm.mamba_split_conv1d_scan_ref,
            mixer.in_proj(x),
            mixer.conv1d.weight[:, 0],
            mixer.conv1d.bias,
            mixer.dt_bias,
            -torch.exp(mixer.A_log),
            mixer.D,
            chunk_size=16,
            rmsnorm_weight=mixer.norm.weight,
            rmsnorm_eps=EPSILON,
            headdim=mixer.headdim,
            ngroups=mixer.groups,
            norm_before_gate=False,
        )
        if combine is Single:
            return block(outproj_weight=mixer.out_proj.weight)
        return mixer.combine(block(), mixer.out_proj.weight)

    assert_same_block(mixer, theirs, length, dtype, mamba_ssm.float64)


@PRECISE
@pytest.mark.parametrize(
    "combine", [Single, DIFFERENTIAL, DIFFERENTIAL_SSM], ids=["vanilla", "two branches", "two branches that share"]
)
@pytest.mark.parametrize("length", [1, 45])
def test_mamba1_is_their_block(mamba_ssm: Any, length: int, combine: Callable[..., Any], dtype: torch.dtype) -> None:
    """Two branches are two blocks of theirs, up to output projection and combination, which are ours."""
    mixer = Mamba1(d_model=8, depth=3, d_state=3, combine=combine)

    def theirs(x: Tensor) -> Tensor:
        xs, zs = mixer.in_proj(x).mT.chunk(2, dim=1)
        branches = zip(
            *(t.chunk(mixer.branches, dim=1) for t in (xs, zs)),
            mixer.conv1d.weight.repeat(mixer.sharing, 1, 1).chunk(mixer.branches),
            mixer.conv1d.bias.repeat(mixer.sharing).chunk(mixer.branches),
            *(
                t.chunk(mixer.branches)
                for t in (mixer.x_proj.weight, mixer.dt_proj.weight, mixer.A_log, mixer.D, mixer.dt_proj.bias)
            ),
            strict=True,
        )
        no_projection = torch.eye(zs.shape[1] // mixer.branches, dtype=dtype)
        us = [
            mamba_ssm.mamba_inner_ref(
                torch.cat([x, z], dim=1), *convolution_and_projections, no_projection, None, -torch.exp(A_log), D=D,
                delta_bias=dt_bias,
            )
            for x, z, *convolution_and_projections, A_log, D, dt_bias in branches
        ]  # fmt: skip
        return mixer.combine(torch.cat(us, dim=-1), mixer.out_proj.weight)

    assert_same_block(mixer, theirs, length, dtype, mamba_ssm.float64)
