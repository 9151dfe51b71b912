"""Arguments that operators refuse. Each message is one line with the problem and the valid values."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmamba import ops
from diffmamba.ops import causal_conv, gated_selective_scan, selective_scan, ssd

Arguments = dict[str, Tensor]


def ssd_arguments(batch: int = 2, length: int = 5, groups: int = 2, heads: int = 4, headdim: int = 3) -> Arguments:
    x, BC, state = (batch, length, heads, headdim), (batch, length, groups, 6), (batch, heads, headdim, 6)
    shapes = {"x": x, "dt": x[:3], "A": (heads,), "B": BC, "C": BC, "D": (heads,), "state": state}
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def selective_arguments(batch: int = 2, length: int = 5, groups: int = 2, channels: int = 4) -> Arguments:
    x, BC, A = (batch, length, channels), (batch, length, groups, 6), (channels, 6)
    shapes = {"x": x, "dt": x, "A": A, "B": BC, "C": BC, "D": A[:1], "state": (batch, *A)}
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def conv_arguments(batch: int = 2, length: int = 5, channels: int = 8, width: int = 4) -> Arguments:
    shapes = {
        "x": (batch, length, channels),
        "weight": (channels, width),
        "bias": (channels,),
        "state": (batch, width - 1, channels),
    }
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def gated_arguments(**sizes: int) -> Arguments:
    arguments = selective_arguments(**sizes)
    return arguments | {"dt_bias": torch.ones_like(arguments["D"]), "z": torch.ones_like(arguments["x"])}


def conv_scan_norm(state: Tensor, past: Tensor, headdim: int = 3, groups: int = 2, **arguments: Tensor) -> Any:
    """With the states as two arguments."""
    return ops.conv_scan_norm(**arguments, headdim=headdim, groups=groups, states=(past, state), extend=True)


def block_arguments(
    batch: int = 2, length: int = 5, groups: int = 2, heads: int = 4, headdim: int = 3, width: int = 4
) -> Arguments:
    inner, channels = heads * headdim, heads * headdim + 2 * groups * 6
    shapes: dict[str, tuple[int, ...]] = {
        "zxBCdt": (batch, length, inner + channels + heads),
        "conv_weight": (channels, width),
        "conv_bias": (channels,),
        "dt_bias": (heads,),
        "A": (heads,),
        "D": (heads,),
        "norm_weight": (inner,),
        "past": (batch, width - 1, channels),
        "state": (batch, heads, headdim, 6),
    }
    return {name: torch.ones(shape) for name, shape in shapes.items()}


OPERATORS: dict[Callable[..., Any], Callable[..., Arguments]] = {
    ssd: ssd_arguments,
    selective_scan: selective_arguments,
    causal_conv: conv_arguments,
}
MORE: dict[Callable[..., Any], Callable[..., Arguments]] = {
    **OPERATORS,
    gated_selective_scan: gated_arguments,
    conv_scan_norm: block_arguments,
}
EVERY_PATH = pytest.mark.parametrize("path", ["torch", "cpu", "definition"], indirect=True)
EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
EVERY_ARGUMENT = pytest.mark.parametrize(
    ("operator", "name"),
    [(operator, name) for operator, arguments in OPERATORS.items() for name in arguments()],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)


def assert_refused(operator: Callable[..., Any], arguments: Arguments, *says: str) -> None:
    with pytest.raises(ValueError, match=f"^{operator.__name__}: ") as told:
        operator(**arguments)
    message = str(told.value)
    assert "\n" not in message
    assert len(message) < 160
    for pattern in says:
        assert re.search(pattern, message), message


def shown(name: str) -> str:
    return "the state" if name == "state" else name


@EVERY_OPERATOR
@pytest.mark.parametrize("size", ["batch", "length"])
def test_nothing_to_do_is_refused(operator: Callable[..., Any], size: str) -> None:
    assert_refused(operator, OPERATORS[operator](**{size: 0}), rf"x has {size} 0; give it at least 1$")


@EVERY_OPERATOR
def test_one_row_of_one_position_will_do(operator: Callable[..., Any]) -> None:
    y, state = operator(**OPERATORS[operator](batch=1, length=1))
    assert y.shape[:2] == (1, 1)
    assert state.shape[0] == 1


@pytest.mark.parametrize(
    ("operator", "sizes", "says"),
    [
        (ssd, {"heads": 0, "groups": 1}, "x has heads 0"),
        (ssd, {"headdim": 0}, "x has headdim 0"),
        (ssd, {"groups": 0}, "B has groups 0"),
        (selective_scan, {"channels": 0, "groups": 1}, "x has channels 0"),
        (selective_scan, {"groups": 0}, "B has groups 0"),
        (causal_conv, {"channels": 0}, "x has channels 0"),
        (causal_conv, {"width": 1}, None),
    ],
)
def test_sizes_of_zero_are_named(operator: Callable[..., Any], sizes: dict[str, int], says: str | None) -> None:
    if says:
        assert_refused(operator, OPERATORS[operator](**sizes), f"{says}; give it at least 1$")
    else:  # a filter of width 1 has no state
        assert operator(**OPERATORS[operator](**sizes))[1].shape[1] == 0


def test_a_filter_without_taps_is_refused() -> None:
    arguments = conv_arguments() | {"weight": torch.ones(8, 0), "state": None}
    assert_refused(causal_conv, arguments, "weight has width 0; give it at least 1$")


@pytest.mark.parametrize("groups", [3, 5, 8])
@pytest.mark.parametrize(("operator", "what"), [(ssd, "heads"), (selective_scan, "channels")])
def test_groups_must_divide(operator: Callable[..., Any], what: str, groups: int) -> None:
    assert_refused(operator, OPERATORS[operator](groups=groups), rf"B has {groups} groups, .* divide the 4 {what}$")


@EVERY_ARGUMENT
@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn], ids=str)
def test_wrong_types_are_refused_with_the_valid_ones(
    operator: Callable[..., Any], name: str, dtype: torch.dtype
) -> None:
    arguments = OPERATORS[operator]()
    arguments[name] = arguments[name].to(dtype)
    kind = str(dtype).removeprefix("torch.")
    says = rf"{shown(name)} is {kind}; use one of float32, float64, bfloat16, float16$"
    assert_refused(operator, arguments, says)


@EVERY_OPERATOR
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_valid_types_are_accepted(operator: Callable[..., Any], dtype: torch.dtype) -> None:
    y, _ = operator(**{name: tensor.to(dtype) for name, tensor in OPERATORS[operator]().items()})
    assert y.dtype == dtype


@EVERY_ARGUMENT
def test_one_device_is_asked_for(operator: Callable[..., Any], name: str) -> None:
    arguments = OPERATORS[operator]()
    arguments[name] = arguments[name].to("meta")
    if name == "x":  # the other tensors are compared with x
        assert_refused(operator, arguments, r": (dt|weight) is on cpu, x on meta; move them to one device$")
    else:
        assert_refused(operator, arguments, rf": {shown(name)} is on meta, x on cpu; move them to one device$")


@EVERY_OPERATOR
def test_shapes_can_be_had_without_memory(operator: Callable[..., Any]) -> None:
    arguments = OPERATORS[operator]()
    expected = operator(**arguments)
    found = operator(**{name: tensor.to("meta") for name, tensor in arguments.items()})
    assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in expected]


@EVERY_ARGUMENT
def test_a_dimension_too_many_or_too_few_is_told(operator: Callable[..., Any], name: str) -> None:
    for change in (lambda t: t[None], lambda t: t[0]):
        arguments = OPERATORS[operator]()
        arguments[name] = change(arguments[name])
        shape = re.escape(str(tuple(arguments[name].shape)))
        assert_refused(operator, arguments, rf"{shown(name)} has shape {shape}; it must be \(.+\)$")


@EVERY_ARGUMENT
def test_every_size_is_held_against_the_others(operator: Callable[..., Any], name: str) -> None:
    """No dimension can be one longer than the others allow, except the length of the convolution's only sequence."""
    for dimension in range(OPERATORS[operator]()[name].dim()):
        arguments = OPERATORS[operator]()
        if (operator, name, dimension) == (causal_conv, "x", 1):
            continue
        arguments[name] = torch.cat([arguments[name], arguments[name].narrow(dimension, 0, 1)], dim=dimension)
        assert_refused(operator, arguments, r"has shape \(.+\); it must be \(.+\)$")


