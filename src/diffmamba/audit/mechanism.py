"""Where the paper's text and its equations describe different mechanisms: shown on our own mixers at published size."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.nn import functional as F

from diffmamba.audit.cells import Cell
from diffmamba.audit.contradictions import find
from diffmamba.audit.document import Finding, Grid
from diffmamba.mixers import Mamba2, Mixer
from diffmamba.mixers.combine import Lambda, lambda_init
from diffmamba.ops import rms_norm

LENGTH = 128  # positions of the random input
DRAWS = 400  # of λ at initialisation
SEED = 0


def place_of_the_norm(cells: Sequence[Cell]) -> Finding:
    """3: "a normalisation before subtraction", or the N around the difference of eqs. 16 and 21."""
    cell = find(cells, "table1", "text8", 6, "diff_mamba")
    depths = depths_of(cell)
    values = {str(depth): compare_norms(cell, depth) for depth in (depths[0], depths[len(depths) // 2], depths[-1])}
    more = len(depths) * cell.config["model"]["d_model"]
    headers = ("depth", "λ", "difference", "RMS before", "RMS after", "cosine", "before moves", "after moves")
    differences = [v["relative_difference"] for v in values.values()]
    moves = [v["after_moves"] for v in values.values()]
    return Finding(
        key="place_of_the_norm",
        title="3. The norm before the subtraction, or after it",
        printed="The text: a normalisation before subtraction. Eqs. 16 and 21 and figure 1: after it.",
        computed="With a and b what the two branches of our Diff-Mamba mixer give at initialisation on random input, "
        f"N[a] - λN[b] differs from N[a - λb] by {min(differences):.0%} to {max(differences):.0%} of the latter. So "
        "far it is a matter of size, since both branches start equally large: only after the subtraction does N make "
        "every position leave with RMS 1. Let training double b, and the first form takes no notice, while the "
        f"second moves by {min(moves):.0%} to {max(moves):.0%}: before it, λ alone weighs the branches; after it, "
        f"their sizes do too. Counts cannot decide: a gain for each branch would add {more:,} parameters. We follow "
        "the equations.",
        values=values | {"more_parameters": more},
        grids=(
            Grid(
                headers,
                [_norms_row(depth, found) for depth, found in values.items()],
                words=0,
                caption="RMS over channels, lowest to highest position, without (1 - λ_init). Moves: relative change "
                "of the output when b is doubled, with the norm before and after.",
            ),
        ),
    )


def _norms_row(depth: str, found: dict[str, Any]) -> tuple[str, ...]:
    rms = (f"{found[place][0]:.2f} to {found[place][1]:.2f}" for place in ("rms_before", "rms_after"))
    numbers = (f"{found[key]:.3f}" for key in ("cosine", "before_moves", "after_moves"))
    return (depth, f"{found['lambda']:.2f}", f"{found['relative_difference']:.3f}", *rms, *numbers)


def depths_of(cell: Cell) -> list[int]:
    """The index of the residual block of every mixer, 1-based."""
    blocks = enumerate(cell.network.backbone.blocks, start=1)
    return [index for index, block in blocks if isinstance(block.layer, Mixer)]


@torch.no_grad()
def compare_norms(cell: Cell, depth: int) -> dict[str, Any]:
    """The two places of the norm in a real mixer at this depth, gains 1, on the same two branches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        mixer = instantiate(cell.config["model"]["mixers"][0])(d_model=cell.config["model"]["d_model"], depth=depth)
        x = torch.randn(1, LENGTH, cell.config["model"]["d_model"])
        first, second = branches(mixer, x)
    weight = mixer.combine.weight()
    before, after = norm_before(first, second, weight), norm_after(first, second, weight)
    return {
        "lambda": float(torch.as_tensor(weight).mean()),
        "relative_difference": _distance(before, after),
        "cosine": float(F.cosine_similarity(before.flatten(), after.flatten(), dim=0)),
        "rms_before": _rms(before),
        "rms_after": _rms(after),
        "before_moves": _distance(norm_before(first, 2 * second, weight), before),
        "after_moves": _distance(norm_after(first, 2 * second, weight), after),
    }


