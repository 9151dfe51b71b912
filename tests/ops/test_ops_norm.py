"""The norms against their formulas, group by group."""

import math
from collections.abc import Callable

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients
from torch import Tensor

from diffmamba.ops import backend, gated_rms_norm, rms_norm

EPSILON = 1e-5  # the paper's and mamba-ssm's


@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["usual", "as small as epsilon"])
def test_rms_norm_is_its_formula(size: float) -> None:
    x, weight = normal(3, 7, seed=0) * size, normal(7, seed=1)
    expected = torch.stack([row / math.sqrt(sum(v**2 for v in row.tolist()) / 7 + EPSILON) * weight for row in x])
    torch.testing.assert_close(rms_norm(x, weight), expected, rtol=1e-12, atol=1e-12)


def written(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """The formula: the gate comes first, and each group is normalised by itself."""
    gated = y * z / (1 + torch.exp(-z))
    return gated / (gated.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight


def norm_arguments(groups: int = 2, shared: bool = False) -> list[Tensor]:
    weight = normal(6, seed=2) if shared else normal(groups, 6, seed=2)
    return [normal(2, 5, groups, 6, seed=0), normal(2, 5, groups, 6, seed=1), weight]


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
@pytest.mark.parametrize(("groups", "size"), [(1, 1.0), (2, 1e-3), (3, 1.0)], ids=str)  # 1e-3: as small as epsilon
def test_gated_norm_and_its_gradients_are_those_of_the_formula(size: float, groups: int, shared: bool) -> None:
    y, z, weight = norm_arguments(groups, shared)
    arguments = [y * size, z, weight]
    assert_close(outputs_and_gradients(gated_rms_norm, arguments), outputs_and_gradients(written, arguments), 1e-10)


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
def test_gradients_are_those_of_finite_differences(shared: bool) -> None:
    y, z, weight = norm_arguments(2, shared)
    leaves = [t[..., :3].contiguous().requires_grad_() for t in (y[:, :2], z[:, :2], weight)]
    assert torch.autograd.gradcheck(gated_rms_norm, leaves)


@pytest.mark.parametrize("wanted", range(3))
def test_each_gradient_alone_is_what_it_is_among_all(wanted: int) -> None:
    leaves = norm_arguments()
    leaf = leaves[wanted].requires_grad_()
    found, expected = (torch.autograd.grad(norm(*leaves).sum(), leaf)[0] for norm in (gated_rms_norm, written))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_slice_of_a_wider_tensor_will_do() -> None:
    """z is a slice of the mixer's projected input, whose memory must stay as it is."""
    y, z, weight = norm_arguments()
    both = torch.cat([y, z], dim=-1)
    kept = both.clone()
    found, expected = (
        outputs_and_gradients(lambda both, norm=norm: norm(*both.split(6, dim=-1), weight), [both])
        for norm in (gated_rms_norm, written)
    )
    assert_close(found, expected, 1e-10)
    assert torch.equal(both, kept)


def written_plain(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lacking", [None, 0, -1], ids=["all", "all but the first", "all but the weight"])
@pytest.mark.parametrize(("norm", "formula"), [(gated_rms_norm, written), (rms_norm, written_plain)])
def test_second_derivatives_are_those_of_the_formula(
    norm: Callable[..., Tensor], formula: Callable[..., Tensor], lacking: int | None, dtype: torch.dtype
) -> None:
    """PyTorch's operators compute them."""
    y, z, weight = (t.to(dtype) for t in norm_arguments())

    def twice(norm: Callable[..., Tensor], *leaves: Tensor) -> list[Tensor]:
        for leaf in leaves:
            leaf.requires_grad_()
        if lacking is not None:
            leaves[lacking].requires_grad_(False)
        chosen = [leaf for leaf in leaves if leaf.requires_grad]
        slopes = torch.autograd.grad(norm(*leaves).pow(3).sum(), chosen, create_graph=True)
        return list(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), chosen))

    given = (y, z, weight) if norm is gated_rms_norm else (y, weight[0].clone())
    wide = [t.double() for t in given]
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 1e-1}[dtype]
    assert_close(twice(norm, *given), twice(formula, *wide), tolerance)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("norm", "formula"), [(gated_rms_norm, written), (rms_norm, written_plain)])
