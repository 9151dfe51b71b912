"""What else in the paper can be computed: it does not add up, or it adds up in one way only."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from diffmamba.models import AdaptiveEmbedding
from diffmamba.paper import published, remarks
from diffmamba.paper.budget import budget, curve
from diffmamba.paper.cases import Case, find, mixer, shapes
from diffmamba.paper.compute import forward
from diffmamba.paper.contradictions import VOCABULARIES
from diffmamba.paper.counts import MILLION, count, millions
from diffmamba.paper.finding import Found
from diffmamba.paper.remarks import MODELS

TEXT8_TYPES = 27
HALF_DIGIT = 0.005  # of accuracies in percent and of ratios, both printed with two decimals


def counts_cut_off(cases: Sequence[Case]) -> Found:
    """Counts are cut off, not rounded; one of Enwik8's is Text8's."""
    counts = {case.key: count(case, cases) for case in cases if case.published_m is not None}
    enwik8, text8 = (find(cases, f"table1/{data}/6/mamba") for data in ("enwik8", "text8"))
    values = {
        "cut_off": sum(found["cut_off"] for found in counts.values()),
        "rounded": sum(found["rounded"] for found in counts.values()),
        "compared": len(counts),
        "not_cut_off": [key for key, found in counts.items() if not found["cut_off"]],
        "enwik8_m": millions(enwik8.network),
        "text8_m": millions(text8.network),
    }
    computed = (
        f"Cut off after the million, {values['cut_off']} of {len(counts)} printed counts are ours, rounded "
        f"{values['rounded']}; Mamba of 6 layers has {values['enwik8_m']:.2f}M parameters on Enwik8 and "
        f"{values['text8_m']:.2f}M on Text8."
    )
    printed = (
        f"Tables 1 and 2 print whole millions, {enwik8.published_m}M for Mamba of 6 layers on both Enwik8 and Text8."
    )
    return printed, computed, values


def ablation_length(cases: Sequence[Case]) -> Found:
    """Table 4's 15,000 steps are not table 2's 10 epochs."""
    case = find(cases, "table2/text8/6/diff_mamba/outer_norm")
    per_epoch, found = budget(case)["steps_per_epoch"], curve(case, "published")
    steps, batch = (published.numbers()["table4"][name] for name in ("steps", "batch"))
    at_10 = next(mark for mark in found["landmarks"] if mark["name"] == "after epoch 10")
    values = {
        "steps_per_epoch": per_epoch,
        "epochs": steps / per_epoch,
        "walked": found["walked"],
        "rate": at_10["rate"],
    }
    computed = (
        f"Epoch 10 is step {at_10['step']:,} and {steps:,} steps are {values['epochs']:.1f} epochs; at epoch 10 "
        f"{values['walked']:.0%} of the cosine is walked and the rate is {values['rate']:.2e}."
    )
    return f"Table 4 trains {steps:,} steps at batch {batch}; table 2 gives test PPL at epoch 10.", computed, values


def gain_shrinks(cases: Sequence[Case]) -> Found:
    """The gain on Text8 shrinks fourfold from table 2 to table 1."""
    rows = {row["model"]: row for row in published.numbers()["table2"]["rows"] if "lambda" not in row}
    early = [rows["mamba"]["without_norm"], rows["diff_mamba"]["with_norm"]]
    late = [remarks.table1_rows()["text8", 6][model]["ppl"] for model in MODELS]
    values = {"epoch_10": math.log2(early[0] / early[1]), "epoch_40": math.log2(late[0] / late[1])}
    printed = (
        f"Mamba and Diff-Mamba of 6 layers have PPL {early[0]} and {early[1]} at epoch 10 (table 2), {late[0]} and "
        f"{late[1]} at epoch 40 (table 1)."
    )
    factor = values["epoch_10"] / values["epoch_40"]
    return printed, f"{values['epoch_10']:.3f} bits become {values['epoch_40']:.3f}, a factor of {factor:.1f}.", values


def not_matched(cases: Sequence[Case]) -> Found:
    """Models are matched in parameters to 1.4 %, in Diff-Mamba's favour."""
    mamba = find(cases, "table1/text8/6/mamba")
    size, cost = millions(mamba.network), sum(forward(mamba).values())
    values = {}
    for model in ("diff_s6", "diff_mamba"):
        case = find(cases, f"table2/text8/6/{model}/outer_norm")
        more = sum(forward(case).values()) / cost - 1
        values[model] = {"parameters": millions(case.network) / size - 1, "operations": more}
    wide = shapes(1024, 6, [mixer("diff_s6", headdim=128, expand=2)], TEXT8_TYPES)
    values["diff_s6_1024"] = {"parameters": millions(wide) / size - 1}
    ours, s6 = values["diff_mamba"], values["diff_s6"]
    computed = (
        f"Beside Mamba, Diff-Mamba has {ours['parameters']:+.1%} parameters and {ours['operations']:+.1%} operations "
        f"per token, Diff-S6 with its 864 channels {s6['parameters']:+.1%} and {s6['operations']:+.1%}; with 1024 "
        f"channels it would have {values['diff_s6_1024']['parameters']:+.0%} parameters."
    )
    return "Tables 1, 2 and 5 compare models of about equal size.", computed, values


