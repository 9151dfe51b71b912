"""A whole training step of every variant: embedding, backbone, head, loss, backward, AdamW."""

import torch
from torch.nn import functional as F

from benchmarks.bench import Bench, ratio
from benchmarks.floors import Counter, seconds
from benchmarks.passes import precision
from benchmarks.record import Section
from benchmarks.targets import target
from benchmarks.timing import Call
from benchmarks.variants import VARIANTS, language_model, mixer, parameters
from diffmamba.models import LanguageModel

TEXT = (
    "One optimiser step of every variant's language model, without dropout: embedding, blocks, head, cross-entropy, "
    "backward, fused AdamW. Milliseconds per step, relative to mamba; all variants in turns in every round."
)
BASE = "mamba"


def run(bench: Bench) -> Section:
    """All variants relative to the vanilla one, and the differential one to its equal in parameters."""
    sizes = bench.sizes
    scale = sizes.training
    section = Section("training", "A training step", f"{TEXT} {_at(bench)}")
    networks = {name: language_model(name, scale).to(bench.device) for name in VARIANTS}
    shape = (sizes.training_batch, sizes.training_length)
    symbols = torch.randint(scale.vocabulary, (shape[0], shape[1] + 1), device=bench.device)
    cases = {name: _step(network, symbols) for name, network in networks.items()}
    gauge = bench.gauge(mixer(BASE, scale), *shape)
    taken = bench.compare("training: a step of every variant", cases, gauge, sizes.patience_with_networks)
    rates = gauge.rates(taken)
    counter = Counter(*shape, True, bench.device)
    for name, base in [*((name, BASE) for name in VARIANTS if name != BASE), ("diff_mamba", "mamba_grouped")]:
        ratio(
            section,
            f"{name} ÷ {base}",
            taken[name],
            taken[base],
            target=target(bench.device, "training step") if name == "diff_mamba" else None,
            floor=(seconds(counter.training_step(networks[name]), rates), "arithmetic and memory of all parts"),
            at={"variant": name, "base": base, "parameters": parameters(networks[name])},
        )
    counts = ", ".join(f"{name} {parameters(network) / 1e6:.3g}" for name, network in networks.items())
    section.notes.append(f"Parameters in millions: {counts}.")
    return section


def _at(bench: Bench) -> str:
    sizes = bench.sizes
    return (
        f"{sizes.training.n_layers} × [mixer, mixer, ffn], d_model {sizes.training.d_model}, batch "
        f"{sizes.training_batch}, length {sizes.training_length}."
    )


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
