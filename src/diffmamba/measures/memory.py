"""Memory of a pass by batch and length: that of the weights, what is kept after the pass, and the peak meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from diffmamba.errors import SettingError
from diffmamba.measures.efficiency import Efficiency
from diffmamba.measures.live import taken
from diffmamba.measures.measure import Row
from diffmamba.measures.passes import Load, Pass, passes
from diffmamba.metric import Metric
from diffmamba.models import LanguageModel

MB = 1e6


@dataclass(frozen=True)
class Memory(Efficiency):
    """Bytes of tensors, as `live` counts them. The process itself, PyTorch and its libraries are left out.

    kept_bytes are there after the pass beyond the weights and the symbols: the logits, and what a backward pass needs
    (mode forward); gradients and both moments of AdamW (mode training); the logits alone (mode inference). peak_bytes
    are the most that there were meanwhile. weights_bytes are those of parameters and buffers. A pass takes the same
    each time, so it is made once, after a small one.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "peak_mb": Metric("MB of the largest load, with the weights", "lower", 1),
        **Efficiency.SHARED,
    }
    headline = "peak_mb"

    def check_device(self, on_gpu: bool) -> None:
        if self.compile and not on_gpu:
            raise SettingError(
                "measure.compile=true: on a CPU the tensors of a compiled network are not seen; use "
                "measure.compile=false, or a GPU: trainer=gpu"
            )

    def measured(self, network: LanguageModel, load: Load, repeated: Pass) -> Iterator[Row]:
        symbols, there = repeated.symbols, [*network.parameters(), *network.buffers()]
        for _ in passes(network, symbols[:1, :64], self.mode, min(load.new, 2))():
            continue
        network.zero_grad()
        found = taken(symbols.device, lambda: [*repeated()][-1])
        network.zero_grad()
        weights = sum(tensor.nbytes for tensor in there)
        for name, value in (("weights", weights), ("kept", found.kept), ("peak", found.peak)):
            yield Row(f"{name}_bytes", value, self.at(load))

    def figures(self, rows: Sequence[Row]) -> dict[str, float]:
        peaks = [row.value for row in rows if row.measure == "peak_bytes"]
        weights = [row.value for row in rows if row.measure == "weights_bytes"]
        return {"peak_mb": (max(peaks) + weights[0]) / MB if peaks else 0.0}
