"""Tables 7 and 8 and figure 9 equal what made-up runs say; runs on other hardware are never compared."""

from statistics import fmean, median

import pandas as pd
import pytest

from diffmamba.document import Grid, Paragraph
from diffmamba.errors import SettingError
from diffmamba.paper.published import numbers
from diffmamba.reports import designs, pages
from diffmamba.reports.compose import document
from diffmamba.reports.design import results

MODELS, SEEDS, LENGTHS = ("mamba", "diff_mamba_hybrid", "transformer"), (0, 1, 2), (512, 2048)
LATER = {"mamba": 1.0, "diff_mamba_hybrid": 1.1, "transformer": 2.0}
WORDS = {"name": "tokens/s", "better": "higher", "digits": 0, "label": "tokens/s"}


class Runs:
    """Made-up runs of table 8: seconds by model, seed and length, and what differs from these."""

    def __init__(self, measure="Throughput", mode="inference", along="length", places=LENGTHS, wrong=0.01):
        self.planned, self.records, self.rows = [], {}, {}
        for seed in SEEDS:
            for model in MODELS:
                run_id = f"m{model}{seed}"
                loads = {
                    "batches": [1],
                    "lengths": [2048],
                    f"{along}s" if along == "length" else "batches": list(places),
                }
                config = {
                    "model": {"name": model},
                    "measure": {"_target_": f"diffmamba.measures.{measure}", "mode": mode, **loads},
                    "seed": seed,
                }
                self.planned.append((run_id, config | {"data": {"name": "symbols"}}))
                self.records[run_id] = self.record("a GPU", measure)
                self.rows[run_id] = pd.DataFrame(
                    row
                    for place in places
                    for row in self.of_load(
                        model, seed, {"batch": 1, "length": 2048, "mode": mode} | {along: place}, wrong
                    )
                )

    @staticmethod
    def record(gpu, measure):
        described = {"name": measure, "headline": "tokens_per_second", "metrics": {"tokens_per_second": WORDS}}
        return {
            "status": "finished",
            "kind": "measurement",
            "measure": described,
            "values": {"tokens_per_second": 5.0, "busy": 0.5},
            "hardware": {"device": "cuda", "gpu": gpu, "cpu": "a CPU", "cores": 4, "threads": 4},
            "operators": {"backend": "torch", "compiled": False},
            "parameters": {"total": 1000},
            "corpus": {"name": "symbols"},
        }

    @staticmethod
    def of_load(model, seed, at, wrong):
        """Rows with a spread of 10 % of the median; the ratio to Mamba grows by `wrong` with the seed."""
        seconds = (LATER[model] + (wrong * seed if model != "mamba" else 0)) * (1 + seed) * at["length"] / 1000
        sizes = {"weights_bytes": 4e6, "kept_bytes": 1e6 * LATER[model] * at["batch"], "peak_bytes": 9e6}
        speed = at["batch"] / seconds
        named = {"seconds": seconds, "tokens_per_second": speed}
        quartiles = {
            f"{name}_{word}": value * part
            for name, value in named.items()
            for word, part in {"low": 0.96, "median": 1.0, "high": 1.06}.items()
        }
        repeat = {"measure": "seconds", "value": 99.0, "repeat": 1, **at}
        return [repeat, *({"measure": name, "value": value, **at} for name, value in (quartiles | sizes).items())]

    def found(self, name):
        kind = "figure" if name.startswith("figure") else "table"
        design = designs.find(kind, name)
        return design, results(design, self.planned, self.records, "smoke", rows_of=self.rows.get)


def cells(found):
    return {
        (cell.key.fields["model"], cell.key.fields["length"], cell.key.fields["batch"]): cell for cell in found.cells
    }


def printed(design, found):
    """The texts of the table by row, and all other texts."""
    blocks = document(design, found).blocks
    grid = next(block for block in blocks if isinstance(block, Grid))
    rows = [[entry.text for entry in row] for group in grid.groups for row in group.rows]
    return (
        [column.header for column in grid.columns],
        rows,
        [block.text for block in blocks if isinstance(block, Paragraph)],
    )


