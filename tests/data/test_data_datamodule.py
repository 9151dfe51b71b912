"""The data module: what Lightning gets, what a record says, and that a resumed training sees the next window."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from diffmamba.data.corpus import CorpusChoice, prepare
from diffmamba.data.datamodule import LanguageModellingData
from diffmamba.data.sources import TextFile
from diffmamba.errors import SettingError

EPOCH = 5  # steps per epoch of the data below


def new_data(folder: Path) -> LanguageModellingData:
    path = folder / "random.bin"
    np.random.default_rng(0).integers(0, 200, 227, dtype=np.uint8).tofile(path)  # 204 of them to train on
    corpus = prepare(TextFile(path), "bytes", folder / "data")
    return LanguageModellingData(corpus=corpus, batch_size=4, length=10, eval_batch_size=1)


class Recorder(LightningModule):
    """Learns nothing to speak of; remembers the batches it was given and when it was validated."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[list[list[int]]] = []
        self.validated: dict[int, set[int]] = {}

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        self.batches.append(batch[0].tolist())
        return self.weight * batch[1].float().mean()

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int, dataloader_idx: int) -> None:
        self.validated.setdefault(self.global_step, set()).add(dataloader_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0  # as a schedule would; builds the training loader early
        return torch.optim.SGD(self.parameters(), 1e-3)


QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def fit(
    data: LanguageModellingData, saving: ModelCheckpoint | None, checkpoint: Path | None, **limits: Any
) -> Recorder:
    model = Recorder()
    callbacks = {"callbacks": [saving]} if saving else {"enable_checkpointing": False}
    Trainer(accelerator="cpu", **QUIET, **callbacks, **limits).fit(model, datamodule=data, ckpt_path=checkpoint)
    return model


STEPS = {"max_steps": 12, "max_epochs": None, "val_check_interval": 3, "check_val_every_n_epoch": None}
EPOCHS = {"max_steps": -1, "max_epochs": 3}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("limits", "at_epoch_end", "saved"),
    [
        (STEPS, False, [3, 6, 9, 12]),
        (STEPS | {"val_check_interval": 5}, False, [5, 10]),
        (STEPS, True, [5, 10, 12]),
        (EPOCHS, False, [5, 10, 15]),
        (EPOCHS, True, [5, 10, 15]),
    ],
)
def test_resumed_run_sees_what_the_uninterrupted_one_saw(
    tmp_path: Path, limits: dict[str, int | None], at_epoch_end: bool, saved: list[int]
) -> None:
    saving = ModelCheckpoint(tmp_path / "saved", "{step}", save_top_k=-1, save_on_train_epoch_end=at_epoch_end)
    uninterrupted = fit(new_data(tmp_path), saving, None, **limits)
    checkpoints = {int(path.stem.split("=")[1]): path for path in (tmp_path / "saved").iterdir()}
    assert sorted(checkpoints) == saved
    for step, path in checkpoints.items():
        resumed = fit(new_data(tmp_path), None, path, **limits)
        assert resumed.batches == uninterrupted.batches[step:], f"resumed at step {step}"


@pytest.mark.filterwarnings("ignore")
def test_run_stopped_by_max_steps_goes_on(tmp_path: Path) -> None:
    uninterrupted = fit(new_data(tmp_path), None, None, **STEPS)
    last = ModelCheckpoint(tmp_path / "last", save_last=True, save_top_k=0, every_n_train_steps=1)
    first = fit(new_data(tmp_path), last, None, **STEPS | {"max_steps": 7})
    resumed = fit(new_data(tmp_path), None, tmp_path / "last" / "last.ckpt", **STEPS)
    assert first.batches + resumed.batches == uninterrupted.batches
    assert first.validated | resumed.validated == uninterrupted.validated
    assert uninterrupted.validated == {step: {0, 1} for step in (3, 6, 9, 12)}


def test_loaders_and_facts(tmp_path: Path) -> None:
    data = new_data(tmp_path)
    assert data.steps_per_epoch == len(data.train_dataloader()) == EPOCH
    assert [len(loader) for loader in data.val_dataloader()] == [1, 2]
    size, fingerprint = len(data.corpus.vocabulary.symbols), data.corpus.fingerprint
    sizes = {"train": 204, "val": 11, "test": 12}
    assert data.vocabulary_size == size
    assert data.facts == {"name": "random", "fingerprint": fingerprint, "sizes": sizes, "vocabulary": size}


def test_it_says_what_was_read_and_how_much_of_it_is_used(tmp_path: Path) -> None:
    data = new_data(tmp_path)  # 204 = 4 * 51, 11 and 12 symbols, windows of 10
    size = data.vocabulary_size
    assert data.described() == (
        f"random: 227 symbols of {size} different ones (train 204, val 11, test 12); 4 streams of 51; "
        "evaluations read 1 of 1 windows of val, 2 of 2 windows of test"
    )
    sizes = {"batch_size": 5, "length": 4, "eval_batch_size": 1, "eval_windows": 2}
    said = LanguageModellingData(corpus=data.corpus, **sizes).described()  # type: ignore[arg-type]
    assert "5 streams of 40, 4 symbols at the end are not used; " in said
    assert said.endswith("evaluations read 2 of 3 windows of val, 2 of 3 windows of test")


def test_data_of_known_content_need_no_text(tmp_path: Path) -> None:
    (path := tmp_path / "story.txt").write_text("the quick brown fox " * 20)
    settings = {
        "batch_size": 4,
        "length": 10,
        "eval_batch_size": 1,
        "corpus": CorpusChoice(TextFile(path), "words", tmp_path),
    }
    data = LanguageModellingData(**settings)  # type: ignore[arg-type]
    path.unlink()
    CorpusChoice.forget()
    assert LanguageModellingData.known_by(data.facts["fingerprint"], **settings).facts == data.facts
    with pytest.raises(SettingError, match="there is no file"):
        LanguageModellingData.known_by("another", **settings)


def test_symbols_are_those_of_the_weights(tmp_path: Path) -> None:
    """Words that these do not know are counted; a given corpus, which has no text, is refused if it has others."""
    for name, words in {"known": "one two three ", "other": "one two four "}.items():
        (tmp_path / f"{name}.txt").write_text(words * 50)
    sizes = {"batch_size": 2, "length": 10, "eval_batch_size": 1}
    choices = [CorpusChoice(TextFile(tmp_path / f"{name}.txt"), "words", tmp_path) for name in ("known", "other")]
    known, other = (LanguageModellingData(corpus=choice, **sizes) for choice in choices)  # type: ignore[arg-type]
    assert known.read_as(known.symbols, 5, "a run") is known
    read = other.read_as(known.symbols, 5, "a run")
    assert (read.symbols, read.facts["own_vocabulary"]) == (known.symbols, False)
    assert read.facts["unknown"] == {"train": 45, "val": 2, "test": 3}
    assert other.facts["unknown"] == {"train": 0, "val": 0, "test": 0}
    assert "own_vocabulary" not in other.facts
    given = LanguageModellingData(corpus=other.corpus, **sizes)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"a run was trained on other symbols than those of other: number \d is"):
        given.read_as(known.symbols, 5, "a run")
