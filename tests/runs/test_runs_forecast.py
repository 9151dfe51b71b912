"""How long a work takes, by the finished runs of a store: per step for its like, else by parameters and symbols."""

from pathlib import Path
from typing import Any

import pytest

from diffmamba.configuration import composed
from diffmamba.runs.execution import work_of
from diffmamba.runs.forecast import Forecast
from diffmamba.runs.plan import Planned
from diffmamba.runs.work import Training

MAD = ("experiments=mad", "model=mamba", "scale.mad.epochs=2", "data.examples=64", "data.evaluated=32")
RECALL = "data=mad/in_context_recall"
SECONDS = 10.0


def work(*words: str) -> Training:
    found = work_of(composed(words))
    assert isinstance(found, Training)
    return found


def parameters(one: Training) -> int:
    return sum(parameter.numel() for parameter in one.shapes.parameters())


def record_of(one: Training, symbols: int) -> Any:
    """The record of a run that took SECONDS. `symbols` are what it read in training."""
    return {
        "kind": "training",
        "status": "finished",
        "wall_seconds": SECONDS,
        "config": one.settings,
        "parameters": {"total": parameters(one)},
        "evaluations": [{"step": one.length.steps, "tokens": symbols}],
    }


def foretold(done: Training, symbols: int, asked: Training) -> float | None:
    return Forecast({"t1": record_of(done, symbols)}).seconds(Planned("t2", asked))


def test_twice_the_epochs_of_the_same_training_take_twice_as_long() -> None:
    done, asked = work(*MAD, RECALL), work(*MAD, RECALL, "scale.mad.epochs=4")
    assert foretold(done, 1, asked) == pytest.approx(2 * SECONDS)


@pytest.mark.parametrize(
    ("words", "symbols"),
    [
        ([RECALL, "data.length=512"], 128 * 511),
        ([RECALL, "data.vocabulary=64"], 128 * 127),
        (["data=mad/selective_copying"], 128 * 256),
    ],
)
def test_another_length_vocabulary_or_task_takes_longer_as_it_has_more_symbols_and_parameters(
    words: list[str], symbols: int
) -> None:
    """Two epochs of 64 examples are 128; a recall of length 128 has 127 positions."""
    done, asked = work(*MAD, RECALL), work(*MAD, *words)
    factor = symbols / (128 * 127) * parameters(asked) / parameters(done)
    assert factor > 1
    assert foretold(done, 128 * 127, asked) == pytest.approx(SECONDS * factor)


def test_windows_of_a_text_are_counted_in_symbols_too(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("the quick brown fox jumps over a lazy dog " * 400)
    text = ("data=text", f"data.path={path}", f"data.directory={tmp_path}", "model=mamba", "scale.batch_size=4")
    done = work(*MAD, RECALL)
    asked = work(*text, "scale.length=32", "scale.steps=3")
    factor = 3 * 4 * 32 / (128 * 127) * parameters(asked) / parameters(done)
    assert foretold(done, 128 * 127, asked) == pytest.approx(SECONDS * factor, rel=0.02)
