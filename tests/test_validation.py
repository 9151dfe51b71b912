"""Settings against the annotations of what they are handed to: type, range, name, and the setting that is named."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pytest
from annotated_types import Ge, Gt, Len, Lt

from diffmamba import configuration
from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.ranges import Dropout, Seed, Share, Size
from diffmamba.runs.execution import work_of
from diffmamba.runs.work import Training
from diffmamba.settings import OF
from diffmamba.spelling import nearest
from diffmamba.validation import described, text_settings


def cases(lines: str) -> list[list[str]]:
    """A word and what is said of it, of each line."""
    return [[part.strip() for part in line.split("|")] for line in lines.strip().splitlines()]


REFUSED = """
optimizer.learning_rate=nan          | optimizer.learning_rate=nan must be a number of at least 0
optimizer.learning_rate=inf          | optimizer.learning_rate=inf must be a number of at least 0
optimizer.learning_rate=-1e-3        | optimizer.learning_rate=-0.001 must be a number of at least 0
scale.learning_rate=high             | scale.learning_rate=high must be a number of at least 0
optimizer.weight_decay=true          | optimizer.weight_decay=true must be a number of at least 0
optimizer.betas=[0.9]                | optimizer.betas=[0.9] must be a list of 2, each
optimizer.betas=0.9                  | optimizer.betas=0.9 must be a list of 2, each
optimizer.betas=[0.9,1.0]            | optimizer.betas=[0.9,1.0] must be a list of 2, each
optimizer.betas=null                 | optimizer.betas=null must be a list of 2
optimizer.warmup_steps=1.5           | optimizer.warmup_steps=1.5 must be a whole number of at least 0
optimizer.warmup_steps=-1            | optimizer.warmup_steps=-1 must be a whole number of at least 0
optimizer.schedule_steps=-5          | optimizer.schedule_steps=-5 must be a whole number of at least 1, or null
optimizer.schedule=cosine            | optimizer.schedule=cosine is not known; use one of published, to_end
model.dropout=1.5                    | model.dropout=1.5 must be a number of at least 0 and below 1
model.dropout=1                      | model.dropout=1 must be a number of at least 0 and below 1
scale.dropout=-0.1                   | scale.dropout=-0.1 must be a number of at least 0 and below 1
model.n_layers=1.0                   | model.n_layers=1.0 must be a whole number of at least 1
model.n_layers=0                     | model.n_layers=0 must be a whole number of at least 1
model.layer=mixer                    | model.layer=mixer must be a list, each entry one of mixer, ffn, swiglu
model.layer=[mixer,mlp]              | model.layer=[mixer,mlp] must be a list, each entry one of mixer, ffn, swiglu
model.outer_norm=yes                 | model.outer_norm=yes must be true or false
model.lambda_form=scaler             | model.lambda_form=scaler is not known; use one of scalar, reparam
model.lambda_form=null               | model.lambda_form=null must be one of scalar, reparam
model.d_conv=true                    | model.d_conv=true must be a whole number of at least 1
model.backend=gpu                    | model.backend=gpu is not known; use one of auto, torch, cpu, cuda, definition
data.batch_size=8.0                  | data.batch_size=8.0 must be a whole number of at least 1
data.batch_size=abc                  | data.batch_size=abc must be a whole number of at least 1
scale.batch_size=8.0                 | scale.batch_size=8.0 must be a whole number of at least 1
data.length=abc                      | data.length=abc must be a whole number of at least 1
data.eval_windows=4.5                | data.eval_windows=4.5 must be a whole number of at least 1, or null
data.rotation_seed=-1                | data.rotation_seed=-1 must be a whole number of at least 0
seed=4294967296                      | seed=4294967296 must be a whole number of at least 0 and below 4294967296
seed=1.5                             | seed=1.5 must be a whole number
seed=                                | seed= must be a whole number
seed=null                            | seed=null must be a whole number
scale.steps=abc                      | scale.steps=abc must be a whole number of at least 1, or null
budget.steps=0                       | budget.steps=0 must be a whole number of at least 1, or null
threads=two                          | threads=two must be a whole number of at least 1, or null
threads=0                            | threads=0 must be a whole number of at least 1, or null
compile=1                            | compile=1 must be true or false
retry=maybe                          | retry=maybe is not known; use one of failed
checkpoint.every_minutes=0           | checkpoint.every_minutes=0 must be a number above 0, or null
checkpoint.keep=0                    | checkpoint.keep=0 must be a whole number of at least 1
runs=null                            | runs=null must be text
group=1e3                            | group=1000.0 must be text, or null; if it is meant as text, quote it
trainer.accelerator=tpu              | trainer.accelerator=tpu is not known; use one of auto, cpu, gpu, cuda
trainer.precision=16                 | trainer.precision=16 must be one of 32-true
trainer.devices=0                    | trainer.devices=0 must be a whole number of at least 1, or one of auto, -1
trainer.gradient_clip_val=-1         | trainer.gradient_clip_val=-1 must be a number above 0, or null
trainer.log_every_n_steps=x          | trainer.log_every_n_steps=x must be a whole number of at least 0
scale.corpora=mine                   | scale.corpora=mine is not known; use one of embedded, published
task._target_=nowhere.Nothing        | task._target_=nowhere.Nothing cannot be imported: No module named 'nowhere'
model.mixers=[]                      | model.mixers=[] is empty
optimizer=null                       | optimizer=null: a group needs a choice; name one of its files
trainer=5                            | trainer=5: a group needs a choice; name one of its files
~optimizer                           | ~optimizer: a setting cannot be removed; give it another value
+trainer.nonsense=1                  | trainer.nonsense is no argument of lightning.Trainer
+optimizer.lr=1                      | optimizer.lr is no argument of AdamW; did you mean optimizer.learning_rate?
+model.network.depth=1               | model.network.depth is no argument of LanguageModel
+trainer.max_step=3                  | trainer.max_step is no argument of lightning.Trainer that a run can be given
scale=[1,2]                          | scale=[1,2]: a group needs a choice; name one of its files
=3                                   | '=3' is not a setting; write name=value
model=                               | model= is not known; available are
~model                               | ~model: a setting cannot be removed
+seed=3                              | +seed: seed is there already; leave out the +
+foo=1                               | +foo=1: nothing uses foo
+model.foo=1                         | +model.foo=1: nothing uses model.foo
"""


def shapes(word: str) -> Any:
    """The network that a word makes, without numbers."""
    return cast(Training, work_of(composed([word]))).shapes


@pytest.mark.parametrize(("word", "says"), cases(REFUSED))
def test_a_value_out_of_its_type_or_range_is_one_line(word: str, says: str) -> None:
    with pytest.raises(SettingError) as refused:
        shapes(word)
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


MISSPELT = """
optimizer.lr=1               | there is no setting optimizer.lr; did you mean optimizer.learning_rate?
optimizer.learning_rat=1     | there is no setting optimizer.learning_rat; did you mean optimizer.learning_rate?
optimiser.learning_rate=1    | did you mean optimizer.learning_rate?
learning_rate=1              | did you mean optimizer.learning_rate?
batch_size=8                 | did you mean data.batch_size?
model=diffmamba              | model=diffmamba is not known; did you mean diff_mamba?
data.copy=1                  | there is no setting data.copy; it belongs to data=mad/selective_copying
modle=mamba                  | there is no setting modle; did you mean model?
data=in_context_recall       | data=in_context_recall is not known; did you mean mad/in_context_recall? available are
data=pydoc                   | data=pydoc is not known; did you mean pydoc8?
experiments=tabel2           | experiments=tabel2 is not known; did you mean table2?
trainer.precison=32-true     | did you mean trainer.precision?
xyz=1                        | there is no setting xyz
"""


@pytest.mark.parametrize(("word", "says"), cases(MISSPELT))
def test_a_misspelt_name_gets_the_nearest(word: str, says: str) -> None:
    with pytest.raises(SettingError) as refused:
        composed([word])
    assert says in str(refused.value)
    assert ("did you mean" in says) == ("did you mean" in str(refused.value))


def test_a_choice_of_a_folder_is_told_with_all_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "mad").mkdir(parents=True)
    (tmp_path / "data" / "mad" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    tasks = [Path(file).stem for file in Path(configuration.CONF, "data", "mad").glob("*.yaml")]
    with pytest.raises(SettingError) as refused:
        composed(["data=mad/nonesuch"])
    known, _, available = str(refused.value).partition("; available are ")
    assert known == "data=mad/nonesuch is not known"
    assert sorted(available.split(", ")) == sorted(f"mad/{task}" for task in [*tasks, "mine"])


def test_nothing_is_like_a_name_that_is_like_nothing() -> None:
    assert nearest("xyz", ["model", "data.path", "seed"]) is None


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("group=2024", "group", "2024"),
        ("model.name=7", "model.name", "7"),
        ("optimizer.weight_decay=0", "optimizer.weight_decay", 0),
        ("trainer.devices=auto", "trainer.devices", "auto"),
        ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val", 1),
        ("+trainer.deterministic=true", "trainer.deterministic", True),
        ("model.embedding.cutoffs=[3,5]", "model.embedding.cutoffs", [3, 5]),
    ],
)
def test_good_values_stay_as_they_are(word: str, path: str, value: Any) -> None:
    found: Any = composed([word])
    for key in path.split("."):
        found = found[key]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Size, "a whole number of at least 1"),
        (Size | None, "a whole number of at least 1, or null"),
        (Seed, "a whole number of at least 0 and below 4294967296"),
        (Dropout, "a number of at least 0 and below 1"),
        (Share, "a number above 0 and at most 1"),
        (str | Path | None, "text, or null"),
        (Literal["a", "b"], "one of a, b"),
        (Annotated[Sequence[Dropout], Len(2, 2)], "a list of 2, each entry a number of at least 0 and below 1"),
        (Mapping[str, int], "a mapping of names to values"),
        (Callable[..., Any], "a part with a _target_"),
        (Annotated[float, Gt(0), Lt(3)], "a number above 0 and below 3"),
        (Annotated[int, Ge(-2)], "a whole number of at least -2"),
        (bool, "true or false"),
    ],
)
def test_an_annotation_in_words(annotation: Any, words: str) -> None:
    assert described(annotation) == words


def test_the_texts_of_a_command_are_known_from_its_schema() -> None:
    assert set(text_settings(OF["generate"])) == {"run", "prompt", "runs"}
    assert {"runs", "group"} <= set(text_settings(OF["train"]))
