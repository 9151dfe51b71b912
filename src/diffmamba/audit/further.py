"""What else in the paper can be computed and does not add up, or adds up only in one way."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from diffmamba.audit.budget import budget, curve
from diffmamba.audit.cells import Cell, changed, table1_row
from diffmamba.audit.compute import forward
from diffmamba.audit.contradictions import MODELS, VOCABULARIES, find
from diffmamba.audit.counts import MILLION, count, parameters
from diffmamba.audit.document import Finding, Grid
from diffmamba.paper import published

MEDIUM: dict[str, Any] = {"layers": 48, "d_state": 128, "headdim": {"mamba": 64, "diff_mamba": 32}}
"""The medium scale (figure 3b): 48 pre-norm mixers without feed-forward, Mamba-2's customary head dimension, half of it
in each branch, and GPT-NeoX's vocabulary."""
HALF_DIGIT = 0.005  # of accuracies in percent and of ratios, both printed with two decimals


def counts_cut_off(cells: Sequence[Cell]) -> Finding:
    """The printed counts are ours cut off after the million, not rounded."""
    counts = {cell.key: count(cell, cells) for cell in cells}
    compared = {key: found for key, found in counts.items() if found.published_m is not None}
    cut, rounded = (sum(bool(getattr(found, way)) for found in compared.values()) for way in ("cut_off", "rounded"))
    enwik8, text8 = (
        parameters(find(cells, "table1", data, 6, "mamba").network) / MILLION for data in ("enwik8", "text8")
    )
    printed = table1_row("enwik8", 6)["mamba"]["params_m"]
    others = [key for key, found in compared.items() if not found.cut_off]
    return Finding(
        key="counts_cut_off",
        title="Counts are cut off, not rounded; one of Enwik8's is Text8's",
        printed="Tables 1 and 2 print whole millions.",
        computed=f"Cut off after the million, {cut} of {len(compared)} printed counts are exactly ours; rounded, "
        f"{rounded}. Enwik8's Mamba of 6 layers has {enwik8:.2f}M parameters with its 205 bytes, but {printed}M are "
        f"printed: Text8's count, whose 27 symbols take {enwik8 - text8:.2f}M less.",
        values={
            "cut_off": cut,
            "rounded": rounded,
            "compared": len(compared),
            "not_cut_off": others,
            "enwik8_m": enwik8,
            "text8_m": text8,
        },
    )


def ablation_length(cells: Sequence[Cell]) -> Finding:
    """Table 4 trains 15,000 steps, table 2 is read at epoch 10."""
    cell = find(cells, "table2", "text8", 6, "diff_mamba", outer_norm=True)
    per_epoch, rate = budget(cell).steps_per_epoch, curve(cell, "published")
    steps = published.numbers()["table4"]["steps"]
    at_10 = next(mark for mark in rate.landmarks if mark.name == "after epoch 10")
    return Finding(
        key="ablation_length",
        title="Table 4's 15,000 steps are not table 2's 10 epochs",
        printed=f"Table 4: {steps:,} steps at batch {cell.config['data']['batch_size']}. Table 2: test PPL at epoch "
        "10.",
        computed=f"An epoch of Text8 has {per_epoch:,} steps at this batch, so epoch 10 is step {at_10.step:,} and "
        f"{steps:,} steps are {steps / per_epoch:.1f} epochs. Where table 2 is read, {rate.walked:.0%} of the cosine "
        f"is walked and the rate is {at_10.rate:.2e}: the models are not annealed, and table 1's, on a cosine of "
        "800,000 steps, never are.",
        values={"steps_per_epoch": per_epoch, "epochs": steps / per_epoch, "walked": rate.walked, "rate": at_10.rate},
    )


