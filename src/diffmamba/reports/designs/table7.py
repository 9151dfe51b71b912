"""Table 7 of the paper: memory by batch, as a ratio to Mamba.

The paper says "memory after a forward pass" and not whether the pass keeps what a backward pass needs. So there are two
parts: what is kept after a pass with its graph, and the peak of one without; both with the weights.
"""

from diffmamba.measures import Memory
from diffmamba.paper import published
from diffmamba.reports.design import Design
from diffmamba.reports.designs import efficiency, efficiency_charts
from diffmamba.reports.designs.efficiency import Reading
from diffmamba.reports.records import Headline

MEANING = (
    "memory: bytes of tensors, the weights included. Of a forward pass with its graph: what is there after it, the "
    "logits and all that a backward pass needs. Of one without: its peak. The paper does not say which of the two it "
    "shows, so its ratio stands beside both. The process itself and PyTorch's libraries are left out here. The paper's "
    "numbers may hold them; then its ratios are closer to 1."
)
COUNTED = (
    "Memory is counted, not estimated: every seed of a row gives the same number. So there is no interval, and a "
    "difference is one however small it is."
)
ELSEWHERE = (
    "The paper's ratios are of its hybrid of 370M parameters, on sequences of 2,048 tokens, on an L40S. At other sizes "
    "weights, logits and states have other shares of the memory, so ratios of other sizes are not theirs."
)
READ = {"forward": "kept_bytes"} | dict.fromkeys(("inference", "training", "generation"), "peak_bytes")
"""What is read beside the weights, by mode."""
READING = Reading(
    measure=Memory,
    of=lambda mode, rows: rows["weights_bytes"] + rows[READ[mode]],
    along="batch",
    ratio=Headline("memory_over_mamba", "memory ÷ mamba", "lower"),
    unit="MB",
    times=1e-6,
    label="memory",
    published=lambda model, mode, load: published.ratio("table7", "batch", load[0], model),
    published_at=", at length 2,048",
    exact=True,
)

DESIGN = Design(
    name="table7",
    title="Table 7: memory of a forward pass by batch",
    sweep="table7",
    key=efficiency.key(READING),
    fold=efficiency.folded(READING),
    baseline="",
    columns=efficiency.columns_of(READING),
    charts=lambda results: [
        efficiency_charts.ratios(READING, results),
        efficiency_charts.values("memory", "Memory", READING, results),
    ],
    notes=(MEANING, COUNTED, ELSEWHERE),
    notes_on=efficiency.notes_on,
    further=efficiency.further,
    points=None,
    of_machine=True,
)
