"""Where the numbers that the paper prints contradict its text, each other, or the networks they describe.

`cases` are those of scale paper, whatever the settings of the command. `mechanism.py` has the checks of the mechanism
itself, `further.py` those of other tables and figures. `finding.Check` says what each function yields.
"""

import math
from collections.abc import Sequence
from typing import Any

from diffmamba.paper import published, remarks
from diffmamba.paper.agreement import table3_row
from diffmamba.paper.budget import budget, curve
from diffmamba.paper.cases import Case, find
from diffmamba.paper.counts import millions
from diffmamba.paper.finding import Found
from diffmamba.paper.remarks import MODELS

VOCABULARIES = {"GPT-NeoX": 50_277, "GPT-2": 50_257}  # of the tokenizers of figure 3's models and of LongCrawl64
FIGURE_3A_NATS = 10.0  # read off the picture


def _remarks(words: str) -> str:
    """The remarks on table 1 that hold these words."""
    return " ".join(sentence for sentence in remarks.on_table1() if words in sentence)


def wikitext103_12_layer_counts(cases: Sequence[Case]) -> Found:
    """WikiText-103's models of 12 layers carry Text8's parameter counts."""
    rows, values = remarks.table1_rows(), {}
    for model in MODELS:
        words, characters = (find(cases, f"table1/{data}/12/{model}").network for data in ("wikitext103", "text8"))
        printed = {key: row[model]["params_m"] for key, row in rows.items()}
        values[model] = {
            "printed_m": printed["wikitext103", 12],
            "printed_text8_m": printed["text8", 12],
            "from_printed_m": printed["text8", 12] + printed["wikitext103", 6] - printed["text8", 6],
            "counted_m": millions(words),
            "embedding_m": millions(words.embedding),
            "embedding_text8_m": millions(characters.embedding),
        }
    counted = " and ".join(f"{row['counted_m']:.1f}M" for row in values.values())
    computed = f"We count {counted}; the adaptive embedding has {values['mamba']['embedding_m']:.1f}M of them."
    return _remarks("WikiText-103"), computed, values


def ppl_called_bits(cases: Sequence[Case]) -> Found:
    """Differences of PPL are called bits per byte."""
    values: dict[str, Any] = {}
    for (data, layers), row in remarks.table1_rows().items():
        mamba, ours = (row[model]["ppl"] for model in MODELS)
        nats = math.log(mamba / ours)
        shares = {"bits": nats / math.log(2), "share_of_nats": nats / math.log(mamba)}
        values[f"{data}/{layers}"] = {"ppl": round(mamba - ours, published.DECIMALS)} | shares
    bits = [f"{values[key]['bits']:.3f}" for key in ("text8/12", "enwik8/12", "text8/6", "enwik8/6")]
    computed = (
        f"In bits, the logarithm of the ratio, the gains are {bits[0]} (Text8) and {bits[1]} (Enwik8) at 12 layers, "
        f"{bits[2]} and {bits[3]} at 6 layers, where both models are better."
    )
    return _remarks("bits per byte"), computed, values


def diff_mamba_129_or_128(cases: Sequence[Case]) -> Found:
    """Diff-Mamba has 129M parameters in table 1 and 128M in table 2."""
    switches = ("outer_norm", "scalar")
    counted, bare = (millions(find(cases, f"table2/text8/6/diff_mamba/{switch}").network) for switch in switches)
    values = {
        "table1_m": published.table1("text8", 6, "diff_mamba").params_m,
        "table2_m": published.table2("diff_mamba", True, published.PLAIN_LAMBDA_FORM).params_m,
        "counted_m": counted,
        "without_outer_norm_m": bare,
    }
    computed = f"We count {counted:.2f}M, which is {int(counted)}M cut off, and {bare:.2f}M without the outer norm."
    return _remarks("in table 2"), computed, values


def deeper_is_worse(cases: Sequence[Case]) -> Found:
    """On Text8 and Enwik8 12 layers are worse than 6."""
    values: dict[str, Any] = {}
    for (data, layers), row in remarks.table1_rows().items():
        case, settings = find(cases, f"table1/{data}/{layers}/mamba"), table3_row(data, layers)
        spent = budget(case)
        values[f"{data}/{layers}"] = {
            "ppl": {model: row[model]["ppl"] for model in MODELS},
            "learning_rate": settings["lr"],
            "dropout": settings["dropout"],
            "batch": settings["batch"],
            "steps": spent["steps"],
            "tokens": spent["tokens"],
            "learning_rate_integral": curve(case, "published")["integral"],
        }
    sums = {key: row["learning_rate_integral"] for key, row in values.items()}
    computed = (
        f"The learning rate summed over the run is {sums['text8/6'] / sums['text8/12']:.1f} (Text8) and "
        f"{sums['enwik8/6'] / sums['enwik8/12']:.1f} (Enwik8) times smaller for 12 layers than for 6; on WikiText-103, "
        f"where depth helps, it is {sums['wikitext103/12'] / sums['wikitext103/6']:.1f} times larger."
    )
    return _remarks("are worse"), computed, values


def figure3a_near_uniform(cases: Sequence[Case]) -> Found:
    """Figure 3a lies near the loss of a model that knows nothing."""
    uniform = {name: math.log(size) for name, size in VOCABULARIES.items()}
    figure = published.numbers()["figure3b"]
    nats = {corpus: {model: math.log(ppl) for model, ppl in row.items()} for corpus, row in figure.items()}
    computed = (
        f"Uniform guessing over the tokens of GPT-NeoX costs {uniform['GPT-NeoX']:.2f} nats, over those of GPT-2 "
        f"{uniform['GPT-2']:.2f}; the same models have {nats['the_pile']['diff_mamba']:.2f} nats on The Pile and "
        f"{nats['pg19']['diff_mamba']:.2f} on PG19 (figure 3b)."
    )
    values = {"uniform_nats": uniform, "figure3b_nats": nats, "figure3a_nats": FIGURE_3A_NATS}
    return f"Its curves on LongCrawl64 lie near {FIGURE_3A_NATS:.0f} nats per token.", computed, values