def gain_shrinks(cells: Sequence[Cell]) -> Finding:
    """The ablation's gain at epoch 10 beside table 1's at epoch 40."""
    row = table1_row("text8", 6)
    late = {model: row[model]["ppl"] for model in MODELS}
    plain = published.table2("mamba", False, None).ppl
    best = published.table2("diff_mamba", True, published.PLAIN_LAMBDA_FORM).ppl
    assert plain is not None
    assert best is not None
    gains = {"epoch_10": math.log2(plain / best), "epoch_40": math.log2(late["mamba"] / late["diff_mamba"])}
    return Finding(
        key="gain_shrinks",
        title="The gain on Text8 shrinks fourfold from table 2 to table 1",
        printed=f"Mamba and Diff-Mamba of 6 layers: {plain} and {best} at epoch 10 (table 2), {late['mamba']} and "
        f"{late['diff_mamba']} at epoch 40 (table 1).",
        computed=f"{gains['epoch_10']:.3f} bits become {gains['epoch_40']:.3f}, a factor of "
        f"{gains['epoch_10'] / gains['epoch_40']:.1f}. Longer training, another cosine, or both: the paper does not "
        "say.",
        values=gains,
    )


def not_matched(cells: Sequence[Cell]) -> Finding:
    """How far the models compared are from equal parameters and equal operations."""
    mamba = find(cells, "table1", "text8", 6, "mamba")
    others = {model: find(cells, "table2", "text8", 6, model, outer_norm=True) for model in ("diff_s6", "diff_mamba")}
    values = {
        model: {
            "parameters": parameters(cell.network) / parameters(mamba.network) - 1,
            "operations": forward(cell.network, zipf=True).total / forward(mamba.network, zipf=True).total - 1,
        }
        for model, cell in others.items()
    }
    ours, wide = values["diff_mamba"], changed(others["diff_s6"], {"headdim": 128}, d_model=1024)
    values["diff_s6_1024"] = {"parameters": parameters(wide.network) / parameters(mamba.network) - 1}
    return Finding(
        key="not_matched",
        title="Models are matched in parameters to 1.4 %, in Diff-Mamba's favour",
        printed="Tables 1, 2 and 5 compare models of about equal size.",
        computed=f"Beside Mamba, Diff-Mamba has {ours['parameters']:+.1%} parameters and {ours['operations']:+.1%} "
        "operations per token (B, C and dt of its own in each branch), Diff-S6 "
        f"{values['diff_s6']['parameters']:+.1%} and {values['diff_s6']['operations']:+.1%}. Diff-S6 is matched by "
        "864 channels throughout, feed-forward layers too; with 1024 it would have "
        f"{values['diff_s6_1024']['parameters']:+.0%}.",
        values=values,
    )


def heads(cells: Sequence[Cell]) -> Finding:
    """Table 5's "# Heads" read as a number of heads, and as the head dimension."""
    values: dict[str, dict[str, Any]] = {}
    for row in published.numbers()["table5"]["rows"]:
        cell = find(cells, "table2", "text8", 6, row["model"], outer_norm=row["model"] != "mamba")
        dimension = row["channels"] * row["expand"] // row["headdim"]
        values[row["model"]] = {
            "printed": row["headdim"],
            "published_m": cell.published_params_m,
            "as_dimension_m": parameters(cell.network) / MILLION,
            "as_heads_m": parameters(changed(cell, {"headdim": dimension}).network) / MILLION,
        }
    rows = [
        (model, str(v["printed"]), f"{v['published_m']}", f"{v['as_dimension_m']:.2f}", f"{v['as_heads_m']:.2f}")
        for model, v in values.items()
    ]
    mamba = values["mamba"]
    return Finding(
        key="heads",
        title='Table 5\'s "# Heads" is the head dimension',
        printed=f"# Heads: {', '.join(str(v['printed']) for v in values.values())}. Either way each branch has 16 of "
        "the other.",
        computed=f"Read as numbers of heads, Mamba would have {mamba['as_heads_m']:.1f}M parameters where "
        f"{mamba['published_m']}M are printed, since dt is projected for every head; read as head dimensions "
        f"{mamba['as_dimension_m']:.1f}M.",
        values=values,
        grids=(Grid(("model", "# Heads", "printed M", "as dimension", "as number"), rows),),
    )