def test_a_row_is_the_ratio_to_mamba_of_the_same_seed_beside_the_published_one():
    design, found = Runs().found("table8")
    table = numbers()["table8"]
    for place, length in enumerate(LENGTHS):
        ratios = [1.1 + 0.01 * seed for seed in SEEDS]
        cell = cells(found)["diff_mamba_hybrid", length, 1]
        assert [*cell.values.values()] == pytest.approx(ratios)
        assert cell.delta == pytest.approx(fmean(ratios) - 1)
        at = table["length"].index(length)
        assert cell.key.published.value == pytest.approx(table["diff_mamba"][at] / table["mamba"][at])
        assert (cell.sign, cell.differs) == ("✓", "worse")
        assert cells(found)["transformer", length, 1].key.published.value is None
        further = design.further(cell)
        own = [ratio * (1 + seed) * length / 1000 for seed, ratio in zip(SEEDS, ratios, strict=True)]
        assert further == {"own_median": pytest.approx(median(own)), "spread_within_runs": pytest.approx(0.1)}
        assert place == [*dict.fromkeys(cell.key.fields["length"] for cell in found.cells)].index(length)


def test_training_has_no_published_time():
    assert all(cell.key.published.value is None for cell in Runs(mode="training").found("table8")[1].cells)


def test_speed_is_better_where_it_is_higher():
    _, found = Runs(mode="generation", along="batch", places=(1, 4)).found("figure9")
    values = cells(found)["diff_mamba_hybrid", 2048, 4].values
    assert [*values.values()] == pytest.approx([1 / (1.1 + 0.01 * seed) for seed in SEEDS])
    assert cells(found)["diff_mamba_hybrid", 2048, 4].differs == "worse"
    assert all(cell.key.published.value is None for cell in found.cells)


@pytest.mark.parametrize(("mode", "part"), [("forward", "kept"), ("inference", "peak")])
def test_memory_is_counted_with_the_weights_and_has_no_interval(mode, part):
    design, found = Runs("Memory", mode, along="batch", places=(1, 32)).found("table7")
    kept = {"kept": lambda model: 1e6 * 32 * LATER[model], "peak": lambda model: 9e6}[part]
    ratio = (4e6 + kept("diff_mamba_hybrid")) / (4e6 + kept("mamba"))
    cell = cells(found)["diff_mamba_hybrid", 2048, 32]
    assert [*cell.values.values()] == pytest.approx([ratio] * 3)
    assert cell.key.published.value == pytest.approx(44.30 / 43.80)
    _, _, texts = printed(design, found)
    assert not any("No interval" in text or "seen in" in text for text in texts)
    assert any("counted, not estimated" in text for text in texts)


def test_runs_on_other_hardware_stand_apart_and_are_not_compared():
    runs = Runs()
    for run_id in ("mmamba0", "mdiff_mamba_hybrid0", "mtransformer0", "mtransformer1"):
        runs.records[run_id] = runs.record("another GPU", "Throughput")
    design, found = runs.found("table8")
    by_machine = {(cell.key.fields["machine"].split(",")[0], cell.key.fields["model"]): cell for cell in found.cells}
    assert [*by_machine["a GPU", "diff_mamba_hybrid"].values] == [1, 2]
    assert [*by_machine["another GPU", "diff_mamba_hybrid"].values] == [0]
    assert [*by_machine["another GPU", "transformer"].values] == [0]  # seed 1 of Mamba was timed on the other one
    (lost,) = [run for run in by_machine["another GPU", "transformer"].seeds if run.value is None]
    assert (lost.seed, lost.status) == (1, "partial")
    assert any("different hardware" in text for text in printed(design, found)[2])
    assert any("on another GPU" in group for group in found.groups)


