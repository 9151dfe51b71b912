"""The lens of a run: kept in the store, used again for the same weights, and refused for others."""

import pytest

from diffmamba.runs.measured import read_rows


def test_a_lens_is_kept_and_measures_other_data_of_the_same_weights_alone(story, command):
    world, record = story
    of_run = ["measure=lens", "weights=run", f"weights.run={record['id']}"]
    first = world.measure(*of_run, "measure.steps=3", "measure.sequences=4", "measure.limit=6")
    kept = world.run(first).directory / "lens.safetensors"
    assert kept.exists()
    again = world.measure(*of_run, f"measure.lens={first['id'][:8]}", "measure.limit=6")
    assert again["values"] == first["values"]
    assert again["id"] != first["id"]
    assert world.measure(*of_run, f"measure.lens={kept}", "measure.limit=6")["id"] == again["id"]
    assert not (world.run(again).directory / "lens.safetensors").exists()
    rows = read_rows(world.run(first))
    steps = rows[rows["measure"] == "training_kl"]["step"]
    assert steps.tolist() == [1, 2, 3]
    val = world.measure(*of_run, f"measure.lens={kept}", "measure.limit=6", "measure.split=val")
    assert val["values"]["kl"] != first["values"]["kl"]

    before = world.contents()
    others = ("measure=lens", "weights=fresh", f"measure.lens={kept}")
    assert "was trained for other weights" in command("measure", world.words(*others)).refusal()
    wider = (*others, "scale.d_model=64")
    assert "is a lens of another model: of 2 blocks of width 32" in command("measure", world.words(*wider)).refusal()
    assert world.contents() == before


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_measures_in_bfloat16(world, precision):
    """A lens that is trained under autocast must not read a cast copy of its first maps."""
    words = ("weights=fresh", f"trainer.precision={precision}")
    adam = ("measure.steps=20", "measure.sequences=4", "measure.optimizer=adam", "measure.learning_rate=0.03")
    found = world.measure("measure=lens", *adam, "measure.limit=6", *words)["values"]
    if precision == "bf16-mixed":  # of maps that are bfloat16 themselves few steps change little
        assert found["kl"] < 0.9 * found["logit_kl"]
    position = world.measure("measure=loss_by_position", "measure.length=16", "measure.limit=2", *words)["values"]
    assert 0 < position["nats"] < 10
    attention = world.measure("measure=attention", "measure.examples=2", "measure.cells=3", *words)["values"]
    assert 0 < attention["entropy"] < 4


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("measure.lens=nothing", "measure.lens=nothing is no file, and no measurement in"),
        ("measure.prompts=nothing.csv", "measure.prompts=nothing.csv cannot be read"),
        ("measure.length=100000", "measure.length=100000 must be at least 1 and at most"),
        ("measure=attention measure.window=99999999", "measure.window=99999999 must be at most"),
        ("measure.clip=0", "measure.clip=0 must be a number above 0"),
        ("data=mad/compression", "measure=lens needs a language model, and this is a AutoEncoder"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(world, command, word, says):
    words = [
        one for one in world.words("measure=lens", "weights=fresh") if not word.startswith("data=") or "data" not in one
    ]
    assert says in command("measure", [*words, *word.split()]).refusal()
    assert not world.store.directory.exists()
