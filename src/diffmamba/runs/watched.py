"""What is looked at in a network while it trains: λ of each block, the norms of the gradients, and memory.

A block is a residual block of the backbone, and N its 1-based index, which λ_init counts too. To look costs some tenths
of a millisecond, so the recorder looks at the steps that it logs, every `trainer.log_every_n_steps`.
"""

import mmap
import re
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from diffmamba.mixers.combine import Lambda

BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
GB = 1e9


class Watched:
    """Looks at a network. Where its weights are divided among devices (FSDP), all ranks look at the same steps."""

    def __init__(self, network: nn.Module):
        self._parameters: dict[str, list[nn.Parameter]] = defaultdict(list)
        self._weights: dict[str, list[Lambda]] = defaultdict(list)
        for name, parameter in network.named_parameters():
            self._parameters[_block(name) or "rest"].append(parameter)
        for name, module in network.named_modules():
            if isinstance(module, Lambda):
                self._weights[_block(name) or name].append(module)

    @torch.no_grad()
    def lambdas(self) -> dict[str, float]:
        """`lambda/N`: λ of block N, the mean over its channels where it has several; nothing for one branch."""
        found = [torch.stack([_whole(weight.mean()) for weight in weights]) for weights in self._weights.values()]
        return dict(
            zip((f"lambda/{name}" for name in self._weights), _numbers([one.mean() for one in found]), strict=True)
        )

    @torch.no_grad()
    def gradients(self) -> dict[str, float]:
        """`gradient/N`: the norm of the gradients of block N, and `gradient/total` of the whole network."""
        groups = {name: [p.grad for p in some if p.grad is not None] for name, some in self._parameters.items()}
        norms = {name: _whole(nn.utils.get_total_norm(some)).float() for name, some in groups.items() if some}
        if not norms:
            return {}
        total = torch.linalg.vector_norm(torch.stack(list(norms.values())))
        named = {f"gradient/{name}": norm for name, norm in norms.items() if name != "rest"} | {"gradient/total": total}
        return dict(zip(named, _numbers(list(named.values())), strict=True))


def memory_gb(device: torch.device) -> float | None:
    """Memory in GB: on a CUDA device the most that was allocated so far, else what this process holds now.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GB
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * mmap.PAGESIZE / GB
    with suppress(ImportError):  # Windows has none
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB
    return None


def _block(name: str) -> str | None:
    found = BLOCK.search(name)
    return str(int(found[1]) + 1) if found else None


def _whole(value: Tensor) -> Tensor:
    """A number that is divided among devices as one number on each."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _numbers(values: list[Tensor]) -> list[float]:
    """One look at the device for all of them."""
    return torch.stack([value.to(values[0].device) for value in values]).tolist() if values else []
