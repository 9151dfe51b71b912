"""The operators and mixers by the kernels of mamba-ssm and causal-conv1d, on a CPU: what `triton_on_cpu` arranges.

`test_ops_kernels.py` runs this file in a process of its own. The interpreter takes about 50 ms for each chunk of each
head, so the inputs are small. It does not know bfloat16, so float16 stands for the narrow types.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients, selective_arguments, ssd_arguments, ssd_recurrence
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer
from diffmamba.ops import backend, causal_conv, conv_scan_norm, gated_rms_norm, selective_scan, ssd

Names = list[str]


def draw(*shape: int, seed: int) -> Tensor:
    return normal(*shape, seed=seed).float()


def assert_kernel_is_path(
    called: Names, names: Names, function: Callable[..., Any], arguments: list[Tensor], tolerance: float = 2e-5
) -> None:
    """The same outputs and gradients by these kernels and, in float32, by PyTorch."""
    found = outputs_and_gradients(function, arguments)
    assert called == names
    assert found[0].dtype == arguments[0].dtype
    with backend.use("torch"):
        expected = outputs_and_gradients(function, [argument.float() for argument in arguments])
    assert called == names
    assert expected[0].any()
    assert_close(found, expected, tolerance, least=1e-2)  # for one position without a state, the gradient of A is zero


# --- operators

STATES = pytest.mark.parametrize("with_state", [False, True], ids=["from zeros", "from a state"])


def in_mixed_types(arguments: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """As mixers in float16 or under autocast call a scan: dt, A, D and the state stay in float32."""
    x, dt, A, B, C, D, h = arguments
    return [x.to(dtype), dt.float() / 10, A.float(), B.to(dtype), C.to(dtype), D.float(), h.float()]


@pytest.mark.parametrize(
    ("batch", "length", "heads", "groups", "with_state"),
    [(2, 1, 4, 4, False), (1, 16, 2, 2, True), (2, 37, 2, 1, True)],
)
def test_ssd(called: Names, batch: int, length: int, heads: int, groups: int, with_state: bool) -> None:
    arguments = in_mixed_types(ssd_arguments(length, heads, groups, batch))[: 6 + with_state]
    found = outputs_and_gradients(ssd, arguments)
    assert called == ["chunk_scan"]
    expected = outputs_and_gradients(ssd_recurrence, [argument.double() for argument in arguments])
    assert_close(found, expected, 2e-6, least=1e-2)


def scan_output(*arguments: Tensor) -> Tensor:
    return selective_scan(*arguments)[0]


@pytest.mark.parametrize(
    ("length", "groups", "dtype", "tolerance"),
    [(1, 4, torch.float32, 2e-5), (37, 1, torch.float32, 2e-5), (37, 4, torch.bfloat16, 3e-2)],
)
def test_selective_scan(called: Names, length: int, groups: int, dtype: torch.dtype, tolerance: float) -> None:
    arguments = in_mixed_types(selective_arguments(length, groups=groups), dtype)[:6]
    assert_kernel_is_path(called, ["selective_scan"], scan_output, arguments, tolerance)
    with torch.no_grad():
        found = [*selective_scan(*arguments), *selective_scan(*arguments, torch.zeros(2, 4, 5))]
    assert called == ["selective_scan"] * 3
    with backend.use("torch"), torch.no_grad():
        expected = selective_scan(*arguments)
    assert_close(found, [*expected, *expected], tolerance)


def test_selective_scan_takes_no_kernel_where_that_would_lose_a_state_or_its_gradient(called: Names) -> None:
    *arguments, state = in_mixed_types(selective_arguments(9))
    assert_kernel_is_path(called, [], selective_scan, [*arguments, state])
    assert_kernel_is_path(called, [], selective_scan, [*arguments, torch.zeros_like(state)])
    with torch.no_grad():
        selective_scan(*arguments, state)
    assert called == []


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
@pytest.mark.parametrize("groups", [1, 3])
def test_gated_norm(called: Names, groups: int, shared: bool) -> None:
    weight = draw(5, seed=2) if shared else draw(groups, 5, seed=2)
    arguments = [draw(2, 7, groups, 5, seed=0), draw(2, 7, groups, 5, seed=1), weight]
    assert_kernel_is_path(called, ["gated_norm"], gated_rms_norm, arguments, 2e-6)


@STATES
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 3), (3, 4), (37, 2), (37, 4)])
def test_conv(called: Names, length: int, width: int, with_state: bool) -> None:
    arguments = [draw(2, length, 8, seed=0), draw(8, width, seed=1), draw(8, seed=2)]
    arguments += [draw(2, width - 1, 8, seed=3)] if with_state else []
    function = causal_conv if with_state else lambda *leaves: causal_conv(*leaves)[0]
    assert_kernel_is_path(called, ["conv"], function, arguments)


@pytest.mark.parametrize(("channels", "width"), [(12, 4), (8, 5), (8, 1)])
def test_conv_without_a_fitting_kernel(called: Names, channels: int, width: int) -> None:
    arguments = [draw(2, 9, channels, seed=0), draw(channels, width, seed=1), draw(channels, seed=2)]
    assert_kernel_is_path(called, [], lambda *leaves: causal_conv(*leaves)[0], arguments)


@pytest.mark.parametrize(
    ("width", "part"), [(16, slice(0, 8)), (16, slice(3, 11)), (16, slice(0, 16, 2)), (19, slice(8, 16))], ids=str
)
def test_conv_of_a_slice(called: Names, width: int, part: slice) -> None:
    """The stand-in refuses addresses and strides that do not allow loads of eight numbers at a time."""
    arguments = [draw(2, 9, width, seed=0), draw(8, 4, seed=1), draw(8, seed=2)]
    function = lambda wide, *rest: causal_conv(wide[..., part], *rest)[0]  # noqa: E731
    assert_kernel_is_path(called, ["conv"], function, arguments)


# --- mixers

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))
MIXERS: dict[str, Callable[..., Mixer]] = {
    "vanilla Mamba-2": partial(Mamba2, headdim=4, d_state=8),
    "Diff-Mamba, two groups each": partial(Mamba2, headdim=8, d_state=8, groups=2, combine=BLOCK),
    "Diff-S6, two groups each": partial(Mamba2, headdim=8, d_state=8, groups=2, combine=SSM),
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
def test_forward(called: Names, name: str) -> None:
    mixer = built(name)
    function, weights = by_parameters(mixer, mixer)
    names = ["split_scan"] if isinstance(mixer, Mamba2) else ["conv", "selective_scan"]
    assert_kernel_is_path(called, names, function, [draw(1, 9, D_MODEL, seed=0), *weights], 5e-5)


@pytest.mark.parametrize("name", ["Diff-Mamba, two groups each", "Diff-S6 of Mamba-1"])
def test_extend(called: Names, name: str) -> None:
    """From a state on, the kernels of the parts are called one by one."""
    mixer = built(name)

    def twice(x: Tensor) -> Tensor:
        first, state = mixer.extend(x[:, :5], mixer.allocate_state(1))
        second, (conv, h) = mixer.extend(x[:, 5:], state)
        return torch.cat([first, second], dim=1), conv, h

    function, weights = by_parameters(mixer, twice)
    names = ["conv", "chunk_scan", "gated_norm"] if isinstance(mixer, Mamba2) else ["conv"]
    assert_kernel_is_path(called, names * 2, function, [draw(1, 9, D_MODEL, seed=0), *weights], 5e-5)


@EVERY_MIXER
@torch.no_grad()
def test_a_prompt_is_read_and_gone_on_with(called: Names, name: str) -> None:
    mixer, x = built(name), draw(1, 12, D_MODEL, seed=0)
    y, state = mixer.extend(x[:, :9], mixer.allocate_state(1))
    steps = []
    for t in range(9, 12):
        step, state = mixer.step(x[:, t], state)
        steps.append(step)
    prompt = ["conv", "chunk_scan", "gated_norm"] if isinstance(mixer, Mamba2) else ["conv", "selective_scan"]
    assert called[: len(prompt)] == prompt
    assert set(called[len(prompt) :]) <= {"gated_norm"}  # a step uses it, too
    with backend.use("torch"):
        expected = mixer(x)
    assert_close([torch.cat([y, torch.stack(steps, dim=1)], dim=1)], [expected], 5e-5)


@pytest.mark.parametrize("name", ["Diff-Mamba, two groups each", "Diff-S6 of Mamba-1"])
@pytest.mark.parametrize("autocast", [False, True], ids=["in float16", "under autocast"])
def test_narrow_types(called: Names, name: str, autocast: bool) -> None:
    mixer = built(name)
    x = draw(1, 12, D_MODEL, seed=0)
    with backend.use("torch"):
        expected = mixer(x)
    if not autocast:
        mixer, x = mixer.half(), x.half()
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        y = mixer(x)
        with torch.no_grad():
            first, state = mixer.extend(x[:, :9], mixer.allocate_state(1))
            second, _ = mixer.extend(x[:, 9:], state)
    for found in (y, torch.cat([first, second], dim=1)):
        assert (found - expected).abs().max() <= 0.01 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())
    assert called


@pytest.mark.parametrize(
    "sizes",
    [
        {"headdim": 16},  # 2 heads: the projection's width is no multiple of 8
        {"headdim": 8, "d_state": 3},  # nor is the convolution's
    ],
    ids=str,
)
def test_without_a_fitting_kernel_the_block_goes_step_by_step(called: Names, sizes: dict[str, int]) -> None:
    mixer = built("vanilla Mamba-2", **sizes)
    function, weights = by_parameters(mixer, mixer)
    names = ["conv"] * (sizes.get("d_state") != 3) + ["chunk_scan", "gated_norm"]
    assert_kernel_is_path(called, names, function, [draw(1, 9, D_MODEL, seed=0), *weights], 5e-5)


@pytest.mark.parametrize(
    ("d_state", "width", "names"),
    [
        (8, 1, ["chunk_scan", "gated_norm"]),  # no convolution of this width
        (8, 5, ["chunk_scan", "gated_norm"]),
        (6, 4, ["conv", "chunk_scan", "gated_norm"]),  # 12 numbers of z before its input, which it loads 8 at a time
    ],
)
def test_the_block_is_not_taken_where_its_convolution_does_not_fit(
    called: Names, d_state: int, width: int, names: Names
) -> None:
    heads, headdim = (8, 2) if d_state == 8 else (4, 3)
    channels = heads * headdim + 2 * d_state
    columns = heads * headdim + channels + heads
    assert columns % 8 == channels % 8 == 0
    arguments = [draw(1, 9, columns, seed=0), draw(channels, width, seed=1), draw(channels, seed=2)]
    arguments += [
        draw(heads, seed=3),
        -1 - draw(heads, seed=4).abs(),
        draw(heads, seed=5),
        draw(heads * headdim, seed=6),
    ]
    block = lambda *arguments: conv_scan_norm(*arguments, headdim, 1)[0]  # noqa: E731
    assert_kernel_is_path(called, names, block, arguments)
