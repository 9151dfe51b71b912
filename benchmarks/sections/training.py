"""A whole training step of every variant: embedding, backbone, head, loss, backward, AdamW."""

import torch
from torch.nn import functional as F

from benchmarks.bench import Bench
from benchmarks.passes import precision
from benchmarks.record import Section
from benchmarks.timing import Call
from benchmarks.variants import VARIANTS, parameters
from diffmamba.models import LanguageModel

TEXT = (
    "One optimiser step of every variant's language model, without dropout: embedding, blocks, head, cross-entropy, "
    "backward, fused AdamW. Milliseconds per step, relative to mamba; all variants in turns in every round. {layers} × "
    "[mixer, mixer, ffn], d_model {d_model}, batch {batch}, length {length}."
)
BASE = "mamba"


def run(bench: Bench) -> Section:
    """All variants relative to the vanilla one, and the differential one to its equal in parameters."""
    sizes = bench.sizes
    scale, batch, length = sizes.training, sizes.training_batch, sizes.training_length
    text = TEXT.format(layers=scale.n_layers, d_model=scale.d_model, batch=batch, length=length)
    section = Section("training", "A training step", text)
    networks = {name: bench.network(name, scale) for name in VARIANTS}
    symbols = torch.randint(scale.vocabulary, (batch, length + 1), device=bench.device)
    cases = {name: _step(network, symbols) for name, network in networks.items()}
    taken = bench.compare("training: a step of every variant", cases, sizes.patience_with_networks)
    for name, base in [*((name, BASE) for name in VARIANTS if name != BASE), ("diff_mamba", "mamba_grouped")]:
        aim = bench.target("training step") if name == "diff_mamba" else None
        section.add(f"{name} ÷ {base}", taken[name], taken[base], target=aim, variant=name, base=base)
    counts = ", ".join(f"{name} {parameters(network) / 1e6:.3g}" for name, network in networks.items())
    section.notes.append(f"Parameters in millions: {counts}.")
    return section


def _step(network: LanguageModel, symbols: torch.Tensor) -> Call:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    inputs, labels = symbols[:, :-1], symbols[:, 1:]

    def step() -> None:
        optimizer.zero_grad()
        with precision(symbols.device):
            loss = F.cross_entropy(network(inputs).flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()

    return step
