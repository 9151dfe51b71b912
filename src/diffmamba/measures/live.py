"""How much memory the tensors of some computation take: at their peak, and at its end.

On a GPU the allocator of PyTorch counts. On a CPU it keeps no account, so every operation is watched there: a tensor
counts from the operation that gives it until nothing refers to its storage. Views of a storage count once, and what an
operation reads that none has given was there before. What an operation allocates for itself alone, such as the scratch
memory of a kernel, is seen on a GPU only.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Taken:
    """Bytes beyond those that were there before: `kept` at the end, with what the call returned; `peak` meanwhile."""

    kept: int
    peak: int


def taken(device: torch.device, call: Callable[[], object]) -> Taken:
    """What a call takes on a device; what it returns counts as kept.

    On a GPU, loading kernels takes memory too: call the same on a small input before.
    """
    if device.type != "cuda":
        with LiveTensors() as live:
            held = call()
        del held  # it was alive until here, inside `live`
        return Taken(live.kept, live.peak)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    held = call()
    torch.cuda.synchronize(device)
    kept = torch.cuda.memory_allocated(device) - before
    del held
    return Taken(kept, torch.cuda.max_memory_allocated(device) - before)


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make inside a `with` block, as long as they live.

    `now` is how many there are, `peak` the most there were, and `kept` how many there were at the end of the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.kept = 0
        self._seen: dict[int, object] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._look((args, kwargs), new=False)
        outputs = func(*args, **(kwargs or {}))
        self._look(outputs, new=True)
        return outputs

    def __exit__(self, *error: Any) -> None:
        self.kept = self.now
        super().__exit__(*error)

    def _look(self, tensors: Any, new: bool) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), new)

    def _count(self, storage: torch.UntypedStorage, new: bool) -> None:
        name, size = id(storage), storage.nbytes() if new else 0
        if name in self._seen:
            return

        def gone(reference: object) -> None:
            del self._seen[name]
            self.now -= size

        self._seen[name] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
