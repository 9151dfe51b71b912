"""The checks of the paper against itself and against the networks it describes: the values behind each finding.

A check takes the cases at scale paper, whatever the settings of the command. Its name is the finding's key in
`findings.yaml`, which has the words. mechanism.py has the checks of the mechanism itself.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from diffmamba.models import AdaptiveEmbedding
from diffmamba.paper import published
from diffmamba.paper.budget import budget, curve
from diffmamba.paper.cases import Case, find, mixer, shapes
from diffmamba.paper.compute import forward
from diffmamba.paper.counts import MILLION, count, millions
from diffmamba.paper.published import MODELS, numbers, rows

Values = dict[str, Any]
TYPES = {"Text8": 27, "GPT-NeoX": 50_277, "GPT-2": 50_257}  # figure 3's models use GPT-NeoX's, LongCrawl64 GPT-2's
HALF_DIGIT = 0.005  # of accuracies in percent and of ratios, both printed with two decimals


def wikitext103_12_layer_counts(cases: Sequence[Case]) -> Values:
    values = {}
    for model in MODELS:
        words, characters = (find(cases, f"table1/{data}/12/{model}").network for data in ("wikitext103", "text8"))
        printed = {place: row[model]["params_m"] for place, row in rows("table1").items()}
        values[model] = {
            "printed_m": printed["wikitext103/12"],
            "printed_text8_m": printed["text8/12"],
            "from_printed_m": printed["text8/12"] + printed["wikitext103/6"] - printed["text8/6"],
            "counted_m": millions(words),
            "embedding_m": millions(words.embedding),
            "embedding_text8_m": millions(characters.embedding),
        }
    return values


def ppl_called_bits(cases: Sequence[Case]) -> Values:
    values = {}
    for place, row in rows("table1").items():
        mamba, ours = (row[model]["ppl"] for model in MODELS)
        nats = math.log(mamba / ours)
        shares = {"bits": nats / math.log(2), "share_of_nats": nats / math.log(mamba)}
        values[place] = {"ppl": round(mamba - ours, published.DECIMALS)} | shares
    return values


def diff_mamba_129_or_128(cases: Sequence[Case]) -> Values:
    return {
        "table1_m": published.table1("text8", 6, "diff_mamba").params_m,
        "table2_m": published.table2("diff_mamba", True, published.PLAIN_LAMBDA_FORM).params_m,
        "counted_m": millions(find(cases, "table2/text8/6/diff_mamba/outer_norm").network),
        "without_outer_norm_m": millions(find(cases, "table2/text8/6/diff_mamba/scalar").network),
    }


def deeper_is_worse(cases: Sequence[Case]) -> Values:
    values = {}
    for place, row in rows("table1").items():
        case, table3 = find(cases, f"table1/{place}/mamba"), rows("table3")[place]
        values[place] = {
            "ppl": {model: row[model]["ppl"] for model in MODELS},
            "learning_rate": table3["lr"],
            **{name: table3[name] for name in ("dropout", "batch")},
            **{name: budget(case)[name] for name in ("steps", "tokens")},
            "learning_rate_integral": curve(case, "published")["integral"],
        }
    return values


def figure3a_near_uniform(cases: Sequence[Case]) -> Values:
    figure = numbers()["figure3b"]
    return {
        "uniform_nats": {name: math.log(TYPES[name]) for name in ("GPT-NeoX", "GPT-2")},
        "figure3b_nats": {
            corpus: {model: math.log(ppl) for model, ppl in row.items()} for corpus, row in figure.items()
        },
        "figure3a_nats": numbers()["figure3a"]["approximate_nats"],
    }


def counts_cut_off(cases: Sequence[Case]) -> Values:
    counts = {case.key: count(case) for case in cases if case.published_m is not None}
    return {
        "cut_off": sum(found["cut_off"] for found in counts.values()),
        "rounded": sum(found["rounded"] for found in counts.values()),
        "compared": len(counts),
        "not_cut_off": [key for key, found in counts.items() if not found["cut_off"]],
        "enwik8_m": millions(find(cases, "table1/enwik8/6/mamba").network),
        "text8_m": millions(find(cases, "table1/text8/6/mamba").network),
    }


def ablation_length(cases: Sequence[Case]) -> Values:
    case = find(cases, "table2/text8/6/diff_mamba/outer_norm")
    per_epoch, found = budget(case)["steps_per_epoch"], curve(case, "published")
    rates = {mark["name"]: mark["rate"] for mark in found["landmarks"]}
    epochs = numbers()["table4"]["steps"] / per_epoch
    walked, rate = found["walked"], rates["after epoch 10"]
    return {"steps_per_epoch": per_epoch, "epochs": epochs, "walked": walked, "rate": rate}


def gain_shrinks(cases: Sequence[Case]) -> Values:
    rows2 = [row for row in numbers()["table2"]["rows"] if "lambda" not in row]
    early = {row["model"]: row["with_norm"] or row["without_norm"] for row in rows2}
    late = {model: rows("table1")["text8/6"][model]["ppl"] for model in MODELS}
    gains = [math.log2(ppl["mamba"] / ppl["diff_mamba"]) for ppl in (early, late)]
    return {"epoch_10": gains[0], "epoch_40": gains[1]}


def not_matched(cases: Sequence[Case]) -> Values:
    mamba = find(cases, "table1/text8/6/mamba")
    size, cost = millions(mamba.network), sum(forward(mamba).values())
    values = {}
    for model in ("diff_s6", "diff_mamba"):
        case = find(cases, f"table2/text8/6/{model}/outer_norm")
        more = sum(forward(case).values()) / cost - 1
        values[model] = {"parameters": millions(case.network) / size - 1, "operations": more}
    wide = shapes(1024, 6, [mixer("diff_s6", headdim=128, expand=2)], TYPES["Text8"])
    return values | {"diff_s6_1024": {"parameters": millions(wide) / size - 1}}


def heads(cases: Sequence[Case]) -> Values:
    values = {}
    for row in numbers()["table5"]["rows"]:
        case = find(cases, f"table2/text8/6/{row['model']}" + "/outer_norm" * (row["model"] != "mamba"))
        many = mixer(row["model"], row["channels"] * row["expand"] // row["headdim"], row["expand"])
        values[row["model"]] = {
            "printed": row["headdim"],
            "published_m": case.published_m,
            "as_dimension_m": millions(case.network),
            "as_heads_m": millions(shapes(row["channels"], 6, [many], TYPES["Text8"])),
        }
    return values


def medium_counts(cases: Sequence[Case]) -> Values:
    plain = mixer("mamba", headdim=64, expand=2, d_state=128)
    half = mixer("diff_mamba", headdim=32, expand=1, d_state=128)
    mixers = {"mamba": [plain], "diff_mamba_hybrid": [half, plain], "diff_mamba_full": [half]}
    backbone: dict[str, Any] = {"vocabulary": TYPES["GPT-NeoX"], "layer": ["mixer"], "residual": "pre_norm"}
    counted = {name: millions(shapes(1024, 48, chosen, **backbone)) for name, chosen in mixers.items()}
    return {"printed_m": numbers()["params_m_medium_scale"], "counted_m": counted}


def latency_not_monotonic(cases: Sequence[Case]) -> Values:
    table = numbers()["table8"]
    times = list(zip(table["length"], table["mamba"], table["diff_mamba"], strict=True))
    falls = [f"{low:,} to {high:,}" for (low, before, _), (high, after, _) in pairwise(times) if after < before]
    return {"overhead": {str(length): ours / plain - 1 for length, plain, ours in times}, "falls": falls}


def figure4_from_figure8(cases: Sequence[Case]) -> Values:
    ratios, scores = numbers()["figure4"], numbers()["figure8"]
    wrong, compared = [], 0
    for task in scores["mamba"]:
        pairs = zip(*(scores[model][task] for model in MODELS), strict=True)
        for length, printed, (low, high) in zip(ratios["length"], ratios[task], map(sorted, pairs), strict=True):
            compared += 1
            least = (high - HALF_DIGIT) / (low + HALF_DIGIT) - HALF_DIGIT
            most = (high + HALF_DIGIT) / (low - HALF_DIGIT) + HALF_DIGIT
            if not least <= printed <= most:
                wrong.append({"task": task, "length": length, "printed": printed, "computed": high / low})
    return {"compared": compared, "different": wrong}


def first_projection(cases: Sequence[Case]) -> Values:
    case = find(cases, "table1/wikitext103/6/mamba")
    assert isinstance(case.network.embedding, AdaptiveEmbedding)
    separate = millions(case.network)
    tied = separate - case.network.embedding.head_projection.numel() / MILLION
    return {"printed_m": case.published_m, "separate_m": separate, "tied_m": tied}
