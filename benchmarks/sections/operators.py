"""What the kernels give: mixers and steps with them and with PyTorch's operators, beside the projections alone."""

import torch

from benchmarks.bench import Bench
from benchmarks.models import Scale, language_model, mixer
from benchmarks.passes import JUDGED, draw, floor, passes
from benchmarks.record import Found, Ratio
from benchmarks.timing import Call
from benchmarks.training_step import training_step
from diffmamba.ops import backend

ONE = 2048  # length of a single sequence


def measure(bench: Bench) -> Found:
    """Mixers at both sizes, a single sequence, and a training step at the sizes of the scale smoke."""
    sizes = bench.sizes
    yield f"The kernels are {backend.describe(bench.device)}."
    for name in ("mamba", "diff_mamba", "mamba1", "diff_mamba1"):
        yield from _mixer(bench, name, sizes.mixer, sizes.batch, sizes.length, "")
    for name in ("mamba", "diff_mamba"):
        yield from _mixer(bench, name, sizes.smoke, sizes.smoke_batch, sizes.smoke_length, ", smoke")
    for name in ("mamba", "diff_mamba"):
        x = bench.input(batch=1, length=min(ONE, max(sizes.lengths)))
        for mode, call in passes(bench.mixer(name), x).items():
            if mode in ("forward", JUDGED):
                words = f"{name}, one sequence, {mode}"
                taken = bench.compare(f"operators: {words}", both(call))
                aim = bench.target("one sequence") if (name, mode) == ("mamba", "forward") else None
                yield taken, Ratio(f"{words}: kernels ÷ PyTorch's operators", "kernels", "torch", target=aim)
    symbols = (sizes.smoke.vocabulary, (sizes.smoke_batch, sizes.smoke_length + 1))
    for name in ("mamba", "diff_mamba"):
        step = training_step(
            language_model(name, sizes.smoke, bench.device), torch.randint(*symbols, device=bench.device)
        )
        taken = bench.compare(f"operators: a training step of {name}, smoke", both(step))
        aim = bench.target("smoke step") if name == "diff_mamba" else None
        yield (
            taken,
            Ratio(f"a training step of {name}, smoke: kernels ÷ PyTorch's operators", "kernels", "torch", target=aim),
        )


def _mixer(bench: Bench, name: str, scale: Scale, batch: int, length: int, at: str) -> Found:
    """A mixer over its projections, with the kernels and without: after and before."""
    module = mixer(name, scale, bench.device)
    x = draw(batch, length, scale.d_model, device=bench.device)
    cases = both(passes(module, x)[JUDGED]) | {"projections": floor(module, batch, length)[JUDGED]}
    taken = bench.compare(f"operators: {name}{at}", cases)
    yield (
        taken,
        Ratio(
            f"{name} ÷ its projections{at}", "kernels", "projections", target=bench.target(f"{name} ÷ projections{at}")
        ),
    )
    yield taken, Ratio(f"{name} with PyTorch's operators ÷ its projections{at}", "torch", "projections")


def both(call: Call) -> dict[str | int, Call]:
    """A call with the kernels that are here, and with PyTorch's operators."""
    return {"kernels": backend.use("auto")(call), "torch": backend.use("torch")(call)}