def test_transformations_of_functions_take_them(norm: Callable[..., Tensor], formula: Callable[..., Tensor]) -> None:
    y, z, weight = (t.float() for t in norm_arguments())
    given = (y, z, weight) if norm is gated_rms_norm else (y, weight[0])
    towards = tuple(normal(*t.shape, seed=9).float() for t in given)
    for transform in (
        lambda f: torch.func.jvp(f, given, towards)[1],
        lambda f: torch.autograd.functional.jvp(f, given, towards)[1],
        lambda f: torch.func.grad(lambda *a: f(*a).square().sum())(*given),
        lambda f: torch.func.vmap(f, (0, *[None] * (len(given) - 1)))(*given),
    ):
        torch.testing.assert_close(transform(norm), transform(formula))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    "norm",
    [
        lambda x: gated_rms_norm(x[..., :4], x[..., 4:], torch.ones(4)),
        lambda x: gated_rms_norm(x, 2 * x, torch.ones(8)),
        lambda x: gated_rms_norm(x, x, torch.ones(8)),
        lambda x: gated_rms_norm(x[..., :4].contiguous(), x[..., 4:].contiguous(), x[0, 0, :4]),
        lambda x: rms_norm(x[..., :4], torch.ones(4)),
        lambda x: rms_norm(x, x[0, 0]),
    ],
    ids=["slices", "a gate of y", "one tensor", "a weight of y", "a slice", "a weight of x"],
)
def test_arguments_that_come_from_one_another(norm: Callable[[Tensor], Tensor]) -> None:
    """Where a graph is wanted, the gradient of an argument is not that of another one which depends on it."""
    x = normal(3, 2, 8, seed=0).float()

    def twice() -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        between = leaf * 1
        (slope,) = torch.autograd.grad(norm(between).pow(3).sum(), leaf, create_graph=True)
        return [slope.detach(), *torch.autograd.grad(slope.square().sum(), leaf)]

    with backend.use("definition"):
        expected = twice()
    assert_close(twice(), expected, 1e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("zero", ["y", "z", "y and z"])
def test_zeros_stay_finite(zero: str) -> None:
    y, z, weight = (t.float() for t in norm_arguments())
    y, z = (torch.zeros_like(t) if name in zero else t for name, t in (("y", y), ("z", z)))
    found = outputs_and_gradients(gated_rms_norm, [y, z, weight])
    assert not found[0].any()
    assert all(t.isfinite().all() for t in found)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", [1.0, 1e-18, 1e15])
def test_float32_is_close_to_float64_also_near_the_ends_of_its_range(size: float) -> None:
    y, z, weight = (t.float() for t in norm_arguments())
    arguments = [y * size, z, weight]
    found = outputs_and_gradients(gated_rms_norm, arguments)
    assert {t.dtype for t in found} == {torch.float32}
    assert_close(found, outputs_and_gradients(written, [t.double() for t in arguments]), 1e-6 if size == 1 else 1e-5)


@pytest.mark.usefixtures("path")
def test_autocast_changes_nothing_where_all_is_wide() -> None:
    def under_autocast(*leaves: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return gated_rms_norm(*leaves)

    arguments = [t.float() for t in norm_arguments()]
    both = zip(
        outputs_and_gradients(under_autocast, arguments), outputs_and_gradients(gated_rms_norm, arguments), strict=True
    )
    assert all(torch.equal(one, other) for one, other in both)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("narrow", [(0,), (1,), (2,), (0, 1, 2)], ids=lambda i: " ".join("yzw"[k] for k in i))
def test_narrow_and_wide_arguments_mix(narrow: tuple[int, ...]) -> None:
    """Under autocast z comes in bfloat16, y and the gain in float32; a mixer in bfloat16 has all three narrow."""
    arguments = [t.to(torch.bfloat16 if i in narrow else torch.float32) for i, t in enumerate(norm_arguments())]
    found = outputs_and_gradients(gated_rms_norm, arguments)
    assert [t.dtype for t in found[1:]] == [t.dtype for t in arguments]
    assert_close(found, outputs_and_gradients(written, [t.double() for t in arguments]), 2e-2)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_statistics_of_narrow_types_are_wide(dtype: torch.dtype) -> None:
    x = (normal(4, 64, seed=0) * 1000).to(dtype)  # squares overflow float16
    found = rms_norm(x, torch.ones(64, dtype=dtype))
    assert found.dtype == dtype
    wide = x.double()
    torch.testing.assert_close(found.double(), wide / wide.square().mean(-1, keepdim=True).sqrt(), rtol=1e-2, atol=1e-2)
