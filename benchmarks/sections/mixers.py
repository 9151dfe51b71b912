"""Our mixers against other people's, with the same weights and the same output.

Parameter names are the same everywhere, mamba-ssm's, so weights move by `state_dict`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from benchmarks import memory, references
from benchmarks.bench import Bench
from benchmarks.models import D_STATE_1, Scale
from benchmarks.passes import JUDGED, MODES, floor, off_by, passes
from benchmarks.record import Ratio
from benchmarks.sections import A_MIXER, Found, in_a_line
from benchmarks.timing import Call
from diffmamba.ops import backend

TITLE = "One mixer against other libraries"
TEXT = (
    "How many times faster our mixer is than the same mixer of another library: same weights, same input, outputs "
    "compared before anything is timed. forward has no graph; forward+backward reaches the input and every weight. "
    "floor is the mixer's projections alone. "
) + A_MIXER
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}  # of float32, and of bfloat16
D_CONV, EXPAND = 4, 2
FAST_CHUNK = 64  # instead of transformers' 256: its fastest of 32, 64 and 256 on a CPU, in half the time
PROJECTIONS = "its two projections alone"


class DifferentFunctionError(RuntimeError):
    """A peer does not give our output; the comparison would be void."""


def measure(bench: Bench) -> Found:
    """Peers, the two projections alone, and mamba-ssm: on a CPU its references, on a GPU its kernels in our mixers."""
    on_cpu = bench.device.type == "cpu"
    for name, variant, build in _peers(on_cpu):
        try:
            yield from _against(bench, name, variant, build)
        except Exception as error:  # whatever is wrong with a peer, the rest is still worth having
            yield f"{name} is left out: it does not run here ({in_a_line(error)})"
    ours, at = bench.mixer("mamba"), {"peer": PROJECTIONS, "mode": JUDGED}
    alone = floor(ours, bench.sizes.batch, bench.sizes.length)[JUDGED]
    taken = bench.compare("mixers: the two projections", {"ours": passes(ours, bench.input())[JUDGED], "other": alone})
    yield taken, [Ratio(f"ours ÷ {PROJECTIONS}, {JUDGED}", target=bench.target("two projections"), at=at)]
    yield from (_references if on_cpu else _kernels)(bench)


def _peers(on_cpu: bool) -> Iterator[tuple[str, str, Callable[[Scale], nn.Module]]]:
    """Mixers of other libraries that run on a device: name, our variant of the same function, and what builds it."""
    yield "transformers Mamba2Mixer", "mamba", _transformers_mamba2
    if on_cpu:
        build = partial(_transformers_mamba2, chunk_size=FAST_CHUNK)
        yield f"transformers Mamba2Mixer, chunk_size {FAST_CHUNK}", "mamba", build
    yield "transformers MambaMixer", "mamba1", _transformers_mamba1
    yield "mambapy MambaBlock", "mamba1", _mambapy
    if not on_cpu:
        yield "mamba-ssm Mamba2", "mamba", _mamba_ssm_mamba2
        yield "mamba-ssm Mamba", "mamba1", _mamba_ssm_mamba1


def _against(bench: Bench, name: str, variant: str, build: Callable[[Scale], nn.Module]) -> Found:
    theirs = build(bench.sizes.mixer).to(bench.device)
    ours, x = bench.mixer(variant), bench.input()
    theirs.load_state_dict(ours.state_dict())
    difference = off_by(ours, theirs, x)
    if not difference <= TOLERANCE[bench.device.type]:
        raise DifferentFunctionError(f"its output is off ours by {difference:.1e} of the largest entry")
    aim = bench.target(name)
    faster = aim is None or aim.least is not None
    sides = {"ours": passes(ours, x), "other": passes(theirs, x)}
    sides["floor"] = floor(ours, bench.sizes.batch, bench.sizes.length)
    for mode in MODES:
        taken = bench.compare(f"mixers: {name}, {mode}", {side: calls[mode] for side, calls in sides.items()})
        words, aim = f"{name}, {mode}" if faster else f"ours ÷ {name}, {mode}", bench.target(name, mode)
        at = {"peer": name, "mode": mode, "off_by": difference}
        yield taken, [Ratio(words, faster=faster, target=aim, floor="floor", at=at)]


def _kernels(bench: Bench) -> Found:
    """Our mixers with mamba-ssm's kernels against the same with PyTorch's operators."""
    if reason := backend.missing():
        yield f"Our mixers ran with PyTorch's operators: {reason}"
        return
    x = bench.input()
    for variant in ("mamba", "diff_mamba", "mamba1"):
        for mode, call in passes(bench.mixer(variant), x).items():
            sides = {"ours": partial(_under, "cuda", call), "other": partial(_under, "torch", call)}
            peer = f"{variant} with PyTorch's operators"
            taken = bench.compare(f"mixers: {variant} with and without kernels, {mode}", sides)
            yield taken, [Ratio(f"{peer}, {mode}", faster=True, at={"peer": peer, "mode": mode})]


def _under(name: str, call: Call) -> None:
    with backend.use(name):
        call()


def _references(bench: Bench) -> Found:
    if not references.DIRECTORY.is_dir():
        yield "mamba-ssm's references are left out: they are not in .reference"
        return
    bench.tell("mixers: mamba-ssm's references")
    sizes, mixer = bench.sizes, bench.sizes.mixer
    shape = {"batch": sizes.batch, "length": sizes.length, "heads": bench.mixer("mamba").heads}
    shape |= {"headdim": mixer.headdim, "d_state": mixer.d_state}
    try:
        found = memory.in_a_child(references.measure, **shape, patience=sizes.patience)
    except Exception as error:
        yield f"mamba-ssm's references are left out ({in_a_line(error)})"
        return
    for name, (difference, by_mode) in found.items():
        peer = f"mamba-ssm {name}"
        if not difference <= TOLERANCE["cpu"]:
            yield f"{peer} is left out: it is off ours by {difference:.1e}"
            continue
        for mode, taken in by_mode.items():
            at = {"peer": peer, "mode": mode, "off_by": difference}
            yield taken, [Ratio(f"{peer}, {mode}", faster=True, at=at)]


# What builds the mixers of other libraries. Each raises ImportError where its library is missing.


def _transformers_mamba2(scale: Scale, **settings: int) -> nn.Module:
    from transformers import Mamba2Config, logging
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    logging.set_verbosity_error()  # it says once for each kernel that it does without
    heads = {"num_heads": EXPAND * scale.d_model // scale.headdim, "head_dim": scale.headdim, "n_groups": 1}
    sizes = _transformers_sizes(scale, scale.d_state) | heads | settings
    return Mamba2Mixer(Mamba2Config(**sizes, time_step_limit=(0.0, float("inf"))), layer_idx=0)


def _transformers_mamba1(scale: Scale) -> nn.Module:
    from transformers import MambaConfig, logging
    from transformers.models.mamba.modeling_mamba import MambaMixer

    logging.set_verbosity_error()
    return MambaMixer(MambaConfig(**_transformers_sizes(scale, D_STATE_1)), layer_idx=0)


def _transformers_sizes(scale: Scale, states: int) -> dict[str, Any]:
    sizes = {"hidden_size": scale.d_model, "state_size": states, "num_hidden_layers": 1, "expand": EXPAND}
    return sizes | {"conv_kernel": D_CONV, "use_bias": False, "use_conv_bias": True}


def _mambapy(scale: Scale) -> nn.Module:
    from mambapy.mamba import MambaBlock, MambaConfig

    sizes = {"d_state": D_STATE_1, "expand_factor": EXPAND, "d_conv": D_CONV}
    return MambaBlock(MambaConfig(d_model=scale.d_model, n_layers=1, **sizes))


def _mamba_ssm_mamba2(scale: Scale) -> nn.Module:
    from mamba_ssm.modules.mamba2 import Mamba2

    return Mamba2(scale.d_model, d_state=scale.d_state, d_conv=D_CONV, expand=EXPAND, headdim=scale.headdim)


def _mamba_ssm_mamba1(scale: Scale) -> nn.Module:
    from mamba_ssm.modules.mamba_simple import Mamba

    return Mamba(scale.d_model, d_state=D_STATE_1, d_conv=D_CONV, expand=EXPAND)
