"""The arguments that operators give to the CUDA kernels of mamba-ssm and causal-conv1d, tested without a GPU.

A stand-in replaces each kernel. It has the kernel's signature, checks types, shapes and memory as the kernel does, and
then calls mamba-ssm's own reference. If operators and mixers give the same results with stand-ins as with PyTorch, only
the kernels themselves are left to test on a GPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients, selective_arguments, ssd_arguments
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer
from diffmamba.ops import backend, causal_conv, conv_scan_norm, gated_rms_norm, selective_scan, ssd

VECTOR = 8  # numbers that causal-conv1d loads at a time in the layout with channels last
NO_LIMIT = (0.0, float("inf"))
NARROW = (torch.float32, torch.bfloat16, torch.float16)


class StandIns:
    """Stand-ins by the kernels' names in `backend`; `calls` lists the names of those called."""

    def __init__(self, references: Any):
        self.references = references
        self.calls: list[str] = []

    def kernel(self, name: str, tensor: Tensor) -> Callable[..., Any]:
        assert name in backend.KERNELS

        def call(*arguments: Any, **settings: Any) -> Any:
            self.calls.append(name)
            with torch.autocast("cpu", enabled=False):
                return getattr(self, name)(*arguments, **settings)

        return call

    def chunk_scan(
        self, x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
        cu_seqlens=None, dt_softplus=False, dt_limit=NO_LIMIT, return_final_states=False, return_varlen_states=False,
    ):  # fmt: skip
        batch, length, heads, headdim = x.shape
        assert (z, dt_bias, seq_idx, cu_seqlens, dt_softplus, dt_limit) == (None, None, None, None, False, NO_LIMIT)
        assert return_final_states
        assert not return_varlen_states
        assert dt.shape == (batch, length, heads)
        assert A.shape == D.shape == (heads,)
        assert B.shape == C.shape == (batch, length, *B.shape[2:])
        assert heads % B.shape[2] == 0
        assert chunk_size >= 16
        assert chunk_size.bit_count() == 1  # a power of 2
        assert x.dtype in NARROW
        assert B.dtype == C.dtype == x.dtype
        assert A.dtype == D.dtype == torch.float32
        dtype, x, dt, B, C = x.dtype, x.float(), dt.float(), B.float(), C.float()
        h = x.new_zeros(batch, heads, headdim, B.shape[3]) if initial_states is None else initial_states.float()
        assert h.shape == (batch, heads, headdim, B.shape[3])
        dt = dt[:, None].permute(0, 3, 1, 2)  # all of the length as one chunk
        s = (dt * A[:, None, None]).cumsum(-1)
        added = self.references.chunk_state_ref(B, x, dt, s)
        entering, final = self.references.state_passing_ref(added.flatten(-2), s[..., -1], h.flatten(-2))
        entering, final = (states.unflatten(-1, h.shape[-2:]) for states in (entering, final))
        return self.references.chunk_scan_ref(B, C, x, dt, s, entering, D=D).to(dtype), final

    def split_scan(
        self, zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, chunk_size, initial_states=None, seq_idx=None,
        dt_limit=NO_LIMIT, return_final_states=False, activation="silu", rmsnorm_weight=None, rmsnorm_eps=1e-6,
        outproj_weight=None, outproj_bias=None, headdim=None, ngroups=1, norm_before_gate=True,
    ):  # fmt: skip
        assert (initial_states, seq_idx, dt_limit, return_final_states) == (None, None, NO_LIMIT, False)
        assert (outproj_weight, outproj_bias) == (None, None)
        assert chunk_size >= 16
        assert chunk_size.bit_count() == 1
        assert zxbcdt.dtype in NARROW
        assert A.dtype == D.dtype == dt_bias.dtype == torch.float32
        assert conv1d_weight.dtype == conv1d_bias.dtype
        (heads,) = A.shape
        inner = heads * headdim
        assert dt_bias.shape == D.shape == (heads,)
        assert rmsnorm_weight.shape == (inner,)
        assert conv1d_weight.shape[0] % VECTOR == 0  # its own `ensure_stride`
        assert zxbcdt.stride(-1) == 1
        start = zxbcdt[..., inner:]  # of the convolution's input
        assert not any(n % VECTOR for n in (*start.stride()[:2], start.storage_offset()))
        assert not norm_before_gate
        return self.references.mamba_split_conv1d_scan_ref(
            zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, chunk_size, activation=activation,
            rmsnorm_weight=rmsnorm_weight, rmsnorm_eps=rmsnorm_eps, headdim=headdim, ngroups=ngroups,
            norm_before_gate=norm_before_gate,
        )  # fmt: skip

    def gated_norm(self, x, weight, bias, z=None, eps=1e-6, group_size=None, norm_before_gate=True):
        assert z.shape == x.shape
        assert weight.shape == x.shape[-1:]
        assert x.shape[-1] % group_size == 0
        assert x.dtype in NARROW
        return self.references.rms_norm_ref(
            x, weight, bias, z=z, eps=eps, group_size=group_size, norm_before_gate=norm_before_gate
        )

    def selective_scan(
        self, u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        batch, channels, length = u.shape
        assert (z, delta_bias, delta_softplus) == (None, None, False)
        assert return_last_state
        assert delta.shape == u.shape
        assert A.shape == (channels, B.shape[2])
        assert D.shape == (channels,)
        assert B.shape == C.shape == (batch, B.shape[1], A.shape[1], length)
        assert channels % B.shape[1] == 0
        assert u.dtype in NARROW
        assert delta.dtype == B.dtype == C.dtype == u.dtype
        assert A.dtype == D.dtype == torch.float32
        assert all(t.stride(-1) == 1 or length == 1 for t in (u, delta, B, C))
        y, final = self.references.selective_scan_ref(u, delta, A, B, C, D, return_last_state=True)
        return y, final.detach()  # the kernel gives no gradient for it

    def conv(
        self, x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False,
        final_states_out=None, activation=None,
    ):  # fmt: skip
        batch, channels, _ = x.shape
        assert (seq_idx, return_final_states, final_states_out) == (None, False, None)
        assert activation in (None, "silu", "swish")
        assert weight.shape == (channels, weight.shape[1])
        assert 2 <= weight.shape[1] <= 4
        assert bias.shape == (channels,)
        assert bias.dtype == weight.dtype
        assert x.dtype in NARROW
        assert x.stride(1) == 1  # channels last, which is the only layout that starts from states
        assert not any(n % VECTOR for n in (channels, x.stride(0), x.stride(2), x.storage_offset()))
        if initial_states is not None:
            assert initial_states.shape == (batch, channels, weight.shape[1] - 1)
            assert initial_states.dtype == x.dtype
            assert initial_states.stride(1) == 1
        return self.references.causal_conv1d_ref(x, weight, bias, initial_states=initial_states, activation=activation)


@pytest.fixture
def kernels(mamba_ssm: Any, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    stand_ins = StandIns(mamba_ssm)
    monkeypatch.setattr(backend, "kernel", stand_ins.kernel)
    return stand_ins


def draw(*shape: int, seed: int) -> Tensor:
    return normal(*shape, seed=seed).float()


def by_torch(function: Callable[..., Any], arguments: list[Tensor]) -> list[Tensor]:
    """Outputs and gradients by PyTorch's operators, whatever the kernels."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend, "kernel", lambda name, tensor: None)
        return outputs_and_gradients(function, arguments)


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 2e-5) -> None:
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert_close(found, expected, tolerance, least=1e-2)  # for one position without a state, the gradient of A is zero


def assert_kernel_is_path(
    kernels: StandIns, called: list[str], function: Callable[..., Any], arguments: list[Tensor], tolerance: float = 2e-5
) -> None:
    """The same outputs and gradients by the kernels and, in float32, by PyTorch."""
    found = outputs_and_gradients(function, arguments)
    assert kernels.calls == called
    expected = by_torch(function, arguments)
    assert kernels.calls == called
    assert expected[0].any()
    assert_same(found, expected, tolerance)


# --- operators

STATES = pytest.mark.parametrize("with_state", [False, True], ids=["from zeros", "from a state"])
LENGTHS = pytest.mark.parametrize(
    ("length", "groups", "dtype", "tolerance"),
    [
        (1, 4, torch.float32, 2e-5),
        (3, 2, torch.bfloat16, 3e-2),
        (37, 1, torch.float32, 2e-5),
        (37, 4, torch.bfloat16, 3e-2),
    ],
)


def in_mixed_types(arguments: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """As mixers in bfloat16 or under autocast call a scan: dt, A, D and the state stay in float32."""
    x, dt, A, B, C, D, h = arguments
    return [x.to(dtype), dt.float() / 10, A.float(), B.to(dtype), C.to(dtype), D.float(), h.float()]


@STATES
@LENGTHS
def test_ssd(
    kernels: StandIns, length: int, groups: int, with_state: bool, dtype: torch.dtype, tolerance: float
) -> None:
    arguments = in_mixed_types(ssd_arguments(length, groups=groups), dtype)
    assert_kernel_is_path(kernels, ["chunk_scan"], ssd, arguments[: 6 + with_state], tolerance)


def scan_output(*arguments: Tensor) -> Tensor:
    return selective_scan(*arguments)[0]


@LENGTHS
def test_selective_scan(kernels: StandIns, length: int, groups: int, dtype: torch.dtype, tolerance: float) -> None:
    arguments = in_mixed_types(selective_arguments(length, groups=groups), dtype)[:6]
    assert_kernel_is_path(kernels, ["selective_scan"], scan_output, arguments, tolerance)
    with torch.no_grad():
        found = [*selective_scan(*arguments), *selective_scan(*arguments, torch.zeros(2, 4, 5))]
    assert kernels.calls == ["selective_scan"] * 3
    expected = by_torch(selective_scan, arguments)[:2]
    assert_same(found, [*expected, *expected], tolerance)


def test_selective_scan_takes_no_kernel_where_that_would_lose_a_state_or_its_gradient(kernels: StandIns) -> None:
    *arguments, state = in_mixed_types(selective_arguments(9))
    assert_kernel_is_path(kernels, [], selective_scan, [*arguments, state])
    assert_kernel_is_path(kernels, [], selective_scan, [*arguments, torch.zeros_like(state)])
    with torch.no_grad():
        selective_scan(*arguments, state)
    assert kernels.calls == []


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
@pytest.mark.parametrize("groups", [1, 3])
def test_gated_norm(kernels: StandIns, groups: int, shared: bool) -> None:
    weight = draw(4, seed=2) if shared else draw(groups, 4, seed=2)
    arguments = [draw(2, 5, groups, 4, seed=0), draw(2, 5, groups, 4, seed=1), weight]
    assert_kernel_is_path(kernels, ["gated_norm"], gated_rms_norm, arguments)


@STATES
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 3), (3, 4), (37, 2), (37, 4)])
def test_conv(kernels: StandIns, length: int, width: int, with_state: bool) -> None:
    arguments = [draw(2, length, 8, seed=0), draw(8, width, seed=1), draw(8, seed=2)]
    arguments += [draw(2, width - 1, 8, seed=3)] if with_state else []
    function = causal_conv if with_state else lambda *leaves: causal_conv(*leaves)[0]
    assert_kernel_is_path(kernels, ["conv"], function, arguments)


@pytest.mark.parametrize(("channels", "width"), [(12, 4), (8, 5), (8, 1)])
def test_conv_without_a_fitting_kernel(kernels: StandIns, channels: int, width: int) -> None:
    arguments = [draw(2, 9, channels, seed=0), draw(channels, width, seed=1), draw(channels, seed=2)]
    assert_kernel_is_path(kernels, [], lambda *leaves: causal_conv(*leaves)[0], arguments)


@pytest.mark.parametrize(
    ("width", "part"), [(16, slice(0, 8)), (16, slice(3, 11)), (16, slice(0, 16, 2)), (19, slice(8, 16))], ids=str
)
def test_conv_of_a_slice(kernels: StandIns, width: int, part: slice) -> None:
    """The stand-in refuses addresses and strides that do not allow loads of eight numbers at a time."""
    arguments = [draw(2, 9, width, seed=0), draw(8, 4, seed=1), draw(8, seed=2)]
    function = lambda wide, *rest: causal_conv(wide[..., part], *rest)[0]  # noqa: E731
    assert_kernel_is_path(kernels, ["conv"], function, arguments)


# --- mixers

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))
MIXERS: dict[str, Callable[..., Mixer]] = {
    "vanilla Mamba-2": partial(Mamba2, headdim=4, d_state=8),
    "Diff-Mamba, two groups each": partial(Mamba2, headdim=4, d_state=8, groups=2, combine=BLOCK),
    "Diff-S6, two groups each": partial(Mamba2, headdim=4, d_state=8, groups=2, combine=SSM),
    "vanilla Mamba-1": partial(Mamba1, d_state=4),
    "Diff-S6 of Mamba-1": partial(Mamba1, d_state=4, combine=SSM),
}
EVERY_MIXER = pytest.mark.parametrize("name", MIXERS)
D_MODEL = 16


def built(name: str, **changes: Any) -> Mixer:
    """A mixer with every parameter moved away from its initial value."""
    torch.manual_seed(0)
    mixer = MIXERS[name](d_model=D_MODEL, depth=2, **changes)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixer


def by_parameters(mixer: Mixer, call: Callable[[Tensor], Any]) -> tuple[Callable[..., Any], list[Tensor]]:
    """The mixer as a function of x and its parameters, and the values of its parameters."""
    names = [name for name, _ in mixer.named_parameters()]

    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = mixer

        def forward(self, x: Tensor) -> Any:
            return call(x)

    module = Called()

    def function(x: Tensor, *values: Tensor) -> Any:
        weights = {f"mixer.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(module, weights, (x,))

    return function, list(mixer.parameters())


@EVERY_MIXER
@pytest.mark.parametrize("length", [1, 45])
def test_forward(kernels: StandIns, length: int, name: str) -> None:
    mixer = built(name)
    function, weights = by_parameters(mixer, mixer)
    called = ["split_scan"] if isinstance(mixer, Mamba2) else ["conv", "selective_scan"]
    assert_kernel_is_path(kernels, called, function, [draw(2, length, D_MODEL, seed=0), *weights], 5e-5)


@EVERY_MIXER
def test_extend(kernels: StandIns, name: str) -> None:
    """From a state on, the kernels of the parts are called one by one."""
    mixer = built(name)

    def twice(x: Tensor) -> Tensor:
        first, state = mixer.extend(x[:, :12], mixer.allocate_state(2))
        second, (conv, h) = mixer.extend(x[:, 12:], state)
        return torch.cat([first, second], dim=1), conv, h

    function, weights = by_parameters(mixer, twice)
    called = ["conv", "chunk_scan", "gated_norm"] if isinstance(mixer, Mamba2) else ["conv"]
    assert_kernel_is_path(kernels, called * 2, function, [draw(2, 45, D_MODEL, seed=0), *weights], 5e-5)


@EVERY_MIXER
@torch.no_grad()
def test_a_prompt_is_read_and_gone_on_with(kernels: StandIns, name: str) -> None:
    mixer, x = built(name), draw(2, 45, D_MODEL, seed=0)
    y, state = mixer.extend(x[:, :40], mixer.allocate_state(2))
    steps = []
    for t in range(40, 45):
        step, state = mixer.step(x[:, t], state)
        steps.append(step)
    prompt = ["conv", "chunk_scan", "gated_norm"] if isinstance(mixer, Mamba2) else ["conv", "selective_scan"]
    assert kernels.calls[: len(prompt)] == prompt
    assert set(kernels.calls[len(prompt) :]) <= {"gated_norm"}  # a step uses it, too
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend, "kernel", lambda name, tensor: None)
        expected = mixer(x)
    assert_same([torch.cat([y, torch.stack(steps, dim=1)], dim=1)], [expected], 5e-5)


@EVERY_MIXER
@pytest.mark.parametrize("autocast", [False, True], ids=["in bfloat16", "under autocast"])
def test_narrow_types(kernels: StandIns, name: str, autocast: bool) -> None:
    mixer = built(name)
    x = draw(2, 20, D_MODEL, seed=0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend, "kernel", lambda name, tensor: None)
        expected = mixer(x)
    if not autocast:
        mixer, x = mixer.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = mixer(x)
        with torch.no_grad():
            first, state = mixer.extend(x[:, :12], mixer.allocate_state(2))
            second, _ = mixer.extend(x[:, 12:], state)
    for found in (y, torch.cat([first, second], dim=1)):
        assert (found - expected).abs().max() <= 0.05 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())
    assert kernels.calls


@pytest.mark.parametrize(
    "sizes",
    [
        {"headdim": 16},  # 2 heads: the projection's width is no multiple of 8
        {"headdim": 4, "d_state": 3},  # nor is the convolution's
    ],
    ids=str,
)
def test_without_a_fitting_kernel_the_block_goes_step_by_step(kernels: StandIns, sizes: dict[str, int]) -> None:
    mixer = built("vanilla Mamba-2", **sizes)
    function, weights = by_parameters(mixer, mixer)
    called = ["conv"] * (sizes.get("d_state") != 3) + ["chunk_scan", "gated_norm"]
    assert_kernel_is_path(kernels, called, function, [draw(2, 20, D_MODEL, seed=0), *weights], 5e-5)


@pytest.mark.parametrize("width", [1, 5])
def test_the_block_is_not_taken_for_widths_without_a_convolution(kernels: StandIns, width: int) -> None:
    arguments = [draw(2, 9, 56, seed=0), draw(32, width, seed=1), draw(32, seed=2), draw(8, seed=3)]
    assert conv_scan_norm(*arguments, -torch.ones(8), torch.ones(8), torch.ones(16), 2, 1) is None
    assert kernels.calls == []


def test_the_block_is_not_taken_where_its_convolution_would_start_between_two_loads(kernels: StandIns) -> None:
    """Widths of 40 and 24 are multiples of 8, the 12 numbers of z before the convolution's input are not."""
    heads, headdim, d_state = 4, 3, 6
    arguments = [draw(2, 9, 40, seed=0), draw(24, 4, seed=1), *(draw(n, seed=n) for n in (24, heads))]
    found = conv_scan_norm(*arguments, -torch.ones(heads), torch.ones(heads), torch.ones(12), headdim, 1)
    assert 2 * 12 + 2 * d_state + heads == 40
    assert found is None
    assert kernels.calls == []
