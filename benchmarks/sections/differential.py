"""The differential mixer against vanilla ones, and against the two blocks in sequence that it stands for."""

from benchmarks.bench import Bench
from benchmarks.models import TwoBlocks, parameters
from benchmarks.passes import MODES, floor, off_by, passes
from benchmarks.record import Ratio
from benchmarks.sections import A_MIXER, Found

TITLE = "Differential against vanilla, and against two blocks in sequence"
TEXT = (
    "diff_mamba against mamba_grouped, which has the same shapes and but for λ and the outer norm the same parameters; "
    "against mamba, whose single group makes it smaller; and two Mamba-2 blocks computed one after the other and "
    "subtracted, the authors' way, with our operators and the same weights, against diff_mamba, which is one pass. The "
    "head dimension is that of mamba; the others have half of it. floor is the projections of diff_mamba alone. "
) + A_MIXER
OURS, EQUAL, PLAIN, SEQUENCE = "diff_mamba", "mamba_grouped", "mamba", "two blocks in sequence"
RATIOS = (
    # the other side, how the ratio is called, its target
    (EQUAL, f"{OURS} ÷ {EQUAL}", "mixer of equal parameters"),
    (PLAIN, f"{OURS} ÷ {PLAIN}", ""),
    (SEQUENCE, f"{SEQUENCE} ÷ {OURS}", SEQUENCE),
)


def measure(bench: Bench) -> Found:
    """All four in turns, in both modes."""
    sizes, x = bench.sizes, bench.input()
    modules = {name: bench.mixer(name) for name in (OURS, EQUAL, PLAIN)}
    sequence = TwoBlocks(modules[OURS], sizes.mixer.d_model).to(bench.device)
    counts = ", ".join(f"{name} {parameters(module):,}" for name, module in modules.items())
    yield f"Parameters: {counts}."
    yield f"The two blocks' output is that of the one pass to {off_by(modules[OURS], sequence, x):.0e}."
    calls = {name: passes(module, x) for name, module in {**modules, SEQUENCE: sequence}.items()}
    calls["floor"] = floor(modules[OURS], sizes.batch, sizes.length)
    for mode in MODES:
        taken = bench.compare(f"differential: {mode}", {name: call[mode] for name, call in calls.items()})
        yield (
            taken,
            [
                Ratio(
                    f"{words}, {mode}",
                    OURS,
                    other,
                    faster=other == SEQUENCE,
                    target=bench.target(aim, mode),
                    floor="floor",
                    at={"peer": words, "mode": mode},
                )
                for other, words, aim in RATIOS
            ],
        )
