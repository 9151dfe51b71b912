"""The audit of the published setting, end to end, once: what it prints, writes and finds."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from diffmamba.audit.__main__ import main
from diffmamba.errors import SettingError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves, with what it printed at 100 columns beside it."""
    home = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch, (home / "printed").open("w", encoding="utf-8") as printed:
        patch.setenv("COLUMNS", "100")
        patch.setattr("sys.stdout", printed)
        assert main([f"reports={home}"]) == 0
    return home


@pytest.fixture(scope="module")
def audit(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "audit" / "audit.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(audit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every finding by its key."""
    return {finding["key"]: finding["values"] for finding in audit["contradictions"] + audit["further"]}


def test_every_cell_is_there(audit: dict[str, Any]) -> None:
    assert [sum(cell["table"] == table for cell in audit["cells"]) for table in ("table1", "table2")] == [12, 10]
    assert len({cell["key"] for cell in audit["cells"]}) == 22
    table1 = {(cell["data"], cell["layers"], cell["model"]) for cell in audit["cells"] if cell["table"] == "table1"}
    corpora, models = ("wikitext103", "text8", "enwik8"), ("mamba", "diff_mamba")
    assert table1 == {(data, layers, model) for data in corpora for layers in (6, 12) for model in models}
    assert len(audit["contradictions"]) == 7


def test_counts_are_judged_by_one_percent(audit: dict[str, Any]) -> None:
    for cell in audit["cells"]:
        count = cell["parameters"]
        parts = ("embedding", "mixers", "feed_forward", "norms")
        assert count["total"] == sum(count[part] for part in parts)
        if count["published_m"] is None:
            assert (cell["model"], cell["outer_norm"]) == ("mamba", True)  # a control of ours
            continue
        difference = count["total"] / (1e6 * count["published_m"]) - 1
        assert count["difference"] == pytest.approx(difference)
        assert count["within"] == (abs(difference) <= 0.01) == (count["reason"] is None)
    verdict = audit["verdict"]
    assert verdict["counts_compared"] == 21
    assert verdict["counts_within_1_percent"] + len(verdict["counts_off"]) == 21
    assert {key.split("/")[1] for key in verdict["counts_off"] if key.startswith("table1")} == {"wikitext103"}


def test_hyper_parameters_are_the_printed_ones(audit: dict[str, Any]) -> None:
    assert audit["verdict"]["hyper_parameters_off"] == []
    assert audit["verdict"]["hyper_parameters_compared"] == len(audit["hyper_parameters"]) > 150
    assert {entry["source"] for entry in audit["hyper_parameters"]} == {f"table {n}" for n in (1, 3, 4, 5)}


def test_steps_of_text8_are_the_known_ones(audit: dict[str, Any]) -> None:
    cell = next(cell for cell in audit["cells"] if cell["key"].startswith("table1/text8/6/mamba"))
    assert (cell["budget"]["steps_per_epoch"], cell["budget"]["steps"]) == (1034, 41_360)
    published, to_end = cell["learning_rate"]
    assert (published["length"], to_end["length"]) == (800_000, 41_360)
    assert published["walked"] == pytest.approx(40_360 / 799_000)
    assert to_end["walked"] == 1
    assert to_end["landmarks"][-1]["rate"] == pytest.approx(0, abs=1e-12)


def test_counts_of_wikitext103_were_copied(found: dict[str, dict[str, Any]]) -> None:
    for model, printed, implied in (("mamba", 255, 295), ("diff_mamba", 259, 299)):
        values = found["wikitext103_12_layer_counts"][model]
        assert (values["printed_m"], values["printed_text8_m"], values["from_printed_m"]) == (printed, printed, implied)
        assert values["counted_m"] == pytest.approx(implied, abs=0.5)


def test_ppl_was_called_bits(found: dict[str, dict[str, Any]]) -> None:
    values = found["ppl_called_bits"]
    assert [values[f"{data}/12"]["ppl"] for data in ("text8", "enwik8")] == [0.046, 0.041]
    assert [round(values[f"{data}/12"]["bits"], 3) for data in ("text8", "enwik8")] == [0.027, 0.025]


def test_the_place_of_the_norm_matters(found: dict[str, dict[str, Any]]) -> None:
    values = found["place_of_the_norm"]
    assert values["more_parameters"] == 12 * 1024
    for depth in ("1", "10", "17"):
        assert values[depth]["relative_difference"] > 0.3
        assert values[depth]["before_moves"] < 0.01 < 0.2 < values[depth]["after_moves"]
        assert values[depth]["rms_after"] == pytest.approx([1, 1], abs=1e-3)


def test_the_sign_of_lambda_init_turns_the_subtraction_round(found: dict[str, dict[str, Any]]) -> None:
    values = found["sign_of_lambda_init"]
    assert list(values) == ["1", "2", "4", "5", "7", "8", "10", "11", "13", "14", "16", "17"]
    for depth in values.values():
        assert depth["exp"]["mean"] == pytest.approx(depth["lambda_init"], abs=0.02)
        assert depth["exp_printed"]["mean"] == pytest.approx(-depth["lambda_init"], abs=0.02)
    assert values["17"]["exp_printed"]["negative"] > 0.99


def test_diff_mamba_is_cut_off_to_129(found: dict[str, dict[str, Any]]) -> None:
    values = found["diff_mamba_129_or_128"]
    assert (values["table1_m"], values["table2_m"], int(values["counted_m"])) == (129, 128, 129)


def test_deeper_models_learn_less(found: dict[str, dict[str, Any]]) -> None:
    values = found["deeper_is_worse"]
    for data in ("text8", "enwik8"):
        six, twelve = values[f"{data}/6"], values[f"{data}/12"]
        assert all(twelve["ppl"][model] > six["ppl"][model] for model in ("mamba", "diff_mamba"))
        assert twelve["steps"] > six["steps"]
        assert twelve["learning_rate_integral"] < six["learning_rate_integral"] / 2
    assert values["wikitext103/12"]["ppl"]["mamba"] < values["wikitext103/6"]["ppl"]["mamba"]


def test_figure_3a_is_near_uniform(found: dict[str, dict[str, Any]]) -> None:
    values = found["figure3a_near_uniform"]
    assert values["uniform_nats"] == pytest.approx({"GPT-NeoX": math.log(50_277), "GPT-2": math.log(50_257)})
    assert values["figure3b_nats"]["pg19"]["diff_mamba"] == pytest.approx(3.28, abs=0.005)


def test_what_else_is_computed(found: dict[str, dict[str, Any]]) -> None:
    assert found["counts_cut_off"]["cut_off"] > 3 * found["counts_cut_off"]["rounded"]
    assert found["ablation_length"]["epochs"] == pytest.approx(15_000 / 1034)
    assert found["gain_shrinks"]["epoch_10"] / found["gain_shrinks"]["epoch_40"] == pytest.approx(4, abs=0.1)
    assert round(found["not_matched"]["diff_mamba"]["parameters"], 3) == 0.014
    assert all(v["as_heads_m"] > v["as_dimension_m"] + 1 for v in found["heads"].values())
    medium = found["medium_counts"]
    assert {name: int(count) for name, count in medium["counted_m"].items()} == medium["printed_m"]
    assert found["figure4_from_figure8"] == {"compared": 40, "different": []}
    assert found["latency_not_monotonic"]["falls"] == ["1,024 to 2,048"]


def test_it_prints_the_verdict_first_and_whole_at_100_columns(folder: Path) -> None:
    text = (folder / "printed").read_text(encoding="utf-8")
    assert max(map(cell_len, text.splitlines()[:-1])) <= 100
    assert "…" not in text
    verdict = text.splitlines()[1]
    assert re.match(r"• \d+ of 21 parameter counts are within 1 %", verdict)
    assert text.index("These are not: table 1, wikitext103, 12 layers") < text.index("Parameters")


def test_pages_need_nothing_but_themselves(folder: Path, audit: dict[str, Any]) -> None:
    page = (folder / "audit" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)
    markdown = (folder / "audit" / "audit.md").read_text(encoding="utf-8")
    for finding in audit["contradictions"]:
        number = finding["title"].split(".")[0]
        assert f"<h3>{number}. " in page
        assert f"### {number}\\. " in markdown
    assert sorted(path.name for path in (folder / "audit").iterdir()) == ["audit.json", "audit.md", "index.html"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("device=abacus", "device=abacus is not known"),
        ("utilisation_bf16=1.5", "utilisation_bf16=1.5 must be above 0"),
        ("utilisation_fp32=half", "utilisation_fp32=half must be a number"),
        ("scale=smoke", "no sizes are published; use scale=paper"),
        ("modle.ssm=mamba1", "modle"),
    ],
)
def test_settings_are_checked(word: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        main([word])
