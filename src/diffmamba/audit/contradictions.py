"""Where the paper contradicts itself, computed from the numbers it prints and from the networks it describes.

`cells` are those of scale paper throughout, whatever the settings of the command. Findings on the mechanism itself are
in `mechanism`, on other tables and figures in `further`.
"""

import math
from collections.abc import Sequence
from typing import Any

from diffmamba.audit.budget import budget, curves
from diffmamba.audit.cells import Cell, table1_row, table3_row
from diffmamba.audit.counts import MILLION, parameters, parts
from diffmamba.audit.document import Finding, Grid
from diffmamba.paper import published
from diffmamba.reports.contradictions import CALLED_BITS

MODELS = ("mamba", "diff_mamba")
CORPORA = ("wikitext103", "text8", "enwik8")
VOCABULARIES = {"GPT-NeoX": 50_277, "GPT-2": 50_257}  # of the tokenizers of figure 3's models and of LongCrawl64
FIGURE_3A_NATS = 10.0  # read off the picture


def find(cells: Sequence[Cell], table: str, data: str, layers: int, model: str, outer_norm: bool | None = None) -> Cell:
    """The first cell that answers the description."""
    wanted = (table, data, layers, model)
    return next(
        cell
        for cell in cells
        if (cell.table, cell.data, cell.layers, cell.model) == wanted and outer_norm in (None, cell.outer_norm)
    )


def copied_counts(cells: Sequence[Cell]) -> Finding:
    """1: WikiText-103 has Text8's parameter counts at 12 layers, and only there."""
    values: dict[str, dict[str, float]] = {}
    for model in MODELS:
        words, characters = (find(cells, "table1", data, 12, model) for data in ("wikitext103", "text8"))
        printed = {layers: table1_row("wikitext103", layers)[model]["params_m"] for layers in (6, 12)}
        text8 = {layers: table1_row("text8", layers)[model]["params_m"] for layers in (6, 12)}
        values[model] = {
            "printed_m": printed[12],
            "printed_text8_m": text8[12],
            "from_printed_m": text8[12] + printed[6] - text8[6],
            "counted_m": parameters(words.network) / MILLION,
            "embedding_m": parts(words.network)["embedding"] / MILLION,
            "embedding_text8_m": parts(characters.network)["embedding"] / MILLION,
        }
    mamba, ours = values["mamba"], values["diff_mamba"]
    return Finding(
        key="wikitext103_12_layer_counts",
        title="1. WikiText-103's models of 12 layers carry Text8's parameter counts",
        printed=f"Table 1: {mamba['printed_m']}M and {ours['printed_m']}M for both corpora at 12 layers; at 6 layers "
        f"they differ by {mamba['from_printed_m'] - mamba['printed_text8_m']}M.",
        computed=f"With the adaptive embedding of {mamba['embedding_m']:.1f}M we count {mamba['counted_m']:.1f}M and "
        f"{ours['counted_m']:.1f}M; the printed numbers of 6 layers imply {mamba['from_printed_m']}M and "
        f"{ours['from_printed_m']}M.",
        values=values,
    )


def bits(cells: Sequence[Cell]) -> Finding:
    """2: differences of PPL called bits."""
    values: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, ...]] = []
    for data in CORPORA:
        for layers in (6, 12):
            ppl = {model: table1_row(data, layers)[model]["ppl"] for model in MODELS}
            difference = ppl["mamba"] - ppl["diff_mamba"]
            in_bits = math.log2(ppl["mamba"] / ppl["diff_mamba"])
            values[f"{data}/{layers}"] = {"ppl": round(difference, published.DECIMALS), "bits": in_bits}
            rows.append((data, str(layers), f"{difference:.3f}", f"{in_bits:.4f}", f"{_share(ppl):.2f} %"))
    text8, enwik8 = values["text8/12"], values["enwik8/12"]
    return Finding(
        key="ppl_called_bits",
        title="2. Differences of PPL are called bits per byte",
        printed=f"The text speaks of gains of {CALLED_BITS['text8']:.3f} (Text8) and {CALLED_BITS['enwik8']:.3f} "
        "(Enwik8) bits per byte.",
        computed=f"The differences of PPL at 12 layers are {text8['ppl']:.3f} and {enwik8['ppl']:.3f}. In bits, log2 "
        "of the ratio, they are "
        f"{text8['bits']:.3f} and {enwik8['bits']:.3f}; at 6 layers, where both models are better, "
        f"{values['text8/6']['bits']:.3f} and {values['enwik8/6']['bits']:.3f}.",
        values=values,
        grids=(Grid(("corpus", "layers", "Δ PPL", "Δ bits", "Δ nats of total"), rows, words=1),),
    )


def _share(ppl: dict[str, float]) -> float:
    """By how many percent the loss in nats falls."""
    return 100 * math.log(ppl["mamba"] / ppl["diff_mamba"]) / math.log(ppl["mamba"])


