"""Every mixer on a GPU is what float64 says: `pytest -m gpu`, which `make gpu-check` runs before the benchmark.

The same weights and inputs run on the device in float64 with PyTorch's operators (the judge), in float32 and in
bfloat16 autocast, each with PyTorch's operators and with the CUDA kernels. Compared are the output, decoding (a prompt
read at once, then single steps), and the gradients of the input and of every parameter. An error is the largest
difference over the largest number of the judge's.

`transformer` runs before `diff_transformer` at the same shapes, and that matters: see `diffmamba.mixers.attention`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from benchmarks.models import VARIANTS, Scale, mixer
from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer
from diffmamba.ops import backend

SCALE = Scale(d_model=256, headdim=64, d_state=64)
BATCH, LENGTH, PROMPT = 2, 333, 300  # no multiple of any chunk
DIFF_S6_OF_MAMBA1 = "diff_s6 of mamba1"  # which no model of `conf/` is by default
MIXERS = (*VARIANTS, DIFF_S6_OF_MAMBA1)
Tell = Callable[[str, str, dict[str, float]], None]
BOUNDS = {
    # (precision, backend): output, gradients. mamba-ssm's Mamba-2 kernels multiply float32 in TF32, of 10 bits.
    ("float32", "torch"): (1e-4, 1e-3),
    ("float32", "cuda"): (5e-3, 2e-2),
    ("bfloat16", "torch"): (5e-2, 1e-1),
    ("bfloat16", "cuda"): (5e-2, 1e-1),
}
SCANS = {Mamba2: ("chunk_scan",), Mamba1: ("selective_scan",)}
"""The kernel without which there is nothing of a mixer to check."""
SINGLE = 3.0  # as far again for a gradient of one number, λ̄: a sum over all positions in which much cancels


@dataclass(frozen=True)
class Judged:
    """A mixer, what it is given, and what float64 makes of it, by name."""

    module: Mixer
    x: Tensor
    towards: Tensor
    numbers: dict[str, Tensor]

    def errors(self, precision: str, chosen: str) -> dict[str, float]:
        """How far one way of computing it is off, by name."""
        autocast = torch.autocast(self.x.device.type, torch.bfloat16, enabled=precision == "bfloat16")
        with backend.use(chosen), autocast:
            found = everything(copy.deepcopy(self.module), self.x, self.towards)
        return {name: error(found[name], judge) for name, judge in self.numbers.items()}


@cache
def judged(name: str, device: str) -> Judged:
    torch.manual_seed(0)
    if name == DIFF_S6_OF_MAMBA1:
        module = Mamba1(SCALE.d_model, 2, expand=1, combine=partial(Difference, scope="ssm")).to(device)
    else:
        module = mixer(name, SCALE, device)
    x = torch.randn(BATCH, LENGTH, module.in_proj.in_features, device=device)
    towards = torch.randn_like(x)
    with backend.use("torch"):
        numbers = everything(copy.deepcopy(module).double(), x.double(), towards.double())
    return Judged(module, x, towards, numbers)


def everything(module: Mixer, x: Tensor, towards: Tensor) -> dict[str, Tensor]:
    """Output, decoded output, and the gradients of the input and of the parameters."""
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


def error(found: Tensor, judge: Tensor) -> float:
    """The largest difference over the judge's largest number; infinity for what is not a number."""
    largest = judge.abs().max().clamp(min=1e-12)
    return ((found.double() - judge).abs().max() / largest).nan_to_num(nan=float("inf")).item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(("precision", "chosen"), BOUNDS)
def test_a_mixer_on_the_gpu_is_what_float64_says(
    name: str, precision: str, chosen: str, tell: Tell, need_kernels: Callable[..., None]
) -> None:
    if chosen == "cuda":
        need_kernels(*SCANS.get(type(judged(name, "cuda").module), ()))
    assert_close(name, "cuda", precision, chosen, tell)


@pytest.mark.parametrize("name", ["diff_mamba", "diff_transformer"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_check_itself_passes_on_a_cpu(name: str, precision: str, tell: Tell) -> None:
    assert_close(name, "cpu", precision, "torch", tell)


def assert_close(name: str, device: str, precision: str, chosen: str, tell: Tell) -> None:
    """Leaves the worst errors for the summary, and names what is too far."""
    errors = judged(name, device).errors(precision, chosen)
    for_output, for_gradients = BOUNDS[precision, chosen]
    outputs = {key: errors.pop(key) for key in ("output", "decoding")}
    tell(name, f"{precision} by {chosen}", outputs | {"gradient": max(errors.values())})
    too_far = [f"{key} by {off:.1e} (allowed {for_output:g})" for key, off in outputs.items() if off > for_output]
    too_far += [
        f"gradient of {key} by {off:.1e} (allowed {for_gradients:g})"
        for key, off in errors.items()
        if off > for_gradients * (SINGLE if judged(name, device).numbers[key].numel() == 1 else 1)
    ]
    assert not too_far, f"{name} in {precision} by {chosen} is off: {', '.join(too_far)}"


def test_what_is_wrong_is_an_error() -> None:
    judge = torch.tensor([1.0, -4.0]).double()
    assert error(torch.tensor([1.0, -4.0]), judge) == 0
    assert error(torch.tensor([3.0, -4.0]), judge) == 0.5
    assert error(torch.tensor([1.0, float("nan")]), judge) == float("inf")
