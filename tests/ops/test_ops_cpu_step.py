"""One position by the compiled library: of Mamba-2, of Mamba-1, and the difference of two branches."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from judge import assert_close, normal
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer
from diffmamba.ops import backend, conv_scan_norm_step, conv_selective_scan_step, rms_norm
from diffmamba.ops.cpu import processor, step
from diffmamba.ops.step import FEW, difference_step, difference_step_takes

pytestmark = pytest.mark.usefixtures("instructions")  # every test runs with each instruction set
ONCE = pytest.mark.parametrize("instructions", processor.available()[:1], indirect=True)
OPERATORS = pytest.mark.parametrize("kind", ["mamba1", "mamba2"])


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """As decoding has it."""
    with torch.no_grad():
        yield


def mamba2_arguments(
    batch: int = 2,
    heads: int = 4,
    headdim: int = 3,
    groups: int = 2,
    states: int = 5,
    width: int = 4,
    sharing: int = 1,
) -> list[Any]:
    inner, projected = heads * headdim, groups * states
    channels, own = inner + 2 * projected, (inner + 2 * projected) // sharing
    return [
        normal(batch, 2 * inner + 2 * projected + heads, seed=0),
        normal(own, 1, width, seed=1),
        normal(own, seed=2),
        normal(heads, seed=3),
        normal(heads, seed=4),
        normal(heads, seed=5),
        normal(inner // sharing, seed=6),
        headdim,
        groups,
        normal(batch, width - 1, channels, seed=7),
        normal(batch, heads, headdim, states, seed=8),
        sharing,
    ]


def mamba1_arguments(
    batch: int = 2,
    channels: int = 12,
    branches: int = 2,
    states: int = 5,
    rank: int = 3,
    width: int = 4,
    sharing: int = 1,
) -> list[Any]:
    own = channels // sharing
    return [
        normal(batch, 2 * channels, seed=0),
        normal(own, 1, width, seed=1),
        normal(own, seed=2),
        normal(branches * (rank + 2 * states), channels // branches, seed=3),
        normal(channels, rank, seed=4),
        normal(channels, seed=5),
        normal(channels, states, seed=6),
        normal(channels, seed=7),
        branches,
        normal(batch, width - 1, channels, seed=8),
        normal(batch, channels, states, seed=9),
        sharing,
    ]


OF = {"mamba1": (conv_selective_scan_step, mamba1_arguments), "mamba2": (conv_scan_norm_step, mamba2_arguments)}


def flat(found: Any) -> list[Tensor]:
    u, (conv_state, state) = found
    return [u, conv_state, state]


def cast(arguments: list[Any], dtype: torch.dtype) -> list[Any]:
    return [t.to(dtype) if isinstance(t, Tensor) else t for t in arguments]


def assert_is_the_definition(operator: Callable[..., Any], arguments: list[Any], tolerance: float = 3e-6) -> None:
    """The composition of the step operators, in float64."""
    with backend.use("definition"):
        expected = flat(operator(*cast(arguments, torch.float64)))
    assert_close(flat(operator(*arguments)), expected, tolerance)


@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 1, "heads": 1, "headdim": 1, "groups": 1, "states": 1, "width": 1},
        {"heads": 6, "headdim": 5, "groups": 3, "states": 7, "width": 2},
        {"heads": 4, "headdim": 32, "groups": 2, "states": 64},
        {"heads": 4, "headdim": 8, "groups": 4, "states": 16, "sharing": 2},
        {"batch": 64, "heads": 4, "headdim": 33, "groups": 1, "states": 17},
    ],
    ids=str,
)
def test_mamba2_is_the_definition(sizes: dict[str, int]) -> None:
    assert_is_the_definition(conv_scan_norm_step, cast(mamba2_arguments(**sizes), torch.float32))


@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 1, "channels": 1, "branches": 1, "states": 1, "rank": 1, "width": 1},
        {"channels": 21, "branches": 3, "states": 7, "width": 2},
        {"channels": 256, "branches": 2, "states": 16, "rank": 8, "sharing": 2},
        {"batch": 64, "channels": 150, "branches": 1, "states": 16, "rank": 33},
        {"channels": 40, "branches": 2, "states": 65, "rank": 16},
    ],
    ids=str,
)
def test_mamba1_is_the_definition(sizes: dict[str, int]) -> None:
    arguments = cast(mamba1_arguments(**sizes), torch.float32)
    arguments[3] /= arguments[3].shape[1] ** 0.5  # as a projection is, so that dt is no sum of large terms
    arguments[4] /= arguments[4].shape[1] ** 0.5
    assert_is_the_definition(conv_selective_scan_step, arguments, 1e-5)


@OPERATORS
@pytest.mark.parametrize("added", [-12.0, 30.0], ids=["weak", "strong"])
def test_decays_from_weak_to_strong(kind: str, added: float) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    bias = 3 if kind == "mamba2" else 5
    arguments[bias] = arguments[bias] + added
    assert_is_the_definition(operator, arguments, 1e-5)


@OPERATORS
@pytest.mark.parametrize("narrow", ["input", "input and convolution's state", "all but h"])
def test_types_are_those_of_pytorch(kind: str, narrow: str) -> None:
    """Under autocast the input is bfloat16; a model may also be bfloat16 as a whole. h is float32."""
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    for at in range(10):
        if isinstance(arguments[at], Tensor) and (at == 0 or (at == 9 and "state" in narrow) or "all" in narrow):
            arguments[at] = arguments[at].bfloat16()
    with backend.use("torch"):
        expected = flat(operator(*arguments))
    found = flat(operator(*arguments))
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    with backend.use("definition"):
        exact = flat(operator(*cast(arguments, torch.float64)))
    for value, wanted in zip(found, exact, strict=True):  # rounded once, at the end
        assert_close([value], [wanted], 4e-3 if value.dtype == torch.bfloat16 else 1e-5)


@OPERATORS
def test_nan_stays_in_its_row(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    clean = flat(operator(*arguments))
    arguments[0][1, :] = torch.nan
    for value, before in zip(flat(operator(*arguments)), clean, strict=True):
        assert torch.equal(value[0], before[0])
        assert value[1].isnan().any()
    assert flat(operator(*arguments))[0][1].isnan().all()


@OPERATORS
@pytest.mark.usefixtures("nan_in_new_memory")
def test_every_number_of_the_results_is_written(kind: str) -> None:
    operator, make = OF[kind]
    assert all(t.isfinite().all() for t in flat(operator(*cast(make(), torch.float32))))


@OPERATORS
def test_states_that_are_given_stay_as_they_are(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    before = [t.clone() if isinstance(t, Tensor) else t for t in arguments]
    found = flat(operator(*arguments))
    for t, copy in zip(arguments, before, strict=True):
        assert torch.equal(t, copy) if isinstance(t, Tensor) else t == copy
    pointers = {t.untyped_storage().data_ptr() for t in (*found, *arguments) if isinstance(t, Tensor)}
    assert len(pointers) == len(found) + sum(isinstance(t, Tensor) for t in arguments)


@OPERATORS
def test_memory_order_does_not_matter(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    others = [t.mT.contiguous().mT if isinstance(t, Tensor) and t.dim() > 1 else t for t in arguments]
    assert all(map(torch.equal, flat(operator(*others)), flat(operator(*arguments))))


@OPERATORS
def test_the_same_bits_with_any_number_of_threads(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(64, 32, states=64) if kind == "mamba2" else make(64, 256, states=16), torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(flat(operator(*arguments)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@ONCE
@OPERATORS
def test_with_gradients_it_is_pytorchs(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    expected = operator(*arguments)[0]
    with torch.enable_grad():
        leaves = [t.requires_grad_() if isinstance(t, Tensor) else t for t in arguments]
        u = operator(*leaves)[0]
        u.square().sum().backward()
    assert_close([u.detach()], [expected], 1e-5)
    assert all(t.grad is not None for t in leaves if isinstance(t, Tensor))


@ONCE
@OPERATORS
def test_traced_it_is_one_operator(kind: str) -> None:
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    torch.compiler.reset()
    traced = torch.compile(operator, backend="aot_eager", fullgraph=True)
    assert all(map(torch.equal, flat(traced(*arguments)), flat(operator(*arguments))))
    if kind == "mamba2":
        *tensors, _, groups, conv_state, state, sharing = arguments
        torch.library.opcheck(step.mamba2_operator, (*tensors, conv_state, state, groups, sharing, 1e-5))
    else:
        *tensors, branches, conv_state, state, sharing = arguments
        torch.library.opcheck(step.mamba1_operator, (*tensors, conv_state, state, branches, sharing))


@ONCE
@OPERATORS
def test_a_wrong_shape_is_one_line(kind: str) -> None:
    """The library cannot check; a wrong size would be read from memory of others."""
    operator, make = OF[kind]
    arguments = cast(make(), torch.float32)
    for at, argument in enumerate(arguments):
        if isinstance(argument, Tensor):
            for dimension in range(argument.dim()):
                wrong = [*arguments[:at], torch.cat([argument, argument], dim=dimension), *arguments[at + 1 :]]
                with pytest.raises(ValueError, match="has shape") as raised:
                    operator(*wrong)
                assert "\n" not in str(raised.value)


@ONCE
@OPERATORS
def test_a_float64_parameter_is_left_to_pytorch(kind: str) -> None:
    operator, make = OF[kind]
    arguments = [t.float() if isinstance(t, Tensor) and i in (0, 9, 10) else t for i, t in enumerate(make())]
    with backend.use("torch"):
        expected = flat(operator(*arguments))
    assert all(map(torch.equal, flat(operator(*arguments)), expected))


@ONCE
@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("mamba2", {8: 3}, "groups=3 must divide the 4 heads"),
        ("mamba2", {8: 0}, "groups=0 must divide the 4 heads"),
        ("mamba2", {11: 3}, "sharing=3 must divide the 2 groups"),
        ("mamba2", {11: 0}, "sharing=0 must divide the 2 groups"),
        ("mamba1", {8: 5}, "branches=5 must divide the 12 channels"),
        ("mamba1", {8: 0}, "branches=0 must divide the 12 channels"),
        ("mamba1", {11: 3}, "sharing=3 must divide the 2 branches"),
    ],
)
def test_a_number_that_does_not_divide_is_one_line(kind: str, changed: dict[int, int], says: str) -> None:
    operator, make = OF[kind]
    arguments = [changed.get(i, t) for i, t in enumerate(cast(make(), torch.float32))]
    with pytest.raises(ValueError, match=f"^{operator.__name__}: {says}$"):
        operator(*arguments)


# --- the difference


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("gained", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_difference_is_its_formula(rows: int, gained: bool, weighted: bool) -> None:
    inner, outputs = 37, 21 if weighted else 37
    u, gain = normal(rows, 2 * inner, seed=0), normal(outputs, seed=1) if gained else None
    weight = normal(outputs, 2 * inner, seed=2) if weighted else None
    given = [None if t is None else t.float() for t in (u, weight, gain)]
    assert difference_step_takes(*given)
    first, second = u.chunk(2, dim=-1)
    if weight is not None:
        first, second = first @ weight[:, :inner].T, second @ weight[:, inner:].T
    expected = first - 0.7 * second
    expected = expected * 0.4 if gain is None else rms_norm(expected, gain * 0.4)
    assert_close([difference_step(*given, -0.7, 0.4)], [expected], 2e-6)


@ONCE
def test_what_the_difference_does_not_take() -> None:
    u, weight, gain = torch.zeros(2, 6), torch.zeros(5, 6), torch.ones(5)
    assert difference_step_takes(u, weight, gain)
    assert not difference_step_takes(u.expand(FEW, 2, 6)[:, 0], weight, gain)
    assert not difference_step_takes(u, weight[:, :5], gain)
    assert not difference_step_takes(u, weight, gain[:4])
    with backend.use("auto"):
        assert not difference_step_takes(u.double(), weight.double(), gain.double())
        assert not difference_step_takes(u.bfloat16(), weight, gain)
    with backend.use("torch"):
        assert not difference_step_takes(u, weight, gain)
    with torch.enable_grad():
        assert not difference_step_takes(u, weight, gain)


@pytest.mark.parametrize("form", ["scalar", "reparam", "reparam_bounded", "channel", "exp", "exp_printed", "fixed"])
@pytest.mark.parametrize("scope", ["block", "ssm"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_decoded_difference_is_that_of_training(form: Any, scope: Any, sign: Any) -> None:
    combine = Difference(6, 7, 5, depth=3, scope=scope, lambda_form=form, sign=sign)
    u, weight = torch.randn(2, 14), torch.randn(6, 7 if scope == "ssm" else 14)
    with torch.enable_grad():
        expected = combine(u, weight).detach()
    assert_close([combine(u, weight)], [expected], 2e-6)


# --- in a mixer


@pytest.mark.parametrize("scope", ["single", "block", "ssm"])
@pytest.mark.parametrize("kind", [Mamba1, Mamba2])
def test_steps_are_the_parallel_form(kind: type[Mixer], scope: Any) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"headdim": 8} if kind is Mamba2 else {}
    if scope != "single":
        settings["combine"] = lambda **sizes: Difference(**sizes, scope=scope)
    mixer = kind(24, 2, d_state=16, **settings)
    x = torch.randn(3, 40, 24)
    expected, state = mixer(x), mixer.allocate_state(3)
    ys = []
    for t in range(40):
        y, state = mixer.step(x[:, t], state)
        ys.append(y)
    assert_close([torch.stack(ys, dim=1), *state], [expected, *mixer.extend(x, mixer.allocate_state(3))[1]], 1e-5)
