"""Generation: symbols per second by batch, as in the paper's figure 9, and the time of a step by position."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.passes import precision
from benchmarks.record import Section, Target
from benchmarks.timing import Spread, rounds
from diffmamba.mixers.attention import Cache
from diffmamba.models import LanguageModel, generate

TEXT = (
    "Language models of {layers} × [mixer, mixer, ffn] and d_model {d_model} read a prompt of {prompt:,} symbols and "
    "generate {new}, the most likely each time; mamba_grouped has diff_mamba's shapes. Symbols per second, prompt "
    "included as in figure 9, and of the steps alone; all models in turns. Then the time of a step after more and more "
    "symbols, relative to the first position, batch 1. The first position is timed twice, which shows what noise is: a "
    "step is flat if it is within that, or within 3 %."
)
OURS, BASE, EQUAL, ATTENTION = "diff_mamba", "mamba", "mamba_grouped", "transformer"
TOLERANCE = 0.03  # however quiet the machine was


def run(bench: Bench) -> Section:
    """Throughput by batch, then steps by position."""
    sizes = bench.sizes
    at = sizes.decoding
    text = TEXT.format(layers=at.n_layers, d_model=at.d_model, prompt=sizes.prompt, new=sizes.new)
    section = Section("decoding", "Decoding", text)
    networks = {name: bench.network(name, at).eval() for name in (BASE, EQUAL, OURS, ATTENTION)}
    for batch in sizes.batches:
        _throughput(bench, section, networks, batch)
    for name in (BASE, OURS, ATTENTION):
        _by_position(bench, section, name, networks[name])
    return section


def _throughput(bench: Bench, section: Section, networks: dict[str, LanguageModel], batch: int) -> None:
    sizes = bench.sizes
    bench.tell(f"decoding: batch {batch}")
    prompt = torch.randint(sizes.decoding.vocabulary, (batch, sizes.prompt), device=bench.device)
    samplers = {name: partial(_generation, bench, network, prompt) for name, network in networks.items()}
    if batch == sizes.batches[0]:  # warm; the rounds of larger batches take long enough
        for sampler in samplers.values():
            sampler()
    taken = rounds(samplers, sizes.patience_with_networks)
    whole = {name: [batch * sizes.new / (first + rest) for first, rest in taken[name]] for name in networks}
    steps = {name: [batch * (sizes.new - 1) / rest for _, rest in taken[name]] for name in networks}
    for what, speeds in (("prompt included", whole), ("steps alone", steps)):
        for other in (name for name in networks if name != OURS):
            judged = other != ATTENTION and what == "prompt included"
            name, sides = f"{OURS} ÷ {other}, batch {batch}, {what}", (speeds[OURS], speeds[other])
            aim = bench.target(f"generation at batch {batch}") if judged else None
            section.add(name, *sides, unit="symbols/s", target=aim, variant=other, batch=batch, what=what)


def _generation(bench: Bench, network: LanguageModel, prompt: Tensor) -> tuple[float, float]:
    """Seconds until the first symbol, and from there to the last."""
    with precision(bench.device):
        start = bench.clock.now()
        symbols = generate(network, prompt, bench.sizes.new, temperature=0)
        next(symbols)
        first = bench.clock.now()
        for _ in symbols:
            pass
        return first - start, bench.clock.now() - first


def _by_position(bench: Bench, section: Section, name: str, network: LanguageModel) -> None:
    sizes = bench.sizes
    base = sizes.positions[0]
    bench.tell(f"decoding: {name} by position")
    states = {str(position): _states_after(network, position) for position in sizes.positions}
    again = f"{base} again"
    samplers = {key: _steps(bench, network, state) for key, state in {again: states[str(base)], **states}.items()}
    for sampler in samplers.values():
        sampler()
    taken = rounds(samplers, sizes.patience)
    noise = Spread.of_ratios(taken[again], taken[str(base)])
    width = max(abs(noise.low - 1), abs(noise.high - 1), TOLERANCE)
    flat = None if name == ATTENTION else Target(least=1 - width, most=1 + width)
    for key in (again, *map(str, sizes.positions[1:])):
        position = base if key == again else int(key)
        words = f"{name}, step at {position:,} ÷ {base:,}" + (" (noise)" if key == again else "")
        sides, aim = (taken[key], taken[str(base)]), None if key == again else flat
        section.add(words, *sides, unit="µs", target=aim, variant=name, position=position)


def _steps(bench: Bench, network: LanguageModel, states: list[object]) -> Callable[[], float]:
    """Seconds of a step; the first from a kept state is not timed, since a cache of attention is copied there."""
    symbol = torch.zeros(1, 1, dtype=torch.long, device=bench.device)
    steps = bench.sizes.steps

    @torch.no_grad()
    def sample() -> float:
        with precision(bench.device):
            _, following = network.extend(symbol, states)
            start = bench.clock.now()
            for _ in range(steps):
                _, following = network.extend(symbol, following)
            return (bench.clock.now() - start) / steps

    return sample


@torch.no_grad()
def _states_after(network: LanguageModel, position: int) -> list[object]:
    """States after so many symbols: read where that is linear; where it is not, a cache of random keys and values."""
    states = network.allocate_state(1)
    device = network.embedding.weight.device
    if any(isinstance(state, Cache) for state in states):
        return [_filled(state, position) if isinstance(state, Cache) else state for state in states]
    symbols = torch.randint(network.embedding.num_embeddings, (1, position), device=device)
    with precision(device):
        return network.extend(symbols, states)[1]


def _filled(cache: Cache, position: int) -> Cache:
    """In the type that keys and values have."""
    buffer = cache.buffer
    dtype = torch.bfloat16 if buffer.is_cuda else buffer.dtype
    return cache.append(torch.randn(len(buffer), position, *buffer.shape[2:], device=buffer.device, dtype=dtype))
