"""A checkpoint is written whole or not at all."""

import contextlib
import io
import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch

from diffmamba import atomic
from diffmamba.runs.checkpoint_files import AtomicCheckpoints
from diffmamba.runs.checkpoints import CompleteState, IncompleteCheckpointError


def write_half(path):
    """What a process does that is killed while it writes a checkpoint."""
    save = torch.save

    def killed(checkpoint, file):
        save(checkpoint, file)
        file.seek(file.tell() // 2)
        file.truncate()
        file.flush()
        os._exit(9)

    torch.save = killed
    AtomicCheckpoints().save_checkpoint({"step": 2, "weight": torch.ones(1000)}, path)


@pytest.fixture
def last(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"step": 1, "weight": torch.zeros(1000)}, path)
    return path


def test_a_killed_writer_leaves_the_old_checkpoint_whole(last):
    writer = multiprocessing.get_context("fork").Process(target=write_half, args=(last,))  # an import takes seconds
    writer.start()
    writer.join()
    assert writer.exitcode == 9
    found = torch.load(last, weights_only=True)
    assert found["step"] == 1
    assert torch.equal(found["weight"], torch.zeros(1000))
    (leftover,) = last.parent.glob(".last.ckpt.*.new")
    assert leftover.stat().st_size > 0
    atomic.remove_leftovers(last.parent.parent)
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_ends_a_write_is_not_hidden_by_the_writer(last, monkeypatch, error):
    """PyTorch's writer, ended before its time, raises an error of its own."""

    class Ended(io.BytesIO):
        def write(self, content):
            if self.tell():
                raise error
            return super().write(content)

        def fileno(self):
            raise AssertionError("it was not written")

    monkeypatch.setattr(atomic, "replacing", lambda *_: contextlib.nullcontext(Ended()))
    with pytest.raises(type(error)) as raised:
        AtomicCheckpoints().save_checkpoint({"weight": torch.ones(1000)}, last)
    assert raised.value is error


def test_a_checkpoint_is_written_beside_the_one_it_replaces(last, monkeypatch):
    """And forced to the disk before it takes the place."""
    happened = []
    fsync, replace = os.fsync, type(last).replace
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(os, "fsync", lambda number: happened.append("fsync") or fsync(number))
    monkeypatch.setattr(
        type(last), "replace", lambda path, target: happened.append(path.parent) or replace(path, target)
    )
    AtomicCheckpoints().save_checkpoint({"step": 2}, last)
    assert happened == ["fsync", last.parent]
    assert torch.load(last, weights_only=True) == {"step": 2}


def test_an_error_while_writing_leaves_the_old_checkpoint_and_nothing_else(last):
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpoints().save_checkpoint({"step": lambda: 2}, last)
    assert torch.load(last, weights_only=True)["step"] == 1
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


class Scaled:
    """Stands for the arithmetic of trainer.precision=16-mixed, which needs a GPU."""

    def state_dict(self):
        return {"scale": 65536.0}


def test_a_checkpoint_must_have_the_scale_of_the_gradients_if_the_run_has_one():
    trainer = SimpleNamespace(callbacks=[], datamodule=None, precision_plugin=Scaled())
    checkpoint = {"loops": {}, "lr_schedulers": [], "callbacks": {}}
    with pytest.raises(IncompleteCheckpointError, match="lacks the state of Scaled"):
        CompleteState().on_load_checkpoint(trainer, None, checkpoint)
    CompleteState().on_load_checkpoint(trainer, None, checkpoint | {"Scaled": {"scale": 1.0}})
