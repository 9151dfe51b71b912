"""Lyapunov exponents: of maps whose exponents are known, and of mixers against explicit Jacobians in float64."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import jacobian

from diffmamba.measures.exponents import benettin, half_life, of_scan
from diffmamba.mixers import Difference, Mamba1, Mamba2, Single

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))
MIXERS = {
    f"{name} {how}": partial(mixer, combine=combine)
    for name, mixer in {"mamba1": partial(Mamba1, 8, 3, 3), "mamba2": partial(Mamba2, 8, 3, 4, 3)}.items()
    for how, combine in {"vanilla": Single, "block": BLOCK, "ssm": SSM}.items()
}
OF_TWO = {name: build for name, build in MIXERS.items() if "vanilla" not in name}
EVERY_MIXER = pytest.mark.parametrize("build", MIXERS.values(), ids=MIXERS)
LENGTH = 5


# --- the growth of a small difference


@pytest.mark.parametrize("radius", [1.3, 0.8])
def test_a_linear_map_has_the_logarithm_of_its_spectral_radius(radius):
    """Around its fixed point; once with a complex pair of largest eigenvalues, whose direction never settles."""
    for seed, real in ((3, False), (5, True)):
        draw = torch.Generator().manual_seed(seed)
        matrix = torch.randn(4, 4, generator=draw, dtype=torch.float64)
        eigenvalues = torch.linalg.eigvals(matrix)
        largest = eigenvalues[eigenvalues.abs().argmax()]
        assert (largest.imag.item() == 0) == real
        matrix *= radius / largest.abs()
        start = torch.zeros(2, 4, dtype=torch.float64)
        growth = benettin(lambda x, matrix=matrix: x @ matrix.T, start, steps=3000, settle=100, size=1e-3, draw=draw)
        assert growth.shape == (3000, 2)
        assert growth.mean(0).tolist() == pytest.approx([math.log(radius)] * 2, abs=5e-4)


@pytest.mark.parametrize(("r", "exponent"), [(4.0, math.log(2)), (3.2, math.log(0.16) / 2), (2.5, math.log(0.5))])
@pytest.mark.parametrize("every", [1, 3])
def test_the_logistic_map_has_its_exponent(r, exponent, every):
    """Chaos, a cycle of two, and a fixed point: (4 + 2 r - r²) is the slope of two steps of the cycle, 2 - r of one."""
    start = torch.linspace(0.1, 0.45, 50, dtype=torch.float64)[:, None]
    growth = benettin(lambda x: r * x * (1 - x), start, steps=3000, every=every, settle=300, size=1e-8)
    assert growth.mean().item() == pytest.approx(exponent, abs=1e-3)
    assert len(growth) == 3000 // every


def test_a_difference_that_is_forgotten_at_once_has_a_large_negative_exponent():
    growth = benettin(lambda x: torch.zeros_like(x), torch.ones(2, 3, dtype=torch.float64), steps=5)
    assert torch.isfinite(growth).all()
    assert (growth < -30).all()


def test_half_lives():
    assert half_life(-math.log(2) / 10) == pytest.approx(10)
    assert half_life(0.0) == half_life(0.1) == math.inf


# --- the states of a mixer


@EVERY_MIXER
def test_they_are_the_log_norms_of_the_product_of_explicit_jacobians(build):
    """∂h_T/∂h_0 by PyTorch, one step after the other: diagonal, and its entries are exp(T · exponent)."""
    torch.manual_seed(0)
    mixer, x = build().double(), torch.randn(1, LENGTH, 8, dtype=torch.float64)
    conv, h = (torch.randn_like(part) for part in mixer.allocate_state(1))
    product, before = torch.eye(h.numel(), dtype=torch.float64), (conv, h)
    for t in range(LENGTH):
        of_h = jacobian(lambda h, t=t, conv=conv: mixer.step(x[:, t], (conv, h))[1][1], h)
        product = of_h.reshape(h.numel(), h.numel()) @ product
        conv, h = (part.detach() for part in mixer.step(x[:, t], (conv, h))[1])
    exponents = of_scan(mixer, mixer.time_steps(x, before).mean((0, 1)))
    assert exponents.shape[0] == mixer.branches
    each = exponents.flatten().repeat_interleave(h.numel() // exponents.numel())
    torch.testing.assert_close(product, torch.diag(torch.exp(LENGTH * each)), rtol=0, atol=1e-12)
    norm = torch.linalg.matrix_norm(product, 2).log() / LENGTH
    assert exponents.max().item() == pytest.approx(norm.item(), abs=1e-10)


@EVERY_MIXER
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.floats(0, 1e4),
    bias=st.sampled_from([-1e3, -200.0, -20.0, 0.0, 50.0, 1e4]),
    log=st.floats(-30, 30),
)
@torch.no_grad()
def test_none_is_above_0_whatever_weights_and_inputs_are(build, seed, size, bias, log):
    torch.manual_seed(seed % 2**31)
    mixer = build()
    for weight in mixer.parameters():
        weight.copy_(torch.randn_like(weight) * size)
    (mixer.dt_bias if isinstance(mixer, Mamba2) else mixer.dt_proj.bias).fill_(bias)
    mixer.A_log.copy_(torch.rand_like(mixer.A_log) + log)
    exponents = of_scan(mixer, mixer.time_steps(torch.randn(2, 7, 8) * size).mean((0, 1)))
    assert not torch.isnan(exponents).any()
    assert (exponents <= 0).all()
    if size == 0 and bias <= -200:  # dt underflows in float32: nothing is forgotten
        assert (exponents == 0).all()


@pytest.mark.parametrize("build", OF_TWO.values(), ids=OF_TWO)
@torch.no_grad()
def test_the_subtraction_changes_no_state(build):
    torch.manual_seed(0)
    mixer, x = build(), torch.randn(2, 9, 8)
    y, states = mixer.extend(x, mixer.allocate_state(2))
    mixer.combine.weight.bar += 3
    other, others = mixer.extend(x, mixer.allocate_state(2))
    assert (y - other).abs().max() > 1e-3
    assert all(torch.equal(one, two) for one, two in zip(states, others, strict=True))
