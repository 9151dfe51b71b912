"""Streams and windows: known answers on counted symbols, and that nothing is lost or read twice."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.data.streams import IGNORED, EvalWindows, TrainStreams
from diffmamba.errors import SettingError


def counted(count: int) -> np.ndarray:
    """Symbols that are their own position."""
    return np.arange(count, dtype=np.int32)


class Unrotated(TrainStreams):
    def offsets(self, epoch: int) -> np.ndarray:
        return np.zeros(len(self._streams), np.int64)


def test_windows_of_unrotated_streams() -> None:
    streams = Unrotated(counted(23), batch_size=2, length=4)
    (inputs, targets), (later, _) = streams
    assert inputs.tolist() == [[0, 1, 2, 3], [11, 12, 13, 14]]
    assert targets.tolist() == [[1, 2, 3, 4], [12, 13, 14, 15]]
    assert later.tolist() == [[4, 5, 6, 7], [15, 16, 17, 18]]


def test_text8_has_1034_steps_an_epoch() -> None:
    text8 = np.broadcast_to(np.uint8(0), 90_000_000)
    assert len(TrainStreams(text8, batch_size=170, length=512)) == 1034


def test_batches_are_int64() -> None:
    for batch in next(iter(TrainStreams(counted(40).astype(np.uint8), batch_size=2, length=4))):
        assert batch.dtype == torch.int64
        assert batch.is_contiguous()


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 60), st.integers(0, 3))
def test_an_epoch_is_one_stretch_of_every_rotated_stream(batch_size: int, length: int, more: int, epoch: int) -> None:
    symbols = counted(batch_size * (length + 1) + more)
    streams = TrainStreams(symbols, batch_size, length)
    streams.load_state_dict({"epoch": epoch, "position": 0})
    offsets = streams.offsets(epoch)
    stream_length = len(symbols) // batch_size
    batches = list(streams)
    assert len(batches) == len(streams) == (stream_length - 1) // length
    for row in range(batch_size):
        rotated = np.roll(symbols[row * stream_length : (row + 1) * stream_length], -offsets[row])
        used = len(batches) * length
        assert torch.cat([inputs[row] for inputs, _ in batches]).tolist() == rotated[:used].tolist()
        assert torch.cat([targets[row] for _, targets in batches]).tolist() == rotated[1 : used + 1].tolist()


def test_rotation_is_drawn_anew_each_epoch_and_the_same_each_time() -> None:
    streams, again = TrainStreams(counted(4000), 4, 10), TrainStreams(counted(4000), 4, 10)
    epochs = [torch.stack([inputs for inputs, _ in streams]) for _ in range(2)]
    assert not torch.equal(*epochs)
    assert torch.equal(torch.stack([inputs for inputs, _ in again]), epochs[0])
    other = TrainStreams(counted(4000), 4, 10, rotation_seed=43)
    assert np.array_equal(other.offsets(0), streams.offsets(1))
    assert len(set(streams.offsets(0).tolist())) == 4


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_ranks_and_parts_together_see_the_same_step(world_size: int, parts: int, more: int) -> None:
    batch_size = world_size * parts * more
    symbols = counted(batch_size * 33)
    whole = list(TrainStreams(symbols, batch_size, 10))
    ranks = [TrainStreams(symbols, batch_size, 10, 42, rank, world_size, parts) for rank in range(world_size)]
    assert {len(streams) for streams in ranks} == {len(whole) * parts}
    divided = [list(streams) for streams in ranks]
    for step, expected in enumerate(whole):
        share = [batch for batches in divided for batch in batches[step * parts : (step + 1) * parts]]
        assert torch.equal(torch.cat([inputs for inputs, _ in share]), expected[0])
        assert torch.equal(torch.cat([targets for _, targets in share]), expected[1])


@pytest.mark.parametrize("done", [0, 1, 4, 5, 6, 10, 13])
def test_restored_streams_continue_with_the_next_batch(done: int) -> None:
    def batches(streams: TrainStreams, count: int) -> list[list[list[int]]]:
        return list(islice((inputs.tolist() for _ in range(10) for inputs, _ in streams), count))

    first_run, interrupted, resumed = (TrainStreams(counted(204), 4, 10) for _ in range(3))
    uninterrupted = batches(first_run, 20)
    assert len(interrupted) == 5
    first = batches(interrupted, done)
    resumed.load_state_dict(interrupted.state_dict())
    assert first + batches(resumed, 20 - done) == uninterrupted


def test_position_of_another_run_is_refused() -> None:
    streams = TrainStreams(counted(204), 4, 10)
    with pytest.raises(SettingError, match=r"data\.batch_size, data\.length.*step 5 .*has 5 steps"):
        streams.load_state_dict({"epoch": 0, "position": 5})


@given(st.integers(2, 80), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_evaluation_predicts_every_symbol_but_the_first_once(
    count: int, length: int, batch_size: int, world_size: int
) -> None:
    predicted = []
    for rank in range(world_size):
        windows = EvalWindows(counted(count), batch_size, length, rank=rank, world_size=world_size)
        batches = list(windows)
        assert len(batches) == len(windows)
        for inputs, targets in batches:
            assert inputs.shape == targets.shape == (len(inputs), length)
            kept = targets != IGNORED
            assert torch.equal(targets[kept], inputs[kept] + 1)
            assert not inputs[~kept].any()
            predicted += targets[kept].tolist()
    assert sorted(predicted) == list(range(1, count))


def test_last_window_is_filled_up() -> None:
    ((inputs, targets),) = EvalWindows(counted(7), batch_size=2, length=4)
    assert inputs.tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert targets.tolist() == [[1, 2, 3, 4], [5, 6, IGNORED, IGNORED]]


def test_capped_windows_are_spread_evenly() -> None:
    windows = EvalWindows(counted(101), batch_size=3, length=10, windows=5)
    assert len(windows) == 2
    assert [start for inputs, _ in windows for start in inputs[:, 0].tolist()] == [0, 20, 40, 60, 80]
    assert len(list(EvalWindows(counted(101), 1, 10, windows=99))) == 10


@pytest.mark.parametrize(
    ("kind", "count", "settings", "words"),
    [
        (TrainStreams, 203, {"length": 50}, r"data\.batch_size, data\.length.* 4 streams of 50 \+ 1 .* the 203 of"),
        (TrainStreams, 203, {"world_size": 3}, r"data\.batch_size=4 .* 3 ranks .* use 3"),
        (TrainStreams, 203, {"batch_size": 2, "parts": 3}, r"data\.batch_size=2 .* 3 accumulated parts .* use 3"),
        (TrainStreams, 203, {"batch_size": 0}, r"data\.batch_size=0"),
        (TrainStreams, 203, {"length": 0}, r"data\.length=0"),
        (EvalWindows, 1, {}, "a split of 1 symbols, where 2 are needed"),
        (EvalWindows, 9, {"batch_size": 0}, r"data\.eval_batch_size=0"),
        (EvalWindows, 9, {"length": 0}, r"data\.length=0"),
        (EvalWindows, 9, {"windows": 0}, r"data\.eval_windows=0"),
    ],
)
def test_settings_that_do_not_fit(kind: type, count: int, settings: dict[str, int], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        kind(counted(count), **{"batch_size": 4, "length": 5} | settings)
