"""The differential mixer against vanilla ones, and against the two blocks in sequence that it stands for."""

from benchmarks.bench import Bench
from benchmarks.models import TwoBlocks, parameters
from benchmarks.passes import MODES, floor, off_by, passes
from benchmarks.record import Found, Ratio

OURS, EQUAL, PLAIN, SEQUENCE = "diff_mamba", "mamba_grouped", "mamba", "two blocks in sequence"
RATIOS = (  # what it is called, the other side, its target
    (f"{OURS} ÷ {EQUAL}", EQUAL, "mixer of equal parameters"),
    (f"{OURS} ÷ {PLAIN}", PLAIN, ""),
    (f"{SEQUENCE} ÷ {OURS}", SEQUENCE, SEQUENCE),
)


def measure(bench: Bench) -> Found:
    """All four in turns, in both modes."""
    x, modules = bench.input(), {name: bench.mixer(name) for name in (OURS, EQUAL, PLAIN)}
    sequence = TwoBlocks(modules[OURS], x.shape[-1]).to(bench.device)
    counts = ", ".join(f"{name} {parameters(module):,}" for name, module in modules.items())
    yield f"Parameters: {counts}."
    yield f"The two blocks' output is that of the one pass to {off_by(modules[OURS], sequence, x):.0e}."
    calls = {name: passes(module, x) for name, module in {**modules, SEQUENCE: sequence}.items()}
    calls["floor"] = floor(modules[OURS], *x.shape[:2])
    for mode in MODES:
        taken = bench.compare(f"differential: {mode}", {name: call[mode] for name, call in calls.items()})
        for words, other, aim in RATIOS:
            judged = {"faster": other == SEQUENCE, "target": bench.target(aim, mode), "floor": "floor"}
            yield taken, Ratio(f"{words}, {mode}", OURS, other, **judged, at={"peer": words, "mode": mode})
