"""Generation: symbols per second by batch, as in the paper's figure 9, and the time of a step by position."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.models import language_model
from benchmarks.passes import precision
from benchmarks.record import Found, Ratio, Target
from benchmarks.timing import Spread, now, rounds
from diffmamba.mixers.attention import Cache
from diffmamba.models import LanguageModel, generate

OURS, BASE, EQUAL, ATTENTION = "diff_mamba", "mamba", "mamba_grouped", "transformer"
INCLUDED, ALONE = "prompt included", "steps alone"
TOLERANCE = 0.03  # however quiet the machine was


def measure(bench: Bench) -> Found:
    """Throughput by batch, then steps by position."""
    scale, device = bench.sizes.decoding, bench.device
    networks = {name: language_model(name, scale, device).eval() for name in (BASE, EQUAL, OURS, ATTENTION)}
    for batch in bench.sizes.batches:
        yield from _throughput(bench, networks, batch)
    for name in (BASE, OURS, ATTENTION):
        yield from _by_position(bench, name, networks[name])


def _throughput(bench: Bench, networks: dict[str, LanguageModel], batch: int) -> Found:
    sizes, new = bench.sizes, bench.sizes.new
    bench.tell(f"decoding: batch {batch}")
    prompt = torch.randint(sizes.decoding.vocabulary, (batch, sizes.prompt), device=bench.device)
    samplers = {name: partial(_generation, bench, network, prompt) for name, network in networks.items()}
    first = batch == sizes.batches[0]  # the rounds of larger batches take long enough without a warm-up
    taken = rounds(samplers, sizes.patience_with_networks, warm_up=first)
    whole = {name: [batch * new / (first + rest) for first, rest in each] for name, each in taken.items()}
    steps = {name: [batch * (new - 1) / rest for _, rest in each] for name, each in taken.items()}
    for what, speeds in ((INCLUDED, whole), (ALONE, steps)):
        for other in (BASE, EQUAL, ATTENTION):
            judged = what == INCLUDED and other != ATTENTION
            aim = bench.target(f"generation at batch {batch}") if judged else None
            if (what, other) == (ALONE, BASE):
                aim = bench.target(f"decoding at batch {batch}")
            name, at = f"{OURS} ÷ {other}, batch {batch}, {what}", {"variant": other, "batch": batch, "what": what}
            yield speeds, Ratio(name, OURS, other, "symbols/s", target=aim, at=at)


def _generation(bench: Bench, network: LanguageModel, prompt: Tensor) -> tuple[float, float]:
    """Seconds until the first symbol, and from there to the last."""
    with precision(bench.device):
        start = now()
        symbols = generate(network, prompt, bench.sizes.new, temperature=0)
        next(symbols)
        first = now()
        for _ in symbols:
            pass
        return first - start, now() - first


def _by_position(bench: Bench, name: str, network: LanguageModel) -> Found:
    base, *later = bench.sizes.positions
    bench.tell(f"decoding: {name} by position")
    states = {str(position): _states_after(network, position) for position in (base, *later)}
    states = {"again": states[str(base)], **states}
    samplers = {key: partial(_step, bench, network, state) for key, state in states.items()}
    taken = rounds(samplers, bench.sizes.patience, warm_up=True)
    noise = Spread.of_ratios(taken["again"], taken[str(base)])
    width = max(abs(noise.low - 1), abs(noise.high - 1), TOLERANCE)
    flat = None if name == ATTENTION else Target(least=1 - width, most=1 + width)
    for key, position, aim in [("again", base, None), *((str(position), position, flat) for position in later)]:
        words = f"{name}, step at {position:,} ÷ {base:,}" + (" (noise)" if key == "again" else "")
        yield taken, Ratio(words, key, str(base), "µs", target=aim, at={"variant": name, "position": position})


@torch.no_grad()
def _step(bench: Bench, network: LanguageModel, states: list[object]) -> float:
    """Seconds of a step; the first from a kept state is not timed, since a cache of attention is copied there."""
    symbol, steps = torch.zeros(1, 1, dtype=torch.long, device=bench.device), bench.sizes.steps
    with precision(bench.device):
        _, following = network.extend(symbol, states)
        start = now()
        for _ in range(steps):
            _, following = network.extend(symbol, following)
        return (now() - start) / steps


@torch.no_grad()
def _states_after(network: LanguageModel, position: int) -> list[object]:
    """States after so many symbols: read where that is linear; where it is not, a cache of random keys and values."""
    states = network.allocate_state(1)
    device = network.embedding.weight.device
    if not any(isinstance(state, Cache) for state in states):
        symbols = torch.randint(network.embedding.num_embeddings, (1, position), device=device)
        with precision(device):
            return network.extend(symbols, states)[1]
    for at, state in enumerate(states):
        if isinstance(state, Cache):  # filled in the type that keys and values have
            dtype = torch.bfloat16 if device.type == "cuda" else state.buffer.dtype
            shape = (len(state.buffer), position, *state.buffer.shape[2:])
            states[at] = state.append(torch.randn(shape, device=device, dtype=dtype))
    return states
