"""The audit of the published setting, once: what it finds, and what its document holds."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from diffmamba.audit import main
from diffmamba.document import Bullets, Document, Grid, Paragraph, Section
from diffmamba.paper import auditing
from diffmamba.paper.cases import collect
from diffmamba.paper.compute import Assumed
from diffmamba.paper.remarks import on_table1


@pytest.fixture(scope="module")
def document() -> Iterator[Document]:
    """The audit. The cases of scale paper are composed once for all audits here."""
    with pytest.MonkeyPatch.context() as patch:
        found = cache(lambda *words: collect(words))
        patch.setattr(auditing, "collect", lambda words: found(*words))
        yield auditing.audit(["scale=paper"])


@pytest.fixture(scope="module")
def audit(document: Document) -> Any:
    return document.data


@pytest.fixture(scope="module")
def found(audit: Any) -> Any:
    """The values of every finding by its key."""
    return {finding["key"]: finding["values"] for finding in audit["contradictions"] + audit["further"]}


def test_counts_are_judged_by_one_percent(audit: Any) -> None:
    assert [sum(cell["table"] == table for cell in audit["cells"]) for table in ("table1", "table2")] == [12, 10]
    assert len({cell["key"] for cell in audit["cells"]}) == 22
    for cell in audit["cells"]:
        count = cell["parameters"]
        assert count["total"] == sum(count[part] for part in ("embedding", "mixers", "feed_forward", "norms"))
        if count["published_m"] is None:
            assert (cell["model"], cell["outer_norm"]) == ("mamba", True)  # a control of ours
            continue
        difference = count["total"] / (1e6 * count["published_m"]) - 1
        assert count["difference"] == pytest.approx(difference)
        assert count["within"] == (abs(difference) <= 0.01) == (count["reason"] is None)
    verdict = audit["verdict"]
    assert (verdict["counts_compared"], verdict["counts_within_1_percent"], len(verdict["counts_off"])) == (21, 15, 6)
    reasons = {tuple(key.split("/")[:2]): reason[:2] for key, reason in verdict["counts_off"].items()}
    assert reasons == {("table1", "wikitext103"): "1.", ("table2", "text8"): "5."}  # of the contradictions


def test_hyper_parameters_and_steps_are_the_published_ones(audit: Any) -> None:
    assert audit["verdict"]["hyper_parameters_off"] == []
    assert audit["verdict"]["hyper_parameters_equal"] == len(audit["hyper_parameters"]) == 174
    assert {entry["source"] for entry in audit["hyper_parameters"]} == {f"table {n}" for n in (1, 3, 4, 5)}
    cell = next(cell for cell in audit["cells"] if cell["key"].startswith("table1/text8/6/mamba"))
    assert (cell["budget"]["steps_per_epoch"], cell["budget"]["steps"]) == (1034, 41_360)
    published, to_end = cell["learning_rate"]
    assert (published["length"], to_end["length"]) == (800_000, 41_360)
    assert (published["walked"], to_end["walked"]) == (pytest.approx(40_360 / 799_000), 1)
    assert to_end["landmarks"][-1]["rate"] == pytest.approx(0, abs=1e-12)


def test_contradictions_are_computed(found: Any) -> None:
    for model, printed, implied in (("mamba", 255, 295), ("diff_mamba", 259, 299)):
        counts = found["wikitext103_12_layer_counts"][model]
        assert (counts["printed_m"], counts["printed_text8_m"], counts["from_printed_m"]) == (printed, printed, implied)
        assert counts["counted_m"] == pytest.approx(implied, abs=0.5)
    gains = [found["ppl_called_bits"][f"{data}/12"] for data in ("text8", "enwik8")]
    assert [(gain["ppl"], round(gain["bits"], 3)) for gain in gains] == [(0.046, 0.027), (0.041, 0.025)]
    count = found["diff_mamba_129_or_128"]
    assert (count["table1_m"], count["table2_m"], int(count["counted_m"])) == (129, 128, 129)
    for data, worse in (("text8", True), ("enwik8", True), ("wikitext103", False)):
        six, twelve = (found["deeper_is_worse"][f"{data}/{layers}"] for layers in (6, 12))
        assert all((twelve["ppl"][model] > six["ppl"][model]) == worse for model in ("mamba", "diff_mamba"))
        assert twelve["steps"] > six["steps"]
        assert (twelve["learning_rate_integral"] < six["learning_rate_integral"] / 2) == worse
        assert (twelve["learning_rate"] < six["learning_rate"], twelve["dropout"] > six["dropout"]) == (worse, True)
    nats = found["figure3a_near_uniform"]
    assert nats["uniform_nats"] == pytest.approx({"GPT-NeoX": math.log(50_277), "GPT-2": math.log(50_257)})
    assert nats["figure3b_nats"]["pg19"]["diff_mamba"] == pytest.approx(3.28, abs=0.005)


def test_the_mechanism_is_computed(found: Any) -> None:
    norms = found["place_of_the_norm"]
    assert norms["more_parameters"] == 12 * 1024
    for depth in ("1", "10", "17"):
        assert norms[depth]["relative_difference"] > 0.3
        assert norms[depth]["before_moves"] < 0.01 < 0.2 < norms[depth]["after_moves"]
        assert norms[depth]["rms_after"] == pytest.approx([1, 1], abs=1e-3)
    signs = found["sign_of_lambda_init"]
    assert list(signs) == ["1", "2", "4", "5", "7", "8", "10", "11", "13", "14", "16", "17"]
    for depth in signs.values():
        assert depth["exp"]["mean"] == pytest.approx(depth["lambda_init"], abs=0.02)
        assert depth["exp_printed"]["mean"] == pytest.approx(-depth["lambda_init"], abs=0.02)
    assert signs["17"]["exp_printed"]["negative"] > 0.99
    start = found["lambda_hardly_learns"]["reparam"]
    assert (start["summed"], round(start["settled"], 3)) == (1024, 0.886)
    assert start["median_derivative"] == pytest.approx(4.2e-10, rel=0.02)


def test_what_else_is_computed(found: Any) -> None:
    assert found["counts_cut_off"]["cut_off"] > 3 * found["counts_cut_off"]["rounded"]
    assert found["ablation_length"]["epochs"] == pytest.approx(15_000 / 1034)
    assert found["gain_shrinks"]["epoch_10"] / found["gain_shrinks"]["epoch_40"] == pytest.approx(4, abs=0.1)
    assert round(found["not_matched"]["diff_mamba"]["parameters"], 3) == 0.014
    assert all(row["as_heads_m"] > row["as_dimension_m"] + 1 for row in found["heads"].values())
    medium = found["medium_counts"]
    assert {name: int(count) for name, count in medium["counted_m"].items()} == medium["printed_m"]
    assert found["figure4_from_figure8"] == {"compared": 40, "different": []}
    assert found["latency_not_monotonic"]["falls"] == ["1,024 to 2,048"]
    tied = found["first_projection"]
    assert int(tied["tied_m"]) < tied["printed_m"] == int(tied["separate_m"])


def test_the_document_says_it_all_with_the_verdict_first(document: Document, audit: Any) -> None:
    verdict, *rest = document.blocks
    assert isinstance(verdict, Bullets)
    assert verdict.items[0].startswith("15 of 21 parameter counts are within 1 %")
    off = [item.split(" See")[0] for item in verdict.items if item.startswith("Not met")]
    assert len(off) == 3
    assert off[1].endswith("12 layers, mamba. We count 295.3M parameters, the paper prints 255M.")
    sections = [section for section in rest if isinstance(section, Section)]
    parts = [part for section in sections for part in section.blocks if isinstance(part, Section)]
    findings = audit["contradictions"] + audit["further"]
    assert [part.title for part in parts] == [finding["title"] for finding in findings]
    assert [part.title[:2] for part in parts[:8]] == [f"{number}." for number in range(1, 9)]
    for part, finding in zip(parts, findings, strict=True):
        assert part.blocks[:2] == (Paragraph(finding["printed"], tone="note"), Paragraph(finding["computed"]))
        assert finding["printed"].endswith(".")
        assert finding["computed"].endswith(".")
    for grid in (block for section in [*sections, *parts] for block in section.blocks if isinstance(block, Grid)):
        assert {len(row) for group in grid.groups for row in group.rows} == {len(grid.columns)}
    told = {finding["printed"] for finding in findings}
    assert set(on_table1()) < told  # table 1's page says the same in the same words


def test_another_setting_changes_the_cells_and_leaves_the_contradictions(audit: Any) -> None:
    assumed = Assumed(device="a100", bf16=0.5)
    changed = auditing.audit(["scale=paper", "model.dropout=0.1", "model.lambda_index=mixers"], 2, assumed).data
    off = changed["verdict"]["hyper_parameters_off"]
    assert {(entry["setting"], entry["ours"]) for entry in off} == {("model.dropout", 0.1)}
    index = next(reading for reading in changed["readings"] if reading["setting"] == "model.lambda_index")
    assert (index["default"], index["in_force"]) == ("blocks", "mixers")
    assert changed["contradictions"] == audit["contradictions"]
    total = sum(cell["compute"]["total"] for cell in changed["cells"] if cell["table"] == "table1")
    spent = changed["compute"]["tables"]["table1"]
    assert spent["operations"] == pytest.approx(2 * total)
    assert spent["hours"]["a100"]["bf16"] == pytest.approx(2 * total / (0.5 * 312e12) / 3600)
    assert spent["hours"]["a100"]["fp32"] > spent["hours"]["h100"]["fp32"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("device=abacus", "device=abacus is not known"),
        ("utilisation_bf16=1.5", "utilisation_bf16=1.5 must be a number above 0"),
        ("utilisation_fp32=half", "utilisation_fp32=half must be a number"),
        ("scale=smoke", "no sizes are published; use scale=paper"),
        ("modle.ssm=mamba1", "modle"),
        ("model=mamba", "set model themselves"),
    ],
)
def test_settings_are_checked(
    word: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["audit", word])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_an_audit_of_other_settings_has_a_page_and_a_title_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auditing, "audit", lambda *_: Document("Audit: met?", (), {}))
    pages = {"": "audit", "scale=paper": "audit", "threads=1": "audit"}
    pages |= {"device=h100": "audit-device=h100", "scale=smoke": "audit-scale=smoke"}
    for word, name in pages.items():
        monkeypatch.setattr("sys.argv", ["audit", f"reports={tmp_path}", *filter(None, [word])])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        title = (tmp_path / name / "audit.md").read_text().splitlines()[0]
        assert title == ("# Audit: met?" if name == "audit" else f"# Audit: met? With {word}")
    assert {path.name for path in tmp_path.iterdir()} == set(pages.values())
