"""Settings under which a training of any model takes less than a second."""

TINY = (
    *("model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.shallow=1", "scale.deep=1", "scale.d_model=64"),
    *("scale.headdim=32", "scale.d_state=8", "scale.batch_size=4", "scale.length=16", "scale.eval_batch_size=4"),
    *("scale.eval_windows=4", "scale.steps=2", "scale.evaluate_every=2", "scale.warmup_steps=1"),
    *("scale.lens.steps=2", "scale.lens.sequences=4", "trainer=cpu", "logger=csv", "threads=1"),
)

MAD = ("experiments=mad", "sweep=figure5", "sweep=lengths")
"""Words of the pages that choose MAD, whose sizes are others."""
TINY_MAD = (
    *("scale.mad.n_layers=1", "scale.mad.epochs=1", "scale.mad.batch_size=4", "data.examples=8", "data.evaluated=4"),
    *("trainer=cpu", "logger=csv", "threads=1"),
)
