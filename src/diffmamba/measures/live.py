"""How much memory the tensors of some computation take: at their peak, and at its end.

On a GPU the allocator of PyTorch counts. On a CPU it keeps no account, so every operation is watched there: a tensor
counts from the operation that gives it until nothing refers to its storage. Views of a storage count once. What an
operation allocates for itself alone, such as the scratch memory of a kernel, is seen on a GPU only.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Taken:
    """Bytes beyond those that were there before: `kept` at the end, while what was computed is held; `peak` meanwhile."""

    kept: int
    peak: int


def taken(device: torch.device, known: Iterable[Tensor], call: Callable[[], object]) -> Taken:
    """What a call takes on a device; what it returns counts as kept. `known` tensors were there before.

    On a GPU, loading kernels takes memory too: call the same on a small input before.
    """
    if device.type != "cuda":
        with LiveTensors(known) as live:
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

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = self.kept = 0
        self._known = [tensor.untyped_storage() for tensor in known]  # held, so that no other storage gets their ids
        self._seen: dict[int, object] = {id(storage): storage for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._count(output.untyped_storage())
        return outputs

    def __exit__(self, *error: Any) -> None:
        self.kept = self.now
        super().__exit__(*error)

    def _count(self, storage: torch.UntypedStorage) -> None:
        name, size = id(storage), storage.nbytes()
        if name in self._seen:
            return

        def gone(reference: object) -> None:
            del self._seen[name]
            self.now -= size

        self._seen[name] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
