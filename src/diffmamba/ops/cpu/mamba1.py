"""Mamba-1's selective scan by the compiled library, as operators of PyTorch: `mamba1_forward.cpp` and `_backward.cpp`.

Shapes as in `ops/selective_scan.py`. x, dt, B, C and z may be float32 or bfloat16, each by itself, and slices of wider
tensors; A, D, dt_bias and the state are float32.
"""

import ctypes
from ctypes import c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import function

CHUNK = 32  # as T in mamba1.h


class _Sequence(ctypes.Structure):
    _fields_ = (("data", c_void_p), *((name, c_int64) for name in ("row", "position", "group", "narrow")))


def _structure(**types: str) -> type[ctypes.Structure]:
    """A structure of C from its fields' names, separated by spaces, by type, in the order of `mamba1.h`."""
    kinds = {"number": c_int64, "sequence": _Sequence, "pointer": c_void_p}
    fields = [(name, kinds[kind.rstrip("_")]) for kind, names in types.items() for name in names.split()]
    return type("Structure", (ctypes.Structure,), {"_fields_": fields})


_Scan = _structure(
    number="batch length channels groups states softplus",
    sequence="x dt B C z",
    pointer="A D dt_bias state",
    sequence_="out",
    pointer_="final kept",
)
_Gradients = _structure(sequence="out", pointer="final", sequence_="x dt B C z", pointer_="A D dt_bias state")


def _sequence(tensor: Tensor | None) -> _Sequence:
    if tensor is None:
        return _Sequence()
    row, position, *group = tensor.stride()[:-1]
    return _Sequence(tensor.data_ptr(), row, position, group[0] if group else 0, tensor.dtype == torch.bfloat16)


def _filled(structure: type[ctypes.Structure], sequences: dict[str, Tensor | None], **fields: Any) -> ctypes.Structure:
    pointers = {name: v.data_ptr() if isinstance(v, Tensor) else v for name, v in fields.items() if v is not None}
    return structure(**{name: _sequence(tensor) for name, tensor in sequences.items()}, **pointers)


def _inner(tensor: Tensor) -> Tensor:
    """The tensor itself if its last dimension is dense in memory, else a copy that is."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _call(name: str, *structures: ctypes.Structure) -> None:
    types = [c_void_p] * len(structures)
    function(name, *types, c_int64)(*map(ctypes.addressof, structures), torch.get_num_threads())


@torch.library.custom_op("diffmamba::mamba1", mutates_args=())
def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    dt_bias: Tensor | None,
    z: Tensor | None,
    softplus: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`y · silu(z)`, the final state, and if `keep` the h before every chunk, `(batch, chunks, state, channels)`."""
    x, dt, A, B, C, D, state = map(_inner, (x, dt, A.contiguous(), B, C, D, state.contiguous()))
    z, dt_bias = (None if one is None else _inner(one) for one in (z, dt_bias))
    out, final, kept = _results(x, state, B, z, keep)
    sequences = {"x": x, "dt": dt, "B": B, "C": C, "z": z, "out": out}
    sizes = dict(zip(("batch", "length", "channels", "groups", "states"), (*x.shape, *B.shape[2:]), strict=True))
    parameters = {"A": A, "D": D, "dt_bias": dt_bias, "state": state}
    results = {"final": final, "kept": kept if keep else None}
    _call("mamba1_forward", _filled(_Scan, sequences, softplus=softplus, **sizes, **parameters, **results))
    return out, final, kept


def _results(x: Tensor, state: Tensor, B: Tensor, z: Tensor | None, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    dtype = x.dtype if z is None else torch.promote_types(x.dtype, z.dtype)
    batch, length, channels = x.shape
    chunks = -(-length // CHUNK) if keep else 0
    kept = state.new_empty(batch, chunks, B.shape[3], channels)
    return x.new_empty(x.shape, dtype=dtype), state.new_empty(state.shape), kept


@torch.library.custom_op("diffmamba::mamba1_gradient", mutates_args=())
def gradient(
    dout: Tensor,
    dfinal: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor | None,
    z: Tensor | None,
    softplus: bool,
    kept: Tensor,
) -> list[Tensor]:
    """The gradients of x, dt, A, B, C, D, the state, dt_bias and z, the last two empty where there are none."""
    dout, x, dt, A, B, C, D = map(_inner, (dout, x, dt, A.contiguous(), B, C, D))
    z, dt_bias = (None if one is None else _inner(one) for one in (z, dt_bias))
    dfinal = None if dfinal is None else dfinal.contiguous()
    found = _gradients(x, dt, A, B, C, D, dt_bias, z)
    dx, ddt, dA, dB, dC, dD, dstate, dbias, dz = found
    sizes = dict(zip(("batch", "length", "channels", "groups", "states"), (*x.shape, *B.shape[2:]), strict=True))
    given = _filled(
        _Scan,
        {"x": x, "dt": dt, "B": B, "C": C, "z": z},
        softplus=softplus,
        **sizes,
        **{"A": A, "D": D, "dt_bias": dt_bias, "kept": kept},
    )
    wanted = _filled(
        _Gradients,
        {"out": dout, "x": dx, "dt": ddt, "B": dB, "C": dC, "z": None if z is None else dz},
        **{"final": dfinal, "A": dA, "D": dD, "dt_bias": None if dt_bias is None else dbias, "state": dstate},
    )
    _call("mamba1_backward", given, wanted)
    return found


def _gradients(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor | None, z: Tensor | None
) -> list[Tensor]:
    like = [x, dt, A, B, C, D, None, dt_bias, z]
    found = [x.new_empty(0) if one is None else one.new_empty(one.shape) for one in like]
    found[6] = A.new_empty(len(x), *A.shape)
    return found


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, keep = inputs
    assert keep, "the gradient needs what `keep` keeps"
    ctx.softplus = softplus
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*(one for at, one in enumerate(tensors) if at != 6), output[2])


def _backward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None, _: Any) -> tuple[Any, ...]:
    *inputs, kept = ctx.saved_tensors
    x, z = inputs[0], inputs[-1]
    if dout is None:
        dout = x.new_zeros(x.shape)
    found = gradient(dout, dfinal, *inputs, ctx.softplus, kept)
    return *found[:7], None if inputs[-2] is None else found[7], None if z is None else found[8], None, None


@scan.register_fake
def _(x, dt, A, B, C, D, state, dt_bias, z, softplus, keep):
    return _results(x, state, B, z, keep)


@gradient.register_fake
def _(dout, dfinal, x, dt, A, B, C, D, dt_bias, z, softplus, kept):
    return _gradients(x, dt, A, B, C, D, dt_bias, z)


scan.register_autograd(_backward, setup_context=_setup_context)