def medium_counts(cells: Sequence[Cell]) -> Finding:
    """The counts of the medium scale, which no table here trains yet."""
    mamba, ours = (find(cells, "table1", "text8", 6, model) for model in MODELS)
    backbone: dict[str, Any] = {"layer": ["mixer"], "n_layers": MEDIUM["layers"], "residual": "pre_norm"}
    plain, differential = (
        cell.config["model"]["mixers"][0] | {"d_state": MEDIUM["d_state"], "headdim": MEDIUM["headdim"][cell.model]}
        for cell in (mamba, ours)
    )
    mixers = {
        "mamba": [plain],
        "diff_mamba_hybrid": [differential, plain],
        "diff_mamba_full": [differential],
    }
    words = Cell(
        ours.table, ours.config | {"data": {"expected": {"vocabulary": VOCABULARIES["GPT-NeoX"]}}}, ours.network
    )
    counted = {
        name: parameters(changed(words, **backbone, mixers=chosen).network) / MILLION for name, chosen in mixers.items()
    }
    printed = published.numbers()["params_m_medium_scale"]
    exact = sum(int(counted[name]) == printed[name] for name in printed)
    return Finding(
        key="medium_counts",
        title="The medium scale's counts are met",
        printed=f"{', '.join(f'{number}M' for number in printed.values())} parameters for Mamba, hybrid and full "
        "Diff-Mamba.",
        computed=f"48 mixers of {MEDIUM['headdim']['mamba']} channels a head ({MEDIUM['headdim']['diff_mamba']} in a "
        f"branch), state {MEDIUM['d_state']}, and GPT-NeoX's vocabulary: "
        f"{', '.join(f'{number:.2f}M' for number in counted.values())}; cut off, {exact} of {len(printed)} are exact.",
        values={"printed_m": printed, "counted_m": counted},
    )


def babilong(cells: Sequence[Cell]) -> Finding:
    """Figure 4's ratios, from figure 8's accuracies."""
    ratios, scores = published.numbers()["figure4"], published.numbers()["figure8"]
    wrong = []
    compared = 0
    for task in scores["mamba"]:
        for length, printed, *pair in zip(
            ratios["length"], ratios[task], *(scores[m][task] for m in MODELS), strict=True
        ):
            compared += 1
            least = (max(pair) - HALF_DIGIT) / (min(pair) + HALF_DIGIT) - HALF_DIGIT
            most = (max(pair) + HALF_DIGIT) / (min(pair) - HALF_DIGIT) + HALF_DIGIT
            if not least <= printed <= most:
                wrong.append({"task": task, "length": length, "printed": printed, "computed": max(pair) / min(pair)})
    named = "; ".join(
        f"{w['task']} at {w['length']}: {w['printed']:.2f} printed, {w['computed']:.2f} computed" for w in wrong
    )
    return Finding(
        key="figure4_from_figure8",
        title="Figure 4's ratios follow from figure 8's accuracies",
        printed="Figure 4 prints the ratio of the better model's score to the other's, figure 8 both accuracies.",
        computed=f"{compared - len(wrong)} of {compared} ratios are figure 8's within the rounding of what is printed"
        f"{': not ' + named if wrong else ''}.",
        values={"compared": compared, "different": wrong},
    )


def latency(cells: Sequence[Cell]) -> Finding:
    """Table 8: the overhead of two blocks one after the other, and times that fall with length."""
    table = published.numbers()["table8"]
    overhead = {
        str(length): ours / plain - 1
        for length, plain, ours in zip(table["length"], table["mamba"], table["diff_mamba"], strict=True)
    }
    falls = [
        f"{low:,} to {high:,}"
        for (low, before), (high, after) in pairwise(zip(table["length"], table["mamba"], strict=True))
        if after < before
    ]
    return Finding(
        key="latency_not_monotonic",
        title="Table 8: twice the length in less time",
        printed="Forward seconds by length on one L40S, Mamba and the hybrid.",
        computed=f"Both models get faster from {' and '.join(falls)} positions ({_pair(table, 1)} then "
        f"{_pair(table, 2)} s), so differences of a few ms are noise at short lengths. The overhead is "
        f"{max(overhead.values()):.0%} at {table['length'][0]} and {min(overhead.values()):.0%} at "
        f"{table['length'][-1]:,}; half the hybrid's mixers are vanilla. One pass for both branches, as here, has no "
        "second block to pay for.",
        values={"overhead": overhead, "falls": falls},
    )


def _pair(table: dict[str, Any], index: int) -> str:
    return f"{table['mamba'][index]} and {table['diff_mamba'][index]}"
