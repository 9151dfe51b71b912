"""Parity on a GPU: `python -m benchmarks.gpu_check`, which `make gpu-check` runs before the benchmark.

Every mixer runs on the device three ways from the same weights and inputs: in float64 with PyTorch's operators (the
judge), in float32 and in bfloat16 autocast, each with PyTorch's operators and with the CUDA kernels. What is compared
is the output, the gradient of the input and of every parameter, and decoding (a prompt read at once, then single
steps). An error is the largest difference over the largest number of the judge's.

Needs PyTorch and nothing else. Exit status 0: all within their bounds; 1: something is not, or the kernels are missing
and there was nothing to check them with; 2: no such device.
"""

import argparse
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.variants import VARIANTS, Scale, mixer
from diffmamba.mixers import Difference, Mamba1, Mixer
from diffmamba.ops import backend

SCALE = Scale(d_model=256, headdim=64, d_state=64)
BATCH, LENGTH, PROMPT = 2, 333, 300  # no multiple of any chunk
BOUNDS = {
    # (precision, backend): output, gradients. mamba-ssm's Mamba-2 kernels multiply float32 in TF32, of 10 bits.
    ("float32", "torch"): (1e-4, 1e-3),
    ("float32", "cuda"): (5e-3, 2e-2),
    ("bfloat16", "torch"): (5e-2, 1e-1),
    ("bfloat16", "cuda"): (5e-2, 1e-1),
}


@dataclass(frozen=True)
class Comparison:
    """One way of computing one mixer: its errors against the judge, and what they must not exceed."""

    mixer: str
    precision: str
    backend: str
    output: float
    decoding: float
    gradient: float
    worst: str  # the parameter, or "input", whose gradient that is

    @property
    def passed(self) -> bool:
        output, gradient = BOUNDS[self.precision, self.backend]
        return self.output <= output and self.decoding <= output and self.gradient <= gradient

    def __str__(self) -> str:
        return (
            f"{self.mixer:20} {self.precision:9} {self.backend:6} {self.output:9.1e} {self.decoding:9.1e} "
            f"{self.gradient:9.1e} {self.worst:16} {'ok' if self.passed else 'TOO FAR'}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Prints a line per comparison as it is made; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a trial of the check itself, without kernels"
    )
    device = torch.device(parser.parse_args(arguments).device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu-check finds no CUDA device here; run it on a machine with one", file=sys.stderr)
        return 2
    reason = backend.missing() if device.type == "cuda" else "they need a CUDA device"
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}, PyTorch {torch.__version__}; operators: {backend.describe(device)}")
    print(f"{'mixer':20} {'precision':9} {'by':6} {'output':>9} {'decoding':>9} {'gradient':>9} worst of")
    passed = True
    for name, module in mixers():
        for comparison in compare(name, module.to(device), ("torch",) if reason else ("torch", "cuda")):
            print(comparison, flush=True)
            passed &= comparison.passed
    if reason and device.type == "cuda":
        print(f"the CUDA kernels were not checked: {reason}; {backend.INSTALL}", file=sys.stderr)
        return 1
    return 0 if passed else 1


def mixers() -> Iterator[tuple[str, Mixer]]:
    """Every variant's mixer, and Diff-S6 over Mamba-1, which no model of `conf/` is by default."""
    torch.manual_seed(0)
    for name in VARIANTS:
        yield name, mixer(name, SCALE)
    yield "diff_s6 of mamba1", Mamba1(SCALE.d_model, 2, expand=1, combine=partial(Difference, scope="ssm"))


def compare(name: str, module: Mixer, backends: tuple[str, ...]) -> Iterator[Comparison]:
    """The comparisons of one mixer."""
    device = next(module.parameters()).device
    width = module.in_proj.in_features if hasattr(module, "in_proj") else SCALE.d_model
    x = torch.randn(BATCH, LENGTH, width, device=device)
    towards = torch.randn_like(x)
    with backend.use("torch"):
        judge = _everything(copy.deepcopy(module).double(), x.double(), towards.double())
    for precision in ("float32", "bfloat16"):
        for chosen in backends:
            autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
            with backend.use(chosen), autocast:
                found = _everything(copy.deepcopy(module), x, towards)
            errors = {key: _error(found[key], judge[key]) for key in judge}
            output, decoding = errors.pop("output"), errors.pop("decoding")
            worst = max(errors, key=lambda key: errors[key])
            yield Comparison(name, precision, chosen, output, decoding, errors[worst], worst)


def _everything(module: Mixer, x: Tensor, towards: Tensor) -> dict[str, Tensor]:
    """Output, decoded output, and gradients by name."""
    x = x.clone().requires_grad_()
    output = module(x)
    gradients = torch.autograd.grad((output * towards).sum(), [x, *module.parameters()])
    with torch.no_grad():
        y, state = module.extend(x[:, :PROMPT], module.allocate_state(BATCH))
        decoded = [y]
        for t in range(PROMPT, LENGTH):
            y, state = module.step(x[:, t], state)
            decoded.append(y[:, None])
    names = ["input", *(name for name, _ in module.named_parameters())]
    return {"output": output, "decoding": torch.cat(decoded, dim=1)} | dict(zip(names, gradients, strict=True))


def _error(found: Tensor, judge: Tensor) -> float:
    scale = judge.abs().max().clamp(min=1e-12)
    error = ((found.double() - judge).abs().max() / scale).item()
    return error if error == error else float("inf")


if __name__ == "__main__":
    sys.exit(main())
