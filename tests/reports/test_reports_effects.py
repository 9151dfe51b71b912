"""The effects of a table's parts: differences between two of its cells, with statistics of their own."""

from by_hand import make_record, variant

from diffmamba import reports
from diffmamba.reports import statistics
from diffmamba.reports.designs import table2_controls

SEEDS = (0, 1, 2, 3)
VALUES = {  # test PPL by seed, of model, outer norm and form of λ
    ("mamba", False, None): (5.0, 5.1, 5.2, 5.1),
    ("mamba", True, None): (4.9, 5.0, 5.2, 5.0),
    ("diff_mamba", True, "scalar"): (4.0, 4.2, 4.1, 4.0),
    ("diff_mamba", False, "scalar"): (4.1, 4.2, 4.3, 4.2),
    ("diff_mamba_additive", True, "scalar"): (4.1, 4.1, 4.1, 4.1),
}


def config(name: str, outer_norm: bool, form: str | None, seed: int, layers: int) -> dict:
    found = variant(name, outer_norm, form, seed)
    return found | {"model": found["model"] | {"n_layers": layers}}


def found(layers: tuple[int, ...] = (2,)) -> reports.Results:
    planned, records = [], {}
    for place, (name, values) in enumerate(VALUES.items()):
        for depth in layers:
            for seed, value in zip(SEEDS, values, strict=True):
                run_id = f"{place}-{depth}-{seed}"
                planned.append((run_id, config(*name, seed, depth)))
                records[run_id] = make_record(value)
    return reports.results(table2_controls.DESIGN, planned, records, "study")


def test_an_effect_is_the_difference_of_its_two_cells_by_seed() -> None:
    results = found()
    effects = {cell.key.label: cell for cell in table2_controls.effects(results)}
    assert list(effects) == [
        "all of it: N-Diff-Mamba over Mamba",
        "outer norm, of Mamba",
        "outer norm, of Diff-Mamba",
        "minus in the place of plus",
    ]
    there = [pair for pair in table2_controls.EFFECTS.values() if {*pair} <= VALUES.keys()]
    expected = statistics.compared([(VALUES[ours], VALUES[other]) for ours, other in there])
    assert [cell.comparison for cell in effects.values()] == expected  # together: four rows, not those of the table
    assert effects["outer norm, of Diff-Mamba"].key.published.delta == round(2.493 - 2.508, 3)
    assert effects["outer norm, of Mamba"].key.published.delta is None


def test_another_depth_has_effects_of_its_own_and_the_page_tells_both() -> None:
    results = found((1, 2))
    labels = [cell.key.label for cell in table2_controls.effects(results)]
    assert labels[0] == "all of it: N-Diff-Mamba over Mamba, 1 layer"
    assert len(labels) == 8
    document = reports.document(table2_controls.DESIGN, results)
    assert [row["effect"] for row in document.data["effects"]] == [label.rpartition(", ")[0] for label in labels]
    assert all(row["delta_low"] < row["delta"] < row["delta_high"] for row in document.data["effects"])
