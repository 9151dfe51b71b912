"""The differential mixer against vanilla ones, and against the two blocks in sequence that it stands for."""

import torch

from benchmarks.bench import Bench
from benchmarks.passes import JUDGED, MODES, Projections, off_by, passes, precision
from benchmarks.record import Section
from benchmarks.two_blocks import TwoBlocks
from benchmarks.variants import parameters

TEXT = (
    "diff_mamba against mamba_grouped, which has the same shapes and but for λ and the outer norm the same parameters; "
    "against mamba, whose single group makes it smaller; and two Mamba-2 blocks computed one after the other and "
    "subtracted, the authors' way, with our operators and the same weights, against diff_mamba, which is one pass. The "
    "head dimension is that of mamba; the others have half of it. floor is the projections of diff_mamba alone."
)
OURS, EQUAL, PLAIN, SEQUENCE = "diff_mamba", "mamba_grouped", "mamba", "two blocks in sequence"


def run(bench: Bench) -> Section:
    """All four in turns, in both modes."""
    sizes = bench.sizes
    text = f"{TEXT} {sizes.of_a_mixer}"
    section = Section("differential", "Differential against vanilla, and against two blocks in sequence", text)
    modules = {name: bench.mixer(name) for name in (OURS, EQUAL, PLAIN)}
    counts = ", ".join(f"{name} {parameters(module):,}" for name, module in modules.items())
    ours, x = modules[OURS], bench.input()
    sequence = TwoBlocks(ours, sizes.mixer.d_model).to(bench.device)
    with torch.no_grad(), precision(bench.device):
        difference = off_by(ours(x), sequence(x))
    section.notes += [f"Parameters: {counts}.", f"The two blocks' output is that of the one pass to {difference:.0e}."]
    calls = {name: passes(module, x) for name, module in {**modules, SEQUENCE: sequence}.items()}
    calls["floor"] = Projections(ours).passes(sizes.batch, sizes.length, bench.device)
    for mode in MODES:
        taken = bench.compare(f"differential: {mode}", {name: call[mode] for name, call in calls.items()})
        for name, words, aim in (
            (EQUAL, f"{OURS} ÷ {EQUAL}", "mixer of equal parameters"),
            (PLAIN, f"{OURS} ÷ {PLAIN}", ""),
            (SEQUENCE, f"{SEQUENCE} ÷ {OURS}", SEQUENCE),
        ):
            judged = {"target": bench.target(aim) if mode == JUDGED else None, "floor": min(taken["floor"])}
            sides = (taken[OURS], taken[name])
            section.add(f"{words}, {mode}", *sides, faster=name == SEQUENCE, **judged, peer=words, mode=mode)
    return section