@pytest.mark.parametrize(
    ("operator", "state", "says"),
    [
        (ssd, (2, 4, 6, 3), r"the state has shape \(2, 4, 6, 3\); .* \(batch=2, heads=4, headdim=3, state=6\)$"),
        (ssd, (1, 4, 3, 6), r"the state has shape \(1, 4, 3, 6\); .* \(batch=2, heads=4, headdim=3, state=6\)$"),
        (selective_scan, (2, 6, 4), r"the state has shape \(2, 6, 4\); .* \(batch=2, channels=4, state=6\)$"),
        (causal_conv, (2, 8, 3), r"the state has shape \(2, 8, 3\); .* \(batch=2, past=3, channels=8\)$"),
        (causal_conv, (2, 4, 8), r"the state has shape \(2, 4, 8\); .* \(batch=2, past=3, channels=8\)$"),
    ],
)
def test_a_state_of_the_wrong_shape_is_told_the_right_one(
    operator: Callable[..., Any], state: tuple[int, ...], says: str
) -> None:
    assert_refused(operator, OPERATORS[operator]() | {"state": torch.ones(state)}, says)


# --- from every path, also where a library would read what is not there


def wrong(operator: Callable[..., Any], name: str) -> Iterator[tuple[int | str, Arguments]]:
    """Arguments with one that is longer, shorter or empty in one dimension, or lacks one or has one more."""
    for dimension in range(MORE[operator]()[name].dim()):
        right = MORE[operator]()[name]
        if (name, dimension) == (next(iter(MORE[operator]())), 1):  # the length, which nothing else of some has
            continue
        for size in (0, right.shape[dimension] - 1, right.shape[dimension] + 1, 3 * right.shape[dimension]):
            changed = torch.ones([*right.shape[:dimension], size, *right.shape[dimension + 1 :]])
            yield dimension, MORE[operator]() | {name: changed}
    yield "less", MORE[operator]() | {name: MORE[operator]()[name][0]}
    yield "more", MORE[operator]() | {name: MORE[operator]()[name][None]}
    yield "none", MORE[operator]() | {name: torch.tensor(1.0)}


