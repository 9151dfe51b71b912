"""A whole training step of every variant: embedding, backbone, head, loss, backward, AdamW."""

import torch
from torch.nn import functional as F

from benchmarks.bench import Bench
from benchmarks.models import VARIANTS, language_model, parameters
from benchmarks.passes import precision
from benchmarks.record import Found, Ratio
from benchmarks.timing import Call
from diffmamba.models import LanguageModel

BASE = "mamba"


def measure(bench: Bench) -> Found:
    """All variants relative to the vanilla one, and the differential one to its equal in parameters."""
    sizes = bench.sizes
    networks = {name: language_model(name, sizes.training, bench.device) for name in VARIANTS}
    shape = (sizes.training_batch, sizes.training_length + 1)
    symbols = torch.randint(sizes.training.vocabulary, shape, device=bench.device)
    cases = {name: _step(network, symbols) for name, network in networks.items()}
    taken = bench.compare("training: a step of every variant", cases, sizes.patience_with_networks)
    for name, base in [*((name, BASE) for name in VARIANTS if name != BASE), ("diff_mamba", "mamba_grouped")]:
        aim = bench.target("training step") if name == "diff_mamba" else None
        yield taken, Ratio(f"{name} ÷ {base}", name, base, target=aim, at={"variant": name, "base": base})
    counts = ", ".join(f"{name} {parameters(network) / 1e6:.3g}" for name, network in networks.items())
    yield f"Parameters in millions: {counts}."


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
