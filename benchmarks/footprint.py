"""Peak memory of a variant's mixer or network: on a CPU in a child process for each case, on a GPU right here."""

from dataclasses import asdict

import torch

from benchmarks import child
from benchmarks.bench import Bench
from benchmarks.memory import peak_bytes
from benchmarks.passes import draw, passes, precision
from benchmarks.timing import Call
from benchmarks.variants import Scale, language_model, mixer

WARM_UP_LENGTH = 64


def mixer_peak(bench: Bench, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
    """Bytes at the peak of a mixer's pass over what its weights and input take."""
    return _peak(bench, variant, scale, batch, length, mode)


def network_peak(bench: Bench, variant: str, scale: Scale, batch: int, length: int) -> int:
    """Bytes at the peak of a network's forward pass that keeps what backward needs, as in the paper's table 7."""
    return _peak(bench, variant, scale, batch, length, "network")


def _peak(bench: Bench, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
    bench.tell(f"memory: {variant}, {mode}, batch {batch}, length {length}")
    case = {"variant": variant, "scale": asdict(scale), "batch": batch, "length": length, "mode": mode}
    if bench.device.type == "cuda":
        return of_case(device="cuda", **case)
    return child.call(of_case, device="cpu", threads=torch.get_num_threads(), **case)


def of_case(
    device: str, variant: str, scale: dict, batch: int, length: int, mode: str, threads: int | None = None
) -> int:
    """One case, in the process that calls it; arguments are plain data."""
    if threads:
        torch.set_num_threads(threads)
    sizes = Scale(**{**scale, "layer": tuple(scale["layer"])})
    place = torch.device(device)
    if mode == "network":
        network = language_model(variant, sizes).to(place)
        call, warm_up = (
            _keeping_the_graph(network, torch.zeros(batch, positions, dtype=torch.long, device=place))
            for positions in (length, min(length, WARM_UP_LENGTH))
        )
    else:
        module = mixer(variant, sizes).to(place)
        call, warm_up = (
            passes(module, draw(batch, positions, module.in_proj.in_features, device=place))[mode]
            for positions in (length, min(length, WARM_UP_LENGTH))
        )
    return peak_bytes(place, call, warm_up)


def _keeping_the_graph(network: torch.nn.Module, symbols: torch.Tensor) -> Call:
    def call() -> None:
        with precision(symbols.device):
            network(symbols)

    return call
