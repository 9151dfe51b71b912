"""Files of answers: the scores of an excerpt of the published ones, what is said of a file, and what is refused.

`excerpt.csv` holds 350 of the answers in the repository of the authors of Differential Mamba (MIT licence).
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_answers_rules import literal

from diffmamba.answers import COLUMNS, LABELS, read
from diffmamba.errors import SettingError

HEAD = ",".join(COLUMNS)
EXCERPT = Path(__file__).with_name("excerpt.csv")


@pytest.fixture(scope="module")
def raw():
    return pd.read_csv(EXCERPT, dtype=str, keep_default_na=False)


@pytest.fixture
def wrong(raw, tmp_path):
    """Writes the excerpt changed, and gives what is said of it."""

    def refused(change):
        path = tmp_path / "answers.csv"
        change(raw.copy()).to_csv(path, index=False)
        with pytest.raises(SettingError) as error:
            read(path)
        told = str(error.value)
        assert told.startswith(f"predictions={path}: ")
        assert "\n" not in told
        return told.partition(": ")[2]

    return refused


def test_the_scores_of_published_answers_are_those_of_a_literal_reading(raw):
    table = read(EXCERPT).table
    assert len(table) == len(raw) == 350
    by_key = {tuple(row[:5]): row for row in table[[*COLUMNS, "benchmark", "first", "exact", "named"]].to_numpy()}
    right = []
    for model, seed, task, length, row, target, output, question in raw[[*COLUMNS]].to_numpy():
        found = by_key[model, seed, task, length, int(row)]
        expected = literal(output, question, target, LABELS[task])
        assert tuple(map(int, found[8:])) == tuple(map(int, expected))
        right.append(expected)
    sums = np.array(right, int).sum(0)
    assert sums[1] > sums[0] > 40  # so that both rules are put to the test
    assert {0, 1, 2} <= {*table["named"]}


def test_answers_come_in_the_order_of_tasks_lengths_models_and_rows(raw, tmp_path):
    raw.sample(frac=1, random_state=0).to_csv(tmp_path / "mixed.csv", index=False)
    table = read(tmp_path / "mixed.csv").table
    assert [*dict.fromkeys(zip(table["task"], table["length"], strict=True))][:3] == [
        ("qa1", "1k"), ("qa1", "64k"), ("qa2", "1k")]  # fmt: skip
    first = table[(table["task"] == "qa1") & (table["length"] == "1k")]
    assert all(rows["row"].is_monotonic_increasing for _, rows in first.groupby(["model", "seed"]))


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "parquet"])
def test_other_kinds_of_files_give_the_same_scores(raw, tmp_path, kind):
    path, plain = tmp_path / f"answers.{kind}", raw.astype({"row": int})
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(EXCERPT.read_bytes()))
    elif kind == "jsonl":
        plain.to_json(path, orient="records", lines=True)
    else:
        plain.astype({"row": float}).to_parquet(path)
    pd.testing.assert_frame_equal(read(path).table, read(EXCERPT).table)


def test_a_whole_number_that_is_written_as_a_fraction_is_one(raw, tmp_path):
    numbers = raw[raw["seed"] != "pg19"]
    numbers.to_csv(tmp_path / "plain.csv", index=False)
    numbers.astype({"seed": float, "row": float}).to_csv(tmp_path / "floats.csv", index=False)
    assert "42.0" in (tmp_path / "floats.csv").read_text()
    pd.testing.assert_frame_equal(read(tmp_path / "floats.csv").table, read(tmp_path / "plain.csv").table)


def test_a_word_for_a_missing_value_is_a_text(raw, tmp_path):
    raw.loc[0, "output"], raw.loc[1, "output"] = "NA", ""
    raw.to_csv(tmp_path / "answers.csv", index=False)
    assert {"NA", ""} <= {*read(tmp_path / "answers.csv").table["output"]}


def test_what_is_missing_incomplete_or_there_twice_is_said(raw, tmp_path):
    lost = (raw["model"] == "mamba") & (raw["task"] == "qa5") & (raw["length"] == "64k")
    some = (raw["model"] == "diff_mamba") & (raw["seed"] == "42") & (raw["task"] == "qa1") & (raw["length"] == "1k")
    drop = raw[lost & (raw["seed"] == "0")].index.union(raw[some].index[:2])
    again = raw[:3].assign(output="kitchen")
    pd.concat([raw.drop(drop), again]).to_csv(tmp_path / "answers.csv", index=False)
    found = read(tmp_path / "answers.csv")
    told = set(found.remarks)
    assert "mamba, seed 0, qa5 at 64k: no answer." in told
    assert "diff_mamba, seed 42, qa1 at 1k: 3 of 5 answers." in told
    assert any(line.startswith("3 answers have the same model, seed, task, length and row") for line in told)
    assert len(found.table) == len(raw) - len(drop)
    assert "kitchen" not in set(found.table["output"])  # the first counts
    pg19 = {f"{model}, seed pg19, {task} at 64k: no answer." for model in ("mamba", "diff_mamba") for task in LABELS}
    assert pg19 <= told
    assert len(told) == 3 + len(pg19)


def test_a_row_that_is_another_question_for_another_model_is_said(raw, tmp_path):
    raw.loc[(raw["model"] == "mamba") & (raw["task"] == "qa1") & (raw["row"] == raw["row"][0]), "question"] = "Where?"
    raw.to_csv(tmp_path / "answers.csv", index=False)
    assert "not the same for all models" in read(tmp_path / "answers.csv").remarks[0]


def test_own_labels_take_the_place_of_those_of_the_task(raw, tmp_path):
    answer = ["m", "1", "qa4", "4k", "garden", "garden, kitchen", "What is west of the office?"]
    rows = [[*answer, "0", ""], [*answer, "1", "garden, office,hallway"]]
    columns = ["model", "seed", "task", "length", "target", "output", "question", "row", "labels"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "own.csv", index=False)
    assert read(tmp_path / "own.csv").table["benchmark"].tolist() == [False, True]


def put(column, value, at=4):
    return lambda raw: raw.assign(**{column: [value if row == at else old for row, old in enumerate(raw[column])]})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.drop(columns=["output", "row"]), "has no column row, output; it needs model, seed, task"),
        (lambda raw: raw[:0], "holds no answer"),
        (put("task", "qa6"), "task qa6 is not known; there are qa1, qa2, qa3, qa4, qa5"),
        (put("row", "-1"), "answer 5 has row '-1'; a row is a whole number from 0"),
        (put("row", "1.5"), "answer 5 has row '1.5'"),
        (put("row", ""), "answer 5 has row ''"),
        (put("length", "long"), "answer 5 has length 'long'; a length is a number of tokens such as 4k"),
        (put("target", "cellar"), "answer 5 has target 'cellar'; a target is one of the task's labels"),
        (put("target", ""), "answer 5 has target ''"),
        (put("seed", " "), "answer 5 has seed ' '"),
        (put("model", ""), "answer 5 has model ''"),
    ],
)
def test_a_file_that_does_not_do_is_refused_in_one_line(wrong, change, told):
    assert told in wrong(change)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, "does not exist"),
        ("folder.csv", "", "is no file"),
        ("empty.csv", b"", "holds no answer"),
        ("bytes.csv", b"\xff\xfe\x00model,seed", "cannot be read"),
        ("no.csv.gz", b"not compressed", "cannot be read"),
        ("cut.csv.gz", gzip.compress(EXCERPT.read_bytes())[:2000], "cannot be read"),
        ("text.parquet", b"model,seed", "cannot be read"),
        ("text.jsonl", b"model,seed", "cannot be read"),
        ("list.jsonl", b"[1, 2]\n", "has no column model"),
        ("long.csv", f"{HEAD}\nm,1,qa1,4k,0,garden,garden, office,Where?\n".encode(), "cannot be read"),
        ("short.csv", f"{HEAD}\nm,1,qa1,4k,0,garden,garden\n".encode(), "answer 1 has question ''"),
        ("null.jsonl", json.dumps(dict.fromkeys(COLUMNS)).encode(), "answer 1 has no model"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content) if content or name != "folder.csv" else path.mkdir()
    with pytest.raises(SettingError) as error:
        read(path)
    assert str(error.value).startswith(f"predictions={path}: {told}")
    assert "\n" not in str(error.value)
