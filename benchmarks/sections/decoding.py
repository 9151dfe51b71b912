"""Generation: symbols per second by batch, as in the paper's figure 9, and the time of a step by position."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import Bench, ratio
from benchmarks.floors import Gauge, decoding_step
from benchmarks.passes import precision
from benchmarks.record import Section, Target
from benchmarks.sizes import Sizes
from benchmarks.targets import target
from benchmarks.timing import Patience, Spread, rounds
from benchmarks.variants import language_model, mixer
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
MODELS = (BASE, EQUAL, OURS, ATTENTION)


def run(bench: Bench) -> Section:
    """Throughput by batch, then steps by position."""
    sizes = bench.sizes
    scale = sizes.decoding
    section = Section("decoding", "Decoding", _heading(bench.sizes))
    networks = {name: language_model(name, scale).to(bench.device).eval() for name in MODELS}
    gauge = bench.gauge(mixer(BASE, scale), 1, sizes.prompt)
    for batch in sizes.batches:
        _throughput(bench, section, networks, batch, gauge)
    for name in (BASE, OURS, ATTENTION):
        _by_position(bench, section, name, networks[name], gauge)
    return section


def _heading(sizes: Sizes) -> str:
    at = sizes.decoding
    return TEXT.format(layers=at.n_layers, d_model=at.d_model, prompt=sizes.prompt, new=sizes.new)


def _throughput(bench: Bench, section: Section, networks: dict[str, LanguageModel], batch: int, gauge: Gauge) -> None:
    sizes = bench.sizes
    bench.tell(f"decoding: batch {batch}")
    prompt = torch.randint(sizes.decoding.vocabulary, (batch, sizes.prompt), device=bench.device)
    samplers = {name: _generation(bench, network, prompt) for name, network in networks.items()}
    warm_up = batch == sizes.batches[0]  # which the larger ones need no more, whose rounds take long enough
    taken = _rounds(bench, samplers, gauge, sizes.patience_with_networks, warm_up)
    whole = {name: [batch * sizes.new / (first + rest) for first, rest in taken[name]] for name in MODELS}
    steps = {name: [batch * (sizes.new - 1) / rest for _, rest in taken[name]] for name in MODELS}
    states = sum(_bytes(state) for state in networks[OURS].allocate_state(batch))
    floor = decoding_step(networks[OURS], batch, states).seconds(gauge.rates(taken))
    for what, speeds in (("prompt included", whole), ("steps alone", steps)):
        for other in (name for name in MODELS if name != OURS):
            aim = f"generation at batch {batch}" if other != ATTENTION and what == "prompt included" else ""
            ratio(
                section,
                f"{OURS} ÷ {other}, batch {batch}, {what}",
                speeds[OURS],
                speeds[other],
                unit="symbols/s",
                target=target(bench.device, aim),
                floor=(batch / floor, "weights and states moved once a step") if what == "steps alone" else None,
                at={"other": other, "batch": batch, "what": what},
            )


def _rounds(
    bench: Bench, samplers: dict[str, Any], gauge: Gauge, patience: Patience, warm_up: bool
) -> dict[str, list[Any]]:
    """What the samplers give round by round, those of the gauge among them."""
    samplers = samplers | {name: partial(bench.clock.seconds, call) for name, call in gauge.cases.items()}
    for sampler in samplers.values() if warm_up else ():
        sampler()
    return rounds(samplers, patience)


def _generation(bench: Bench, network: LanguageModel, prompt: Tensor) -> Callable[[], tuple[float, float]]:
    """Seconds until the first symbol, and from there to the last."""

    def sample() -> tuple[float, float]:
        with precision(bench.device):
            start = bench.clock.now()
            symbols = generate(network, prompt, bench.sizes.new, temperature=0)
            next(symbols)
            first = bench.clock.now()
            for _ in symbols:
                pass
            return first - start, bench.clock.now() - first

    return sample


def _by_position(bench: Bench, section: Section, name: str, network: LanguageModel, gauge: Gauge) -> None:
    sizes = bench.sizes
    base = sizes.positions[0]
    bench.tell(f"decoding: {name} by position")
    states = {str(position): _states_after(network, position) for position in sizes.positions}
    again = f"{base} again"
    samplers = {key: _steps(bench, network, state) for key, state in {again: states[str(base)], **states}.items()}
    taken = _rounds(bench, samplers, gauge, sizes.patience, warm_up=True)
    noise = Spread.of_ratios(taken[again], taken[str(base)])
    width = max(abs(noise.low - 1), abs(noise.high - 1), TOLERANCE)
    flat = None if name == ATTENTION else Target(least=1 - width, most=1 + width)
    for key in (again, *map(str, sizes.positions[1:])):
        position = base if key == again else int(key)
        kept = sum(_bytes(state) for state in states[str(position)])
        ratio(
            section,
            f"{name}, step at {position:,} ÷ {base:,}" + (" (noise)" if key == again else ""),
            taken[key],
            taken[str(base)],
            unit="µs",
            target=None if key == again else flat,
            floor=(decoding_step(network, 1, kept).seconds(gauge.rates(taken)), "weights and states moved once"),
            at={"variant": name, "position": position, "noise": key == again},
        )


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


def _bytes(state: object) -> int:
    """What a state takes; of a cache only its entries count."""
    if isinstance(state, Cache):
        return state.entries.nbytes
    if isinstance(state, Tensor):
        return state.nbytes
    return sum(map(_bytes, state)) if isinstance(state, tuple) else 0
