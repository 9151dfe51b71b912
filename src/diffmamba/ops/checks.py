"""Checks of the operators' arguments: shapes, empty inputs, dtypes and devices. Every message is one line."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from diffmamba.ops import backend

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check(operator: str, *arguments: tuple[str, Tensor | None, str], **sizes: int) -> None:
    """Checks that tensors agree in shape, dtype and device.

    Args:
        operator: name of the operator, for the message.
        arguments: for each tensor its name, the tensor and the names of its dimensions, separated by spaces. A
            dimension name must have the same size in all tensors. A state may be None: its name begins with "the
            state".
        sizes: dimensions whose size is known beforehand.

    Raises:
        ValueError: if a tensor is missing, a shape does not fit, a dimension is empty, or a dtype or device is wrong.
        NotImplementedError: if forward-mode derivatives are asked of an operator that is not its definition.
    """
    first_name, first, _ = arguments[0]
    for argument, tensor, dimensions in arguments:
        if tensor is None and argument.startswith("the state"):
            continue
        if tensor is None or first is None:
            raise ValueError(f"{operator}: {argument} is None; it must be a tensor ({', '.join(dimensions.split())})")
        names = dimensions.split()
        fits = len(names) == tensor.dim() and all(
            sizes.get(name, size) == size for name, size in zip(names, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(f"{name}={sizes[name]}" if name in sizes else name for name in names)
            raise ValueError(f"{operator}: {argument} has shape {tuple(tensor.shape)}; it must be ({wanted})")
        for name, size in zip(names, tensor.shape, strict=True):
            if size == 0 and name not in sizes:
                raise ValueError(f"{operator}: {argument} has {name} 0; give it at least 1")
        sizes |= zip(names, tensor.shape, strict=True)
        if tensor.dtype not in DTYPES:
            wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise ValueError(
                f"{operator}: {argument} is {str(tensor.dtype).removeprefix('torch.')}; use one of {wanted}"
            )
        if (
            backend.forward_mode()
            and not backend.by_definition()
            and forward_ad.unpack_dual(tensor).tangent is not None
        ):
            raise NotImplementedError(f"{operator}: forward-mode derivatives need backend=definition")
        if tensor.device != first.device:
            raise ValueError(
                f"{operator}: {argument} is on {tensor.device}, {first_name} on {first.device}; move them to one device"
            )


def check_groups(operator: str, what: str, size: int, groups: int) -> None:
    """Raises ValueError unless the number of groups of B and C divides `size`, the number of heads or channels."""
    if groups < 1 or size % groups:
        raise ValueError(f"{operator}: B has {groups} groups, which must divide the {size} {what}")
