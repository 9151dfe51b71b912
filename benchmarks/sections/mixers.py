"""Our mixers against other people's, with the same weights and the same output."""

from functools import partial

import torch

from benchmarks import child, references
from benchmarks.bench import Bench
from benchmarks.passes import JUDGED, MODES, Projections, off_by, passes, precision
from benchmarks.peers import Peer, peers
from benchmarks.record import Section
from benchmarks.timing import Call
from diffmamba.ops import backend

TEXT = (
    "How many times faster our mixer is than the same mixer of another library: same weights, same input, outputs "
    "compared before anything is timed. forward has no graph; forward+backward reaches the input and every weight. "
    "floor is the mixer's projections alone."
)
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}  # of float32, and of bfloat16


class DifferentFunctionError(RuntimeError):
    """A peer does not give our output; the comparison would be void."""


def run(bench: Bench) -> Section:
    """Peers, the two projections alone, and mamba-ssm: on a CPU its references, on a GPU its kernels in our mixers."""
    section = Section("mixers", "One mixer against other libraries", f"{TEXT} {bench.sizes.of_a_mixer}")
    for peer in peers(bench.device):
        try:
            _against(bench, section, peer)
        except Exception as error:  # whatever is wrong with a peer, the rest is still worth having
            first = (str(error).splitlines() or [""])[0]
            section.notes.append(f"{peer.name} is left out: it does not run here ({type(error).__name__}: {first})")
    _projections(bench, section)
    if bench.device.type == "cpu":
        _references(bench, section)
    else:
        _kernels(bench, section)
    return section


def _against(bench: Bench, section: Section, peer: Peer) -> None:
    theirs = peer.build(bench.sizes.mixer).to(bench.device)
    ours, x = bench.mixer(peer.variant), bench.input()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad(), precision(bench.device):
        difference = off_by(ours(x), theirs(x))
    if not difference <= TOLERANCE[bench.device.type]:
        raise DifferentFunctionError(f"its output is off ours by {difference:.1e} of the largest entry")
    aim = bench.target(peer.name)
    faster = aim is None or aim.least is not None
    alone = Projections(ours).passes(bench.sizes.batch, bench.sizes.length, bench.device)
    for mode in MODES:
        sides = {"ours": passes(ours, x)[mode], "other": passes(theirs, x)[mode], "floor": alone[mode]}
        taken = bench.compare(f"mixers: {peer.name}, {mode}", sides)
        name = f"{peer.name}, {mode}" if faster else f"ours ÷ {peer.name}, {mode}"
        judged = {"target": aim if mode == JUDGED else None, "floor": min(taken.pop("floor"))}
        section.add(name, **taken, faster=faster, **judged, peer=peer.name, mode=mode, off_by=difference)


def _projections(bench: Bench, section: Section) -> None:
    ours = bench.mixer("mamba")
    alone = Projections(ours).passes(bench.sizes.batch, bench.sizes.length, bench.device)
    sides = {"ours": passes(ours, bench.input())[JUDGED], "other": alone[JUDGED]}
    taken, aim = bench.compare("mixers: the two projections", sides), bench.target("two projections")
    name = "its two projections alone"
    section.add(f"ours ÷ {name}, {JUDGED}", **taken, target=aim, peer=name, mode=JUDGED)


def _kernels(bench: Bench, section: Section) -> None:
    """Our mixers with mamba-ssm's kernels against the same with PyTorch's operators."""
    if reason := backend.missing():
        section.notes.append(f"Our mixers ran with PyTorch's operators: {reason}")
        return
    x = bench.input()
    for variant in ("mamba", "diff_mamba", "mamba1"):
        for mode, call in passes(bench.mixer(variant), x).items():
            sides = {"ours": partial(_under, "cuda", call), "other": partial(_under, "torch", call)}
            peer = f"{variant} with PyTorch's operators"
            taken = bench.compare(f"mixers: {variant} with and without kernels, {mode}", sides)
            section.add(f"{peer}, {mode}", **taken, faster=True, peer=peer, mode=mode)


def _under(name: str, call: Call) -> None:
    with backend.use(name):
        call()


def _references(bench: Bench, section: Section) -> None:
    if not references.DIRECTORY.is_dir():
        section.notes.append("mamba-ssm's references are left out: they are not in .reference")
        return
    bench.tell("mixers: mamba-ssm's references")
    sizes = bench.sizes
    shape = {"batch": sizes.batch, "length": sizes.length, "heads": bench.mixer("mamba").heads}
    states = {"headdim": sizes.mixer.headdim, "d_state": sizes.mixer.d_state}
    try:
        found = child.call(references.measure, **shape, **states, patience=sizes.patience)
    except Exception as error:
        section.notes.append(f"mamba-ssm's references are left out ({type(error).__name__}: {error})")
        return
    for name, (difference, by_mode) in found.items():
        peer = f"mamba-ssm {name}"
        if not difference <= TOLERANCE["cpu"]:
            section.notes.append(f"{peer} is left out: it is off ours by {difference:.1e}")
            continue
        for mode, taken in by_mode.items():
            section.add(f"{peer}, {mode}", **taken, faster=True, peer=peer, mode=mode, off_by=difference)