@EVERY_PATH
@pytest.mark.parametrize("operator", MORE, ids=lambda operator: operator.__name__)
def test_no_wrong_shape_is_computed_with(operator: Callable[..., Any], path: str) -> None:
    assert operator(**MORE[operator]())[0].isfinite().all()
    for name in MORE[operator]():
        for change, arguments in wrong(operator, name):
            with pytest.raises(ValueError, match=r"must|give it") as told:
                operator(**arguments)
            assert str(told.value).count("\n") == 0, (name, change)
            assert "selective_scan" in str(told.value) or operator.__name__ in str(told.value), told.value


@EVERY_PATH
@pytest.mark.parametrize("size", ["batch", "length"])
@pytest.mark.parametrize("operator", MORE, ids=lambda operator: operator.__name__)
def test_nothing_to_do_is_refused_from_every_path(operator: Callable[..., Any], size: str, path: str) -> None:
    with pytest.raises(ValueError, match=rf"^{operator.__name__}: .* has {size} 0; give it at least 1$"):
        operator(**MORE[operator](**{size: 0}))


@EVERY_PATH
@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"headdim": 0}, "headdim=0 must be at least 1"),
        ({"headdim": -3}, "headdim=-3 must be at least 1"),
        ({"headdim": 2}, r"norm_weight has shape \(12,\)"),
        ({"headdim": 9}, r"conv_weight has 36 channels; there must be 36 \+ 4 · state"),
        ({"groups": 0}, "B has 0 groups, which must divide the 4 heads"),
        ({"groups": 3}, "B has 3 groups, which must divide the 4 heads"),
        ({"groups": 4}, r"the state of the scan has shape \(2, 4, 3, 6\); .*state=3"),
        ({"groups": -2}, "B has -2 groups, which must divide the 4 heads"),
    ],
)
def test_sizes_of_the_block_must_fit_its_tensors(sizes: dict[str, int], says: str, path: str) -> None:
    with pytest.raises(ValueError, match=f"^conv_scan_norm: .*{says}") as told:
        conv_scan_norm(**block_arguments(), **sizes)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)


@EVERY_PATH
@pytest.mark.parametrize("operator", MORE, ids=lambda operator: operator.__name__)
def test_wrong_types_and_devices_are_refused_from_every_path(operator: Callable[..., Any], path: str) -> None:
    for name, argument in MORE[operator]().items():
        for changed in (argument.long(), argument.bool(), argument.to(torch.complex64)):
            with pytest.raises(ValueError, match=r"use one of float32, float64, bfloat16, float16$"):
                operator(**MORE[operator]() | {name: changed})
        with pytest.raises(ValueError, match=r"move them to one device$"):
            operator(**MORE[operator]() | {name: argument.to("meta")})


@pytest.mark.parametrize("operator", MORE, ids=lambda operator: operator.__name__)
def test_the_compiler_sees_a_wrong_shape_while_it_traces(operator: Callable[..., Any]) -> None:
    arguments = MORE[operator]()
    traced = torch.compile(operator, backend="eager", fullgraph=True)
    for name in list(arguments)[1:3]:
        torch.compiler.reset()
        with pytest.raises(Exception, match=r"has shape|ValueError"):
            traced(**arguments | {name: torch.cat([arguments[name]] * 2, dim=-1)})


@EVERY_PATH
@EVERY_ARGUMENT
def test_a_missing_tensor_is_named(operator: Callable[..., Any], name: str, path: str) -> None:
    """mamba-ssm takes None for no D; here it would be an address that the library reads."""
    if name != "state":
        says = rf"{name} is None; it must be a tensor \("
        assert_refused(operator, OPERATORS[operator]() | {name: None}, says)  # type: ignore[dict-item]
