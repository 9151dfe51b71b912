"""Our mixers against other people's, with the same weights and the same output."""

from functools import partial
from typing import Any

import torch

from benchmarks import child, references
from benchmarks.bench import Bench, ratio
from benchmarks.floors import Counter, Gauge, Projections, seconds
from benchmarks.passes import MODES, draw, off_by, passes, precision
from benchmarks.peers import Peer, peers
from benchmarks.record import Section, from_dict
from benchmarks.targets import target
from benchmarks.timing import Call, Clock, Patience
from benchmarks.variants import Scale, mixer
from diffmamba.ops import backend

TEXT = (
    "How many times faster our mixer is than the same mixer of another library: same weights, same input, outputs "
    "compared before anything is timed. forward has no graph; "
    "forward+backward reaches the input and every weight."
)
JUDGED = "forward+backward"  # the mode that targets are for
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}  # of float32, and of bfloat16


class DifferentFunctionError(RuntimeError):
    """A peer does not give our output; the comparison would be void."""


def run(bench: Bench) -> Section:
    """Peers, the two projections alone, and on a CPU mamba-ssm's references."""
    section = Section("mixers", "One mixer against other libraries", f"{TEXT} {bench.sizes.of_a_mixer}")
    sizes = bench.sizes
    gauge = bench.gauge(mixer("mamba", sizes.mixer), sizes.batch, sizes.length)
    for peer in peers(bench.device):
        try:
            _against(bench, section, peer, gauge)
        except ImportError as error:
            section.notes.append(f"{peer.name} is left out: {peer.library} is not installed ({error})")
        except Exception as error:  # whatever is wrong with a peer, the rest is still worth having
            first = (str(error).splitlines() or [""])[0]
            section.notes.append(f"{peer.name} is left out: it does not run here ({type(error).__name__}: {first})")
    _projections(bench, section, gauge)
    if bench.device.type == "cpu":
        _references(bench, section)
    else:
        _kernels(bench, section)
    return section


def _against(bench: Bench, section: Section, peer: Peer, gauge: Gauge) -> None:
    sizes = bench.sizes
    theirs = peer.build(sizes.mixer).to(bench.device)
    ours = mixer(peer.variant, sizes.mixer).to(bench.device)
    theirs.load_state_dict(ours.state_dict())
    x = draw(sizes.batch, sizes.length, sizes.mixer.d_model, device=bench.device)
    with torch.no_grad(), precision(bench.device):
        difference = off_by(ours(x), theirs(x))
    if not difference <= TOLERANCE[bench.device.type]:
        raise DifferentFunctionError(f"its output is off ours by {difference:.1e} of the largest entry")
    aim = target(bench.device, peer.name)
    faster = aim is None or aim.least is not None
    for mode in MODES:
        sides = {"ours": passes(ours, x)[mode], "other": passes(theirs, x)[mode]}
        taken = bench.compare(f"mixers: {peer.name}, {mode}", sides, gauge)
        counter = Counter(sizes.batch, sizes.length, mode != "forward", bench.device)
        ratio(
            section,
            f"{peer.name}, {mode}" if faster else f"ours ÷ {peer.name}, {mode}",
            taken["ours"],
            taken["other"],
            faster=faster,
            target=aim if mode == JUDGED else None,
            floor=(seconds(counter.mixer(ours), gauge.rates(taken)), "arithmetic and memory of our parts"),
            at={"peer": peer.name, "mode": mode, "off_by": difference},
        )


def _projections(bench: Bench, section: Section, gauge: Gauge) -> None:
    sizes = bench.sizes
    ours = mixer("mamba", sizes.mixer).to(bench.device)
    x = draw(sizes.batch, sizes.length, sizes.mixer.d_model, device=bench.device)
    alone = Projections(ours).to(bench.device)
    inputs = alone.inputs(sizes.batch, sizes.length, bench.device)
    mode = JUDGED
    sides = {"ours": passes(ours, x)[mode], "other": passes(alone, *inputs)[mode]}
    counter = Counter(sizes.batch, sizes.length, True, bench.device)
    taken = bench.compare("mixers: the two projections", sides, gauge)
    ratio(
        section,
        f"ours ÷ its two projections alone, {mode}",
        taken["ours"],
        taken["other"],
        target=target(bench.device, "two projections"),
        floor=(seconds(counter.mixer(ours), gauge.rates(taken)), "arithmetic and memory of our parts"),
        at={"peer": "two projections alone", "mode": mode},
    )


def _kernels(bench: Bench, section: Section) -> None:
    """Our mixers with mamba-ssm's kernels against the same with PyTorch's operators."""
    if reason := backend.missing():
        section.notes.append(f"Our mixers ran with PyTorch's operators: {reason}")
        return
    sizes = bench.sizes
    x = draw(sizes.batch, sizes.length, sizes.mixer.d_model, device=bench.device)
    for variant in ("mamba", "diff_mamba", "mamba1"):
        ours = mixer(variant, sizes.mixer).to(bench.device)
        for mode in MODES:
            call = passes(ours, x)[mode]
            sides = {"ours": partial(_under, "cuda", call), "other": partial(_under, "torch", call)}
            ratio(
                section,
                f"{variant} with PyTorch's operators, {mode}",
                **bench.compare(f"mixers: {variant} with and without kernels, {mode}", sides),
                faster=True,
                at={"peer": f"{variant} with PyTorch's operators", "mode": mode},
            )


def _under(name: str, call: Call) -> None:
    with backend.use(name):
        call()


def _references(bench: Bench, section: Section) -> None:
    if not references.DIRECTORY.is_dir():
        section.notes.append("mamba-ssm's references are left out: they are not in .reference")
        return
    bench.tell("mixers: mamba-ssm's references")
    sizes = bench.sizes
    try:
        found = child.call(
            against_references,
            threads=torch.get_num_threads(),
            sizes=[sizes.mixer.d_model, sizes.mixer.headdim, sizes.mixer.d_state, sizes.batch, sizes.length],
            patience=vars(sizes.patience),
        )
    except child.ChildError as error:
        section.notes.append(f"mamba-ssm's references are left out: {error}")
        return
    section.records += [from_dict(record) for record in found["records"]]
    section.notes += found["notes"]


def against_references(threads: int, sizes: list[int], patience: dict[str, Any]) -> dict[str, Any]:
    """Records and notes of our functions against mamba-ssm's references; runs in a child process."""
    torch.set_num_threads(threads)
    d_model, headdim, d_state, batch, length = sizes
    section = Section("mixers", "", "")
    clock = Clock(torch.device("cpu"))
    try:
        pairs = list(references.pairs(Scale(d_model, headdim, d_state), batch, length))
    except ImportError as error:
        return {"records": [], "notes": [f"mamba-ssm's references are left out: {error}"]}
    for name, ours, theirs, inputs in pairs:
        with torch.no_grad():
            difference = off_by(ours(*inputs), theirs(*inputs))
        if not difference <= TOLERANCE["cpu"]:
            section.notes.append(f"mamba-ssm {name} is left out: it is off ours by {difference:.1e}")
            continue
        for mode in MODES:
            sides = {"ours": passes(ours, *inputs)[mode], "other": passes(theirs, *inputs)[mode]}
            ratio(
                section,
                f"mamba-ssm {name}, {mode}",
                **clock.compare(sides, Patience(**patience)),
                faster=True,
                at={"peer": f"mamba-ssm {name}", "mode": mode, "off_by": difference},
            )
    return {"records": [record.as_dict() for record in section.records], "notes": section.notes}
