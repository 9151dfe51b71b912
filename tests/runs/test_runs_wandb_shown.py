"""What W&B shows of a run, from its settings and its record."""

import pytest

from diffmamba.runs.wandb_shown import LONGEST, configured, evaluation_of, labels, summary

RECORD = {
    "status": "finished",
    "parameters": {"total": 7},
    "tokens_per_second": None,
    "task": {
        "monitor": "val/accuracy",
        "metrics": {"accuracy": {"better": "higher"}, "loss": {"better": "lower"}},
    },
    "evaluations": [
        {"step": 4, "val/accuracy": 0.5, "val/loss": 2.0, "test/loss": 2.5, "lambda": {"1": 0.1}},
        {"step": 8, "val/accuracy": 0.9, "val/loss": 1.0, "test/loss": 1.5, "lambda": {"1": 0.2}},
        {"step": 12, "val/accuracy": 0.7, "val/loss": 1.2, "test/loss": 1.4, "lambda": {"1": 0.3}},
    ],
}


def test_the_summary_has_the_last_figures_and_the_best_in_the_direction_of_each():
    assert summary(RECORD) == {
        **{"status": "finished", "parameters": 7, "step": 12},
        **{"val/accuracy": 0.7, "val/loss": 1.2, "test/loss": 1.4},
        **{"best/val/accuracy": 0.9, "best/val/loss": 1.0, "best/test/loss": 1.4},
    }


def test_a_run_that_failed_before_its_first_evaluation_has_a_summary():
    failed = RECORD | {"status": "failed", "evaluations": [], "parameters": {}}
    assert summary(failed) == {"status": "failed", "parameters": None}


def test_checkpoints_are_told_with_the_evaluation_at_which_they_were_written():
    assert evaluation_of(RECORD, "best")["step"] == 8
    assert evaluation_of(RECORD, "last")["step"] == 12


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ({"name": "x" * 200}, {"name": "x" * LONGEST["name"]}),
        (
            {"name": "", "group": "  ", "tags": ["", "a", "a", None, 7]},
            {"name": None, "group": None, "tags": ["a", "7"]},
        ),
        ({"project": 'a/b\\c#d?e%f:g "<h>" ü'}, {"project": 'a-b-c-d-e-f-g "<h>" ü'}),
        ({"group": "a\udcffb"}, {"group": "a?b"}),  # a byte of a file's name that is no text
        ({"group": 2024, "job_type": "training"}, {"group": "2024", "job_type": "training"}),
    ],
)
def test_labels_are_what_wandb_takes(told, sent):
    found = labels({"project": "p", "tags": []} | told)
    assert found == dict.fromkeys(LONGEST) | {"project": "p", "tags": []} | sent


def test_the_configuration_has_each_setting_once_and_nothing_of_where_or_how_often():
    settings = {
        "model": {"name": "m", "d_model": 8, "network": {"_target_": "x", "d_model": 8}},
        "data": {"name": "d", "source": {"_target_": "y", "_partial_": True}, "module": {"_target_": "z"}},
        **{"seed": 3, "runs": "/store", "logger": {"wandb": {}}, "retries": 2, "name": None},
    }
    assert configured(settings) == {
        "model": {"name": "m", "d_model": 8},
        "data": {"name": "d", "source": {"_target_": "y"}},
        "seed": 3,
    }
