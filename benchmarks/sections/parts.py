"""Where a mixer's time goes: each part by itself, beside the least it could take."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import Bench, ratio
from benchmarks.floors import Counter, Projections, Rates
from benchmarks.passes import A_RANGE, DT_RANGE, draw, passes, uniform
from benchmarks.record import Section
from benchmarks.timing import Call, Spread
from benchmarks.variants import mixer
from diffmamba.mixers import Mamba1, Mamba2
from diffmamba.ops import causal_conv, gated_rms_norm, rms_norm, selective_scan, ssd

MODE = "forward+backward"
WHOLE = "whole mixer"
TEXT = (
    "The parts of a mixer, forward+backward, each called by itself at the mixer's shapes, against its floor: its "
    "operations at the rate of the projections, or its inputs and outputs moved once at the rate of a copy, whichever "
    "takes longer. The ratio is measured ÷ floor; the other side is the floor."
)

Part = tuple[Callable[..., Any], Sequence[Tensor]]


def run(bench: Bench) -> Section:
    """Diff-Mamba's mixer, and Mamba-1's, whose scan is of another kind."""
    section = Section("parts", "What a mixer's time is made of", f"{TEXT} {bench.sizes.of_a_mixer}")
    for variant, parts in (("diff_mamba", _mamba2_parts), ("mamba1", _mamba1_parts)):
        _take_apart(bench, section, variant, parts)
    return section


def _take_apart(bench: Bench, section: Section, variant: str, parts: Callable[..., dict[str, Part]]) -> None:
    sizes = bench.sizes
    shape = (sizes.batch, sizes.length)
    whole = mixer(variant, sizes.mixer).to(bench.device)
    alone = Projections(whole).to(bench.device)
    calls: dict[str, Part] = {
        WHOLE: (whole, [draw(*shape, sizes.mixer.d_model, device=bench.device)]),
        "projections": (alone, alone.inputs(*shape, bench.device)),
        **parts(whole, *shape, bench.device),
    }
    gauge = bench.gauge(whole, *shape)
    cases: dict[str, Call] = {name: passes(function, *inputs)[MODE] for name, (function, inputs) in calls.items()}
    taken = bench.compare(f"parts: {variant}", cases, gauge)
    counted = list(Counter(*shape, True, bench.device).mixer(whole))
    _report(section, variant, {name: taken[name] for name in cases}, counted, gauge.rates(taken))


def _mamba2_parts(whole: Mamba2, batch: int, length: int, device: torch.device) -> dict[str, Part]:
    """Functions and inputs, under the names that `floors.py` gives them."""

    def input_of(*shape: int) -> Tensor:
        return draw(batch, length, *shape, device=device)

    by_group = (whole.groups, whole.d_inner // whole.groups)
    states = (whole.groups, whole.d_state)
    return {
        "convolution": _convolution(whole, input_of),
        "scan": (
            lambda *inputs: ssd(*inputs)[0],
            [
                input_of(whole.heads, whole.headdim),
                uniform(*DT_RANGE, batch, length, whole.heads, device=device),
                uniform(*A_RANGE, whole.heads, device=device),
                input_of(*states),
                input_of(*states),
                draw(whole.heads, device=device),
            ],
        ),
        "gated norm": (gated_rms_norm, [input_of(*by_group), input_of(*by_group), draw(*by_group, device=device)]),
        "outer norm": (
            rms_norm,
            [input_of(whole.out_proj.out_features), draw(whole.out_proj.out_features, device=device)],
        ),
    }


def _mamba1_parts(whole: Mamba1, batch: int, length: int, device: torch.device) -> dict[str, Part]:
    """The same of Mamba-1, whose gate has no norm."""

    def input_of(*shape: int) -> Tensor:
        return draw(batch, length, *shape, device=device)

    states = (whole.branches, whole.d_state)
    return {
        "convolution": _convolution(whole, input_of),
        "scan": (
            lambda *inputs: selective_scan(*inputs)[0],
            [
                input_of(whole.d_inner),
                uniform(*DT_RANGE, batch, length, whole.d_inner, device=device),
                uniform(*A_RANGE, whole.d_inner, whole.d_state, device=device),
                input_of(*states),
                input_of(*states),
                draw(whole.d_inner, device=device),
            ],
        ),
        "gate": (lambda y, z: y * torch.nn.functional.silu(z), [input_of(whole.d_inner), input_of(whole.d_inner)]),
    }


def _convolution(whole: Mamba1 | Mamba2, input_of: Callable[..., Tensor]) -> Part:
    weight, bias = whole.conv1d.weight[:, 0].detach(), whole.conv1d.bias.detach()
    inputs = [input_of(len(weight)), weight.requires_grad_(), bias.requires_grad_()]
    return lambda *inputs: causal_conv(*inputs)[0], inputs


def _report(section: Section, variant: str, taken: dict[str, list[float]], parts: list[Any], rates: Rates) -> None:
    least = {WHOLE: sum(part.seconds(rates) for part in parts), **{part.name: part.seconds(rates) for part in parts}}
    bound = {part.name: f", bound by {part.bound(rates)}" for part in parts}
    for name, values in taken.items():
        share = Spread.of_ratios(values, taken[WHOLE]).median
        ratio(
            section,
            f"{variant}, {name}{bound.get(name, '')}",
            values,
            [least[name]] * len(values),
            at={"variant": variant, "part": name, "share": share},
        )
    above = {name: Spread.of(taken[name]).median - least[name] for name in taken}
    worst = max(bound, key=lambda name: above[name])
    section.notes.append(
        f"{variant}: {rates.operations / 1e9:,.3g} billion operations and {rates.bytes / 1e9:,.3g} GB a second in this "
        f"run. Furthest above its floor is the part {worst}, by {above[worst] * 1e3:.3g} ms; the whole mixer is "
        f"{above[WHOLE] * 1e3:.3g} ms above its own."
    )