def norm_before(first: Tensor, second: Tensor, weight: Tensor | float) -> Tensor:
    """N[a] - λN[b], gains 1."""
    one = torch.ones(first.shape[-1])
    return rms_norm(first, one) - weight * rms_norm(second, one)


def norm_after(first: Tensor, second: Tensor, weight: Tensor | float) -> Tensor:
    """N[a - λb], gains 1."""
    return rms_norm(first - weight * second, torch.ones(first.shape[-1]))


def _distance(x: Tensor, to: Tensor) -> float:
    return float((x - to).norm() / to.norm())


def branches(mixer: Mamba2, x: Tensor) -> tuple[Tensor, Tensor]:
    """M1(x) and M2(x) of a Diff-Mamba mixer: what its combination is handed, by its two projections."""
    handed: list[Tensor] = []
    hook = mixer.combine.register_forward_pre_hook(lambda module, inputs: handed.extend(inputs))
    mixer(x)
    hook.remove()
    u, weight = handed
    (u1, u2), (w1, w2) = u.chunk(2, dim=-1), weight.chunk(2, dim=1)
    return F.linear(u1, w1), F.linear(u2, w2)


def _rms(x: Tensor) -> list[float]:
    """Lowest and highest root mean square over the channels of a position."""
    rms = x.square().mean(dim=-1).sqrt()
    return [float(rms.min()), float(rms.max())]


def sign_of_lambda_init(cells: Sequence[Cell]) -> Finding:
    """4: eq. 11 subtracts λ_init, Differential Transformer and the code add it."""
    cell = find(cells, "table1", "text8", 6, "diff_mamba")
    d_state = cell.config["model"]["d_state"]
    values: dict[str, dict[str, Any]] = {
        str(depth): {"lambda_init": lambda_init(depth)}
        | {form: draws(form, depth, d_state) for form in ("exp", "exp_printed")}
        for depth in depths_of(cell)
    }
    rows = []
    for depth, v in values.items():
        forms = (f"{v[form]['mean']:+.3f} ± {v[form]['std']:.3f}" for form in ("exp", "exp_printed"))
        rows.append((depth, f"{v['lambda_init']:.3f}", *forms, f"{v['exp_printed']['negative']:.0%}"))
    first, *_, last = values.values()
    return Finding(
        key="sign_of_lambda_init",
        title="4. λ_init subtracted, or added",
        printed="Eq. 11: λ = exp(q1·k1) - exp(q2·k2) - λ_init. Differential Transformer and the authors' code: + "
        "λ_init.",
        computed=f"As printed, λ starts at {first['exp_printed']['mean']:+.2f} in the first mixer and at "
        f"{last['exp_printed']['mean']:+.2f} in the last, below zero in {first['exp_printed']['negative']:.0%} and "
        f"{last['exp_printed']['negative']:.0%} of draws: u1 - λ u2 then adds the second branch, which is the "
        f"opposite of the mechanism. Added, it starts at {first['exp']['mean']:+.2f} and {last['exp']['mean']:+.2f}. "
        "No published number depends on it: tables 1 and 2 use the sigmoid forms.",
        values=values,
        grids=(Grid(("depth", "λ_init", "λ, exp", "λ, exp_printed", "below 0"), rows, words=0,
                    caption=f"Mean and standard deviation of {DRAWS} draws at initialisation, d_state {d_state}."),),
    )  # fmt: skip


@torch.no_grad()
def draws(form: str, depth: int, d_state: int) -> dict[str, float]:
    """λ at initialisation under a form: mean and standard deviation of many draws, and the share below zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        found = [float(Lambda(form, 1, d_state, lambda_init(depth))()) for _ in range(DRAWS)]
    return {"mean": fmean(found), "std": stdev(found), "negative": sum(value < 0 for value in found) / DRAWS}
