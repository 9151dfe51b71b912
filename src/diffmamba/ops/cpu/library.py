"""How the operators of this folder call the compiled library."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu import build

Argument = ctypes.Structure | ctypes.c_int64 | Tensor | None


def call(name: str, *arguments: Argument) -> None:
    """Calls a function of the library, whose arguments are all pointers. Tensors must be contiguous.

    The caller knows that there is a library.
    """
    function(name, *[ctypes.c_void_p] * len(arguments))(*map(pointer, arguments))


def pointer(argument: Argument) -> int | None:
    """The address of a structure or number of C, or of a tensor's numbers."""
    if argument is None:
        return None
    return argument.data_ptr() if isinstance(argument, Tensor) else ctypes.addressof(argument)


def structure(name: str, **types: str) -> type[ctypes.Structure]:
    """A struct of C. Each argument is a type of ctypes with the names of fields, separated by spaces."""
    fields = [(field, getattr(ctypes, kind)) for kind, names in types.items() for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def suffix(tensor: Tensor) -> str:
    """What the names of functions for this type end with."""
    return "_bfloat16" if tensor.dtype == torch.bfloat16 else ""


def dense(*tensors: Tensor | None) -> list[Any]:
    """The tensors, contiguous in memory."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


@cache
def function(name: str, *types: Any) -> Any:
    """A function of the library, which takes arguments of these types of ctypes and returns nothing.

    The caller knows that there is a library.
    """
    library = build.load()
    assert isinstance(library, ctypes.CDLL), library
    found = library[name]
    found.argtypes, found.restype = types, None
    return found
