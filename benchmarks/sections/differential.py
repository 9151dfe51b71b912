"""The differential mixer against vanilla ones, and against the two blocks in sequence that it stands for."""

import torch

from benchmarks.bench import Bench, ratio
from benchmarks.floors import Counter, seconds
from benchmarks.passes import MODES, draw, off_by, passes, precision
from benchmarks.record import Section
from benchmarks.sections.mixers import JUDGED
from benchmarks.targets import target
from benchmarks.two_blocks import TwoBlocks
from benchmarks.variants import mixer, parameters
from diffmamba.mixers import Mamba2

TEXT = (
    "diff_mamba against mamba_grouped, which has the same shapes and but for λ and the outer norm the same parameters; "
    "against mamba, whose single group makes it smaller; and two Mamba-2 blocks computed one after the other and "
    "subtracted, the authors' way, with our operators and the same weights, against diff_mamba, which is one pass. The "
    "head dimension is that of mamba; the others have half of it."
)
OURS, EQUAL, PLAIN, SEQUENCE = "diff_mamba", "mamba_grouped", "mamba", "two blocks in sequence"


def run(bench: Bench) -> Section:
    """All four in turns, in both modes."""
    sizes = bench.sizes
    text = f"{TEXT} {sizes.of_a_mixer}"
    section = Section("differential", "Differential against vanilla, and against two blocks in sequence", text)
    modules = {name: mixer(name, sizes.mixer).to(bench.device) for name in (OURS, EQUAL, PLAIN)}
    counts = {name: parameters(module) for name, module in modules.items()}
    section.notes.append("Parameters: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + ".")
    ours = modules[OURS]
    assert isinstance(ours, Mamba2)
    everything = {**modules, SEQUENCE: TwoBlocks(ours, sizes.mixer.d_model).to(bench.device)}
    x = draw(sizes.batch, sizes.length, sizes.mixer.d_model, device=bench.device)
    with torch.no_grad(), precision(bench.device):
        section.notes.append(
            f"The two blocks' output is that of the one pass to {off_by(ours(x), everything[SEQUENCE](x)):.0e}."
        )
    gauge = bench.gauge(ours, sizes.batch, sizes.length)
    for mode in MODES:
        cases = {name: passes(module, x)[mode] for name, module in everything.items()}
        taken = bench.compare(f"differential: {mode}", cases, gauge)
        counter = Counter(sizes.batch, sizes.length, mode != "forward", bench.device)
        floor = (seconds(counter.mixer(ours), gauge.rates(taken)), "arithmetic and memory of diff_mamba's parts")
        for name, words, aim in (
            (EQUAL, f"{OURS} ÷ {EQUAL}", "mixer of equal parameters"),
            (PLAIN, f"{OURS} ÷ {PLAIN}", None),
            (SEQUENCE, f"{SEQUENCE} ÷ {OURS}", SEQUENCE),
        ):
            ratio(
                section,
                f"{words}, {mode}",
                taken[OURS],
                taken[name],
                faster=name == SEQUENCE,
                target=target(bench.device, aim) if aim and mode == JUDGED else None,
                floor=floor,
                at={"other": name, "mode": mode},
            )
    return section