def test_out_of_memory_is_said_where_a_value_would_stand():
    runs = Runs()
    for seed in SEEDS:
        rows = runs.rows[f"mtransformer{seed}"]
        too_large = {"measure": "out_of_memory", "value": 1, "mode": "inference", "batch": 1, "length": 2048}
        runs.rows[f"mtransformer{seed}"] = pd.DataFrame([*rows[rows["length"] == 512].to_dict("records"), too_large])
    design, found = runs.found("table8")
    assert cells(found)["transformer", 2048, 1].status == "out of memory"
    assert cells(found)["transformer", 512, 1].status == "complete"
    headers, rows, texts = printed(design, found)
    lost = [row for row in rows if "out of memory" in row]
    assert [row[0] for row in lost] == ["transformer"]
    assert [headers[at] for at, text in enumerate(lost[0]) if text == "out of memory"] == ["time ÷ mamba ± std", "time"]
    assert found.missing == []  # nothing is missing: it was measured that it does not fit
    assert any(text.startswith("out of memory:") for text in texts)


def test_runs_that_are_not_there_are_missing_and_no_runs_make_an_empty_table():
    runs = Runs()
    del runs.records["mmamba1"], runs.records["mtransformer2"]
    _, found = runs.found("table8")
    assert [*cells(found)["diff_mamba_hybrid", 512, 1].values] == [0, 2]
    for told in ("hybrid: seed 1 has no mamba of this seed on this machine", "seed 2 not started"):
        assert sum(told in text for text in found.missing) == len(LENGTHS)
    runs.records.clear()
    design, found = runs.found("table8")
    assert {cell.status for cell in found.cells} == {"missing"}
    assert len(printed(design, found)[1]) == len(MODELS) * len(LENGTHS)


def test_where_mamba_alone_is_out_of_memory_the_others_keep_their_values():
    runs = Runs()
    for seed in SEEDS:
        rows = runs.rows[f"mmamba{seed}"]
        too_large = {"measure": "out_of_memory", "value": 1, "mode": "inference", "batch": 1, "length": 2048}
        runs.rows[f"mmamba{seed}"] = pd.DataFrame([*rows[rows["length"] == 512].to_dict("records"), too_large])
    design, found = runs.found("table8")
    cell = cells(found)["transformer", 2048, 1]
    assert (cell.status, {run.reason for run in cell.seeds}) == ("out of memory", {"mamba was out of memory"})
    assert design.further(cell)["own_median"] == pytest.approx(
        median([4.096, 2 * 4.096 + 0.04096, 3 * 4.096 + 0.12288])
    )
    assert found.missing == []


@pytest.mark.parametrize(
    ("name", "read", "other"), [("table7", "Memory", "Throughput"), ("table8", "Throughput", "Memory")]
)
def test_runs_of_another_measure_are_refused(name, read, other):
    with pytest.raises(SettingError, match=rf"^measure: this page reads the rows of measure={read.lower()} alone$"):
        Runs(other).found(name)


def test_a_published_ratio_stands_beside_its_own_load_or_says_of_what_it_is():
    runs = Runs(along="batch", places=(1, 4))
    assert {
        batch: cell.key.published.value is None
        for (model, _, batch), cell in cells(runs.found("table8")[1]).items()
        if model == "diff_mamba_hybrid"
    } == {1: False, 4: True}
    headers, *_ = printed(*Runs("Memory", "forward", along="batch", places=(1, 4)).found("table7"))
    assert "paper memory ÷ mamba, at length 2,048" in headers


def test_threads_and_devices_make_a_page_of_their_own_where_results_depend_on_them():
    words = ("threads=1", "trainer=cpu", "model.backend=torch", "logger=csv", "runs=x", "seed=1")
    assert pages.telling(words, of_machine=True) == ("model.backend=torch", "seed=1", "threads=1", "trainer=cpu")
    assert pages.telling(words) == ("seed=1",)
    for kind, name in (("table", "table7"), ("table", "table8"), ("figure", "figure9")):
        assert designs.find(kind, name).of_machine
    assert not designs.find("table", "table2").of_machine