def heads(cases: Sequence[Case]) -> Found:
    """Table 5's "# Heads" is the head dimension"""
    values: dict[str, Any] = {}
    for row in published.numbers()["table5"]["rows"]:
        case = find(cases, f"table2/text8/6/{row['model']}" + "/outer_norm" * (row["model"] != "mamba"))
        many = mixer(row["model"], row["channels"] * row["expand"] // row["headdim"], row["expand"])
        values[row["model"]] = {
            "printed": row["headdim"],
            "published_m": case.published_m,
            "as_dimension_m": millions(case.network),
            "as_heads_m": millions(shapes(row["channels"], 6, [many], TEXT8_TYPES)),
        }
    mamba = values["mamba"]
    computed = (
        f"Mamba would have {mamba['as_heads_m']:.1f}M parameters with so many heads and {mamba['as_dimension_m']:.1f}M "
        f"with heads of that dimension; {mamba['published_m']}M are printed."
    )
    return f"Table 5 gives {', '.join(str(row['printed']) for row in values.values())} as # Heads.", computed, values


def medium_counts(cases: Sequence[Case]) -> Found:
    """The medium scale's counts are met."""
    plain = mixer("mamba", headdim=64, expand=2, d_state=128)
    half = mixer("diff_mamba", headdim=32, expand=1, d_state=128)
    printed = published.numbers()["params_m_medium_scale"]
    mixers = {"mamba": [plain], "diff_mamba_hybrid": [half, plain], "diff_mamba_full": [half]}
    backbone: dict[str, Any] = {"vocabulary": VOCABULARIES["GPT-NeoX"], "layer": ["mixer"], "residual": "pre_norm"}
    counted = {name: millions(shapes(1024, 48, chosen, **backbone)) for name, chosen in mixers.items()}
    exact = sum(int(counted[name]) == printed[name] for name in printed)
    computed = (
        "With 48 mixers, heads of 64 channels (32 in a branch), state 128 and GPT-NeoX's vocabulary we count "
        f"{', '.join(f'{number:.2f}M' for number in counted.values())}; cut off, {exact} of {len(printed)} are exact."
    )
    sizes = ", ".join(f"{number}M" for number in printed.values())
    values = {"printed_m": printed, "counted_m": counted}
    return f"Mamba, the hybrid and full Diff-Mamba have {sizes} parameters.", computed, values


def latency_not_monotonic(cases: Sequence[Case]) -> Found:
    """Table 8: twice the length in less time."""
    times = list(zip(*(published.numbers()["table8"][column] for column in ("length", *MODELS)), strict=True))
    overhead = {str(length): ours / plain - 1 for length, plain, ours in times}
    falls = [f"{low:,} to {high:,}" for (low, before, _), (high, after, _) in pairwise(times) if after < before]
    shortest, *_, longest = overhead
    computed = (
        f"Mamba gets faster from {' and '.join(falls)} positions; the hybrid's overhead is {overhead[shortest]:.0%} at "
        f"{shortest} and {overhead[longest]:.0%} at {longest}."
    )
    printed = "Table 8 gives forward seconds by length on one L40S, for Mamba and the hybrid."
    return printed, computed, {"overhead": overhead, "falls": falls}


def figure4_from_figure8(cases: Sequence[Case]) -> Found:
    """Figure 4's ratios follow from figure 8's accuracies."""
    ratios, scores = published.numbers()["figure4"], published.numbers()["figure8"]
    wrong, compared = [], 0
    for task in scores["mamba"]:
        pairs = zip(*(scores[model][task] for model in MODELS), strict=True)
        for length, printed, pair in zip(ratios["length"], ratios[task], pairs, strict=True):
            compared += 1
            least = (max(pair) - HALF_DIGIT) / (min(pair) + HALF_DIGIT) - HALF_DIGIT
            most = (max(pair) + HALF_DIGIT) / (min(pair) - HALF_DIGIT) + HALF_DIGIT
            if not least <= printed <= most:
                wrong.append({"task": task, "length": length, "printed": printed, "computed": max(pair) / min(pair)})
    return (
        "Figure 4 prints the ratio of the better model's score to the other's, figure 8 both accuracies.",
        f"{compared - len(wrong)} of {compared} ratios are figure 8's within the rounding of what is printed.",
        {"compared": compared, "different": wrong},
    )


def first_projection(cases: Sequence[Case]) -> Found:
    """The adaptive softmax's first projection is not tied to the embedding's."""
    case = find(cases, "table1/wikitext103/6/mamba")
    assert isinstance(case.network.embedding, AdaptiveEmbedding)
    separate = millions(case.network)
    tied = separate - case.network.embedding.head_projection.numel() / MILLION
    values = {"printed_m": case.published_m, "separate_m": separate, "tied_m": tied}
    printed = f"Table 1 gives {case.published_m}M parameters for WikiText-103's Mamba of 6 layers."
    return printed, f"With a projection of its own, as here, it has {separate:.1f}M; tied, {tied:.1f}M.", values
