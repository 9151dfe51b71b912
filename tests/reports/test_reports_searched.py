"""The page of a search: trials ranked by the val split, the best so far, and what failed, shown as such."""

import pytest
from by_hand import failed, make_record, shown

from diffmamba import reports
from diffmamba.document import Chart
from diffmamba.reports import searched

VAL = [5.0, 6.0, 4.0, None, 4.5]
"""The val PPL of the trials; the fourth fails. The test PPL goes the other way: the best of it is the worst of val."""


def trial(place, value, model="mamba", **changes):
    record = make_record(0.0, id=f"t{place}", config={"seed": 0}, kind="training", **changes)
    last = record["evaluations"][-1]
    last |= {"val/ppl": value, "test/ppl": 10 - (value or 0.0)}
    return {"model": model, "learning_rate": 0.001 * 10**place}, record


def search(*trials, **further):
    found = trials or [trial(place, value, **(failed() if value is None else {})) for place, value in enumerate(VAL)]
    return searched.search_of("rates", "", found, "smoke", **further)


def charts(found):
    return {block.name: block for block in searched.document(found).blocks if isinstance(block, Chart)}


def test_the_val_split_ranks_and_the_test_value_stands_beside_it():
    found = search()
    assert [each.number for each in found.ranked] == [3, 5, 1, 2]
    rows = searched.document(found).data["rows"]
    assert [row["val/ppl"] for row in rows] == [4.0, 4.5, 5.0, 6.0, None]
    assert [row["test/ppl"] for row in rows] == [6.0, 5.5, 5.0, 4.0, None]
    assert rows[0]["learning_rate"] == 0.1
    told = shown(searched.document(found), 200)
    assert "The best is trial 3: model=mamba learning_rate=0.1." in told
    assert "val PPL" in told
    assert "test PPL" in told


def test_a_failed_trial_is_told_with_its_reason_and_drawn_as_a_failure():
    found = search()
    told = shown(searched.document(found), 200)
    assert "4 of 5 trials count" in told
    assert "trial 4 (model=mamba learning_rate=1): failed at step 120: loss is not finite (run t3)" in told
    ((panel,),) = charts(found)["best"].panels
    (crosses,) = [series for series in panel.series if series.label == "failed"]
    assert (crosses.x, crosses.y, crosses.marker) == ((4.0,), (6.0,), "x")
    assert not found.complete


def test_the_best_so_far_never_gets_worse_and_steps_where_a_trial_is_better():
    ((panel,),) = charts(search())["best"].panels
    line, dots = panel.series[:2]
    assert (dots.x, dots.y) == ((1.0, 2.0, 3.0, 5.0), (5.0, 6.0, 4.0, 4.5))
    assert list(zip(line.x, line.y, strict=True)) == [
        *((1, 5), (2, 5)),
        *((2, 5), (3, 5)),
        *((3, 4), (5, 4)),
        *((5, 4), (5, 4)),
    ]


def test_where_higher_is_better_the_best_is_the_highest():
    told = {"headline": "accuracy", "metrics": {"accuracy": {"label": "accuracy", "better": "higher", "digits": 1}}}
    trials = [
        (
            {"window": place},
            make_record(0.0, id=f"m{place}", kind="measurement", measure=told, values={"accuracy": value}),
        )
        for place, value in enumerate((40, 60, 50))
    ]
    found = search(*trials)
    assert [each.number for each in found.ranked] == [2, 3, 1]
    assert (found.metric.key, found.tested) == ("accuracy", None)
    ((panel,),) = charts(found)["best"].panels
    assert panel.series[0].y == (40, 40, 60, 60, 60, 60)
    assert "test" not in shown(searched.document(found), 200)


def test_each_setting_has_a_panel_numbers_below_and_words_beside():
    found = search(*(trial(place, value, model) for place, (value, model) in enumerate(((5, "b"), (4, "a"), (6, "b")))))
    (words, numbers), *_ = charts(found)["settings"].panels
    assert (words.y_label, words.y_names) == ("model", ("a", "b"))
    others, best = words.series
    assert (best.x, best.y) == ((4.0,), (0.0,))
    assert sorted(zip(others.x, others.y, strict=True)) == [(5.0, 1.0), (6.0, 1.0)]
    assert (numbers.x_label, numbers.x_scale) == ("learning_rate", "log")
    assert numbers.series[1].x == (0.01,)


@pytest.mark.parametrize(
    ("count", "planned", "complete"), [(3, 3, True), (3, None, True), (3, 4, False), (0, 2, False)]
)
def test_a_search_is_complete_when_all_its_trials_count(count, planned, complete):
    found = searched.search_of("rates", "", [trial(place, 3.0) for place in range(count)], "smoke", planned=planned)
    assert found.complete is complete
    document = searched.document(found)
    assert ("There is no trial yet" in shown(document)) is (count == 0)


def test_many_trials_are_folded_and_all_are_written(tmp_path):
    found = search(*(trial(place % 3, 3.0 + place) for place in range(30)))
    document = searched.document(found)
    assert len(document.data["rows"]) == 30
    written = {path.name: path for path in reports.write_page(document, tmp_path)}
    assert len(written["table.csv"].read_text().splitlines()) == 31
    assert "All 30 trials that count" in written["index.html"].read_text()
    assert {"best.svg", "settings.png"} <= written.keys()