def two_counts(cells: Sequence[Cell]) -> Finding:
    """5: one architecture, two counts."""
    counted = parameters(find(cells, "table2", "text8", 6, "diff_mamba", outer_norm=True).network) / MILLION
    bare = parameters(find(cells, "table2", "text8", 6, "diff_mamba", outer_norm=False).network) / MILLION
    first = table1_row("text8", 6)["diff_mamba"]["params_m"]
    second = next(row for row in published.numbers()["table2"]["rows"] if row["model"] == "diff_mamba")["params_m"]
    return Finding(
        key="diff_mamba_129_or_128",
        title="5. Diff-Mamba has 129M parameters in table 1 and 128M in table 2",
        printed=f"Table 1: {first}M. Table 2, the same architecture: {second}M, with and without the outer norm.",
        computed=f"We count {counted:.2f}M, {bare:.2f}M without the outer norm: rounded {round(counted)}M, cut off "
        f"{int(counted)}M, which is table 1's. No form of λ and no norm makes it {second}M; that is what Diff-S6 has.",
        values={"table1_m": first, "table2_m": second, "counted_m": counted, "without_outer_norm_m": bare},
    )


def deeper_is_worse(cells: Sequence[Cell]) -> Finding:
    """6: twice the layers, a higher PPL."""
    values: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, ...]] = []
    for data in CORPORA:
        for layers in (6, 12):
            cell = find(cells, "table1", data, layers, "mamba")
            spent, rate, settings = budget(cell), curves(cell)[0], table3_row(data, layers)
            row = table1_row(data, layers)
            values[f"{data}/{layers}"] = {
                "ppl": {model: row[model]["ppl"] for model in MODELS},
                "learning_rate": settings["lr"],
                "dropout": settings["dropout"],
                "batch": settings["batch"],
                "steps": spent.steps,
                "tokens": spent.tokens,
                "learning_rate_integral": rate.integral,
            }
            ppl = (f"{row[model]['ppl']:.3f}" for model in MODELS)
            chosen = (f"{settings['lr']:.0e}", f"{settings['dropout']:.2f}", str(settings["batch"]))
            spent_on = (f"{spent.steps:,}", f"{spent.tokens / 1e9:.2f}G", f"{rate.integral:.1f}")
            rows.append((data, str(layers), *ppl, *chosen, *spent_on))
    more = {data: values[f"{data}/12"]["ppl"]["mamba"] - values[f"{data}/6"]["ppl"]["mamba"] for data in CORPORA}
    less = {
        d: values[f"{d}/6"]["learning_rate_integral"] / values[f"{d}/12"]["learning_rate_integral"] for d in CORPORA
    }
    headers = ("corpus", "layers", "PPL mamba", "diff_mamba", "rate", "dropout", "batch", "steps", "tokens", "Σ rate")
    return Finding(
        key="deeper_is_worse",
        title="6. On Text8 and Enwik8 12 layers are worse than 6",
        printed=f"Mamba's PPL from 6 to 12 layers: Text8 {more['text8']:+.3f}, Enwik8 {more['enwik8']:+.3f}; "
        f"WikiText-103 {more['wikitext103']:+.3f}.",
        computed="Table 3 trains the deeper models at a tenth (Text8) and a fifth (Enwik8) of the learning rate and "
        "with more dropout. Smaller batches give them more steps, yet the rate summed over the run is "
        f"{less['text8']:.1f} and {less['enwik8']:.1f} times smaller; on WikiText-103, where depth helps, the rate is "
        f"the same and the sum {1 / less['wikitext103']:.1f} times larger.",
        values=values,
        grids=(Grid(headers, rows, words=1, caption="Σ rate: the learning rate summed over all steps."),),
    )


def near_uniform(cells: Sequence[Cell]) -> Finding:
    """7: figure 3a lies where a model lies that knows nothing."""
    uniform = {name: math.log(size) for name, size in VOCABULARIES.items()}
    figure = published.numbers()["figure3b"]
    nats = {corpus: {model: math.log(ppl) for model, ppl in row.items()} for corpus, row in figure.items()}
    pile, pg19 = (nats[corpus]["diff_mamba"] for corpus in ("the_pile", "pg19"))
    return Finding(
        key="figure3a_near_uniform",
        title="7. Figure 3a lies near the loss of a model that knows nothing",
        printed=f"Its curves on LongCrawl64 lie near {FIGURE_3A_NATS:.0f} nats per token.",
        computed=f"Uniform guessing over GPT-NeoX's {VOCABULARIES['GPT-NeoX']:,} tokens costs "
        f"{uniform['GPT-NeoX']:.2f} nats, over GPT-2's {VOCABULARIES['GPT-2']:,} {uniform['GPT-2']:.2f}; "
        f"{FIGURE_3A_NATS:.0f} nats are a PPL of {math.exp(FIGURE_3A_NATS):,.0f}. The same models have {pile:.2f} "
        f"nats on The Pile and {pg19:.2f} on PG19 (figure 3b). A model that is fed another tokenizer's ids looks like "
        "that: LongCrawl64 ships GPT-2's, the models take GPT-NeoX's.",
        values={"uniform_nats": uniform, "figure3b_nats": nats, "figure3a_nats": FIGURE_3A_NATS},
    )
