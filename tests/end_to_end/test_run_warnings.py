"""A training raises no warning but those that are expected, each for a reason."""

import warnings

import pytest

TWO = ("trainer.devices=2",)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("logger=default",),
        ("callbacks=early_stopping", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0"),
        ("scale.evaluate_every=null", "scale.steps=null", "scale.epochs=1", "trainer.precision=bf16-mixed"),
        ("trainer.precision=64-true", "+trainer.deterministic=true", "trainer.log_every_n_steps=1"),
        ("+trainer.profiler=simple", "+trainer.detect_anomaly=true"),
        ("trainer.precision=bf16-true", "trainer.log_every_n_steps=50", "trainer.strategy=ddp"),
        ("trainer.strategy=fsdp",),
    ],
)
def test_a_training_interrupted_and_resumed_raises_no_other_warning(world, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.interrupted(9, *settings)
        record = world.train(*settings)
    assert record["status"] == "finished", record["error"]
