"""Our mixers against other people's, with the same weights and the same output.

Parameter names are the same everywhere, mamba-ssm's, so weights move by `state_dict`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from benchmarks import references
from benchmarks.bench import Bench
from benchmarks.models import D_STATE_1, Scale
from benchmarks.passes import MODES, floor, in_a_child, off_by, passes
from benchmarks.record import Found, Ratio
from benchmarks.sections import in_a_line
from diffmamba.ops import backend, cuda

TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}  # of float32, and of bfloat16
D_CONV, EXPAND = 4, 2
FAST_CHUNK = 64  # instead of transformers' 256: its fastest of 32, 64 and 256 on a CPU, in half the time


def measure(bench: Bench) -> Found:
    """Peers, and mamba-ssm: on a CPU its references, on a GPU its kernels in our mixers."""
    on_cpu = bench.device.type == "cpu"
    for name, variant, build in _peers(bench.sizes.mixer, on_cpu):
        try:
            yield from _against(bench, name, variant, build)
        except Exception as error:  # whatever is wrong with a peer, the rest is still worth having
            yield f"{name} is left out: it does not run here ({in_a_line(error)})"
    yield from (_references if on_cpu else _kernels)(bench)


def _peers(scale: Scale, on_cpu: bool) -> Iterator[tuple[str, str, Callable[[], nn.Module]]]:
    """Mixers of other libraries that run on a device: name, our variant of the same function, and what builds it.

    That raises ImportError where the library is missing.
    """
    yield "transformers Mamba2Mixer", "mamba", partial(_of_transformers, "Mamba2", scale)
    if on_cpu:
        build = partial(_of_transformers, "Mamba2", scale, chunk_size=FAST_CHUNK)
        yield f"transformers Mamba2Mixer, chunk_size {FAST_CHUNK}", "mamba", build
    yield "transformers MambaMixer", "mamba1", partial(_of_transformers, "Mamba", scale)
    yield "mambapy MambaBlock", "mamba1", partial(_of_mambapy, scale)
    if not on_cpu:
        heads = {"d_state": scale.d_state, "headdim": scale.headdim}
        yield "mamba-ssm Mamba2", "mamba", partial(_of_mamba_ssm, "mamba2", "Mamba2", scale, **heads)
        yield "mamba-ssm Mamba", "mamba1", partial(_of_mamba_ssm, "mamba_simple", "Mamba", scale, d_state=D_STATE_1)


def _of_transformers(kind: str, scale: Scale, **settings: Any) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()  # it says once for each kernel that it does without
    settings |= {"hidden_size": scale.d_model, "state_size": D_STATE_1, "num_hidden_layers": 1, "expand": EXPAND}
    settings |= {"conv_kernel": D_CONV, "use_bias": False, "use_conv_bias": True}
    if kind == "Mamba2":
        heads = {"num_heads": EXPAND * scale.d_model // scale.headdim, "head_dim": scale.headdim, "n_groups": 1}
        settings |= {"state_size": scale.d_state, "time_step_limit": (0.0, float("inf")), **heads}
    modeling = import_module(f"transformers.models.{kind.lower()}.modeling_{kind.lower()}")
    return getattr(modeling, f"{kind}Mixer")(getattr(transformers, f"{kind}Config")(**settings), layer_idx=0)


def _of_mambapy(scale: Scale) -> nn.Module:
    from mambapy.mamba import MambaBlock, MambaConfig

    return MambaBlock(MambaConfig(scale.d_model, 1, d_state=D_STATE_1, expand_factor=EXPAND, d_conv=D_CONV))


def _of_mamba_ssm(module: str, name: str, scale: Scale, **sizes: int) -> nn.Module:
    built = getattr(import_module(f"mamba_ssm.modules.{module}"), name)
    return built(scale.d_model, d_conv=D_CONV, expand=EXPAND, **sizes)


def _against(bench: Bench, name: str, variant: str, build: Callable[[], nn.Module]) -> Found:
    theirs = build().to(bench.device)
    ours, x = bench.mixer(variant), bench.input()
    theirs.load_state_dict(ours.state_dict())
    difference = off_by(ours, theirs, x)
    if not difference <= TOLERANCE[bench.device.type]:
        yield f"{name} is left out: its output is off ours by {difference:.1e} of the largest entry"
        return
    aim = bench.target(name)
    faster = aim is None or aim.least is not None
    sides = {"ours": passes(ours, x), "other": passes(theirs, x), "floor": floor(ours, *x.shape[:2])}
    for mode in MODES:
        taken = bench.compare(f"mixers: {name}, {mode}", {side: calls[mode] for side, calls in sides.items()})
        words, aim = f"{name}, {mode}" if faster else f"ours ÷ {name}, {mode}", bench.target(name, mode)
        at = {"peer": name, "mode": mode, "off_by": difference}
        yield taken, Ratio(words, faster=faster, target=aim, floor="floor", at=at)


def _kernels(bench: Bench) -> Found:
    """Our mixers with mamba-ssm's kernels against the same with PyTorch's operators."""
    x = bench.input()
    for variant, scan in (("mamba", "chunk_scan"), ("diff_mamba", "chunk_scan"), ("mamba1", "selective_scan")):
        if isinstance(reason := cuda.load(scan), str):
            yield f"{variant} ran without mamba-ssm's scan: {reason}"
            continue
        peer = f"{variant} with PyTorch's operators"
        calls = passes(bench.mixer(variant), x)
        for mode in MODES:
            sides = {"ours": backend.use("cuda")(calls[mode]), "other": backend.use("torch")(calls[mode])}
            taken = bench.compare(f"mixers: {variant} with and without kernels, {mode}", sides)
            yield taken, Ratio(f"{peer}, {mode}", faster=True, at={"peer": peer, "mode": mode})


def _references(bench: Bench) -> Found:
    if not references.DIRECTORY.is_dir():
        yield "mamba-ssm's references are left out: they are not in .reference"
        return
    bench.tell("mixers: mamba-ssm's references")
    try:
        found = in_a_child(references.measure, sizes=bench.sizes, heads=bench.mixer("mamba").heads)
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
            yield taken, Ratio(f"{peer}, {mode}", faster=True, at=at)
