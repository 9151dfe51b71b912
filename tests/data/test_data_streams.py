"""Streams and windows: known answers on counted symbols, and that nothing is lost or read twice."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.data.sliding import SlidingWindows
from diffmamba.data.streams import IGNORED, EvalWindows, TrainStreams
from diffmamba.errors import SettingError


def counted(count: int) -> np.ndarray:
    """Symbols that are their own position."""
    return np.arange(count, dtype=np.int32)


def test_windows_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rotation. Batches are int64 and contiguous. An epoch of Text8 has 1034 steps."""
    monkeypatch.setattr(TrainStreams, "offsets", lambda streams, epoch: np.zeros(2, np.int64))
    (inputs, targets), (later, _) = TrainStreams(counted(23).astype(np.uint8), batch_size=2, length=4)
    assert inputs.tolist() == [[0, 1, 2, 3], [11, 12, 13, 14]]
    assert targets.tolist() == [[1, 2, 3, 4], [12, 13, 14, 15]]
    assert later.tolist() == [[4, 5, 6, 7], [15, 16, 17, 18]]
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert len(TrainStreams(np.broadcast_to(np.uint8(0), 90_000_000), batch_size=170, length=512)) == 1034


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
    with pytest.raises(SettingError, match=r"data\.batch_size, data\.length.*step 5 .*has 5 steps"):
        resumed.load_state_dict({"epoch": 0, "position": 5})  # of another training


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


def test_last_window_is_filled_up_and_limited_windows_are_spread_evenly() -> None:
    ((inputs, targets),) = EvalWindows(counted(7), batch_size=2, length=4)
    assert inputs.tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert targets.tolist() == [[1, 2, 3, 4], [5, 6, IGNORED, IGNORED]]
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
        (SlidingWindows, 9, {"window": 0}, r"^window=0 must be at least 1$"),
        (SlidingWindows, 9, {"stride": 0}, r"^stride=0 must be at least 1$"),
        (SlidingWindows, 9, {"batch": -1}, r"^batch=-1 must be at least 1$"),
        (SlidingWindows, 9, {"limit": 0}, r"^limit=0 must be at least 1$"),
        (SlidingWindows, 9, {"stride": 5}, r"^stride=5 leaves symbols out.* at most window=4$"),
        (SlidingWindows, 1, {}, r"^split: one of 1 symbols has nothing to predict"),
    ],
)
def test_settings_that_do_not_fit(kind: type, count: int, settings: dict[str, int], words: str) -> None:
    fitting = {"window": 4, "stride": 2, "batch": 2} if kind is SlidingWindows else {"batch_size": 4, "length": 5}
    with pytest.raises(SettingError, match=words):
        kind(counted(count), **fitting | settings)


def test_windows_overlap_and_count_what_is_new() -> None:
    ((inputs, targets, new),) = SlidingWindows(counted(4), window=100, stride=1, batch=8)  # a short split is one window
    assert (inputs.tolist(), targets.tolist()) == ([[0, 1, 2]], [[1, 2, 3]])
    ((inputs, targets, new),) = SlidingWindows(counted(10), window=4, stride=2, batch=9)
    assert inputs.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 0]]
    assert targets.tolist() == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, IGNORED]]
    assert [row[mask].tolist() for row, mask in zip(targets, new, strict=True)] == [[1, 2, 3, 4], [5, 6], [7, 8], [9]]
    assert (inputs.dtype, targets.dtype, new.dtype) == (torch.int64, torch.int64, torch.bool)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_every_symbol_but_the_first_counts_once_with_the_longest_context(
    count: int, window: int, stride: int, batch: int
) -> None:
    stride = min(stride, window)
    windows = SlidingWindows(counted(count), window, stride, batch)
    assert windows.length == min(window, count - 1)
    batches = list(windows)
    sizes = [len(inputs) for inputs, _, _ in batches]
    assert sum(sizes) == len(windows)
    assert set(sizes[:-1]) <= {batch}
    context: dict[int, int] = {}
    for inputs, targets, new in batches:
        assert inputs.shape == targets.shape == new.shape == (len(inputs), windows.length)
        assert torch.equal(targets[targets != IGNORED], inputs[targets != IGNORED] + 1)
        assert not inputs[targets == IGNORED].any()
        assert not new[targets == IGNORED].any()
        assert new.any(1).all()  # no window for nothing
        for row, mask in zip(targets.tolist(), new.tolist(), strict=True):
            counting = {symbol: position for position, symbol in enumerate(row, 1) if mask[position - 1]}
            assert not counting.keys() & context
            context |= counting
    starts = range(0, count, stride)
    longest = {symbol: max(symbol - start for start in starts if 0 < symbol - start <= window) for symbol in context}
    assert sorted(context) == list(range(1, count))
    assert context == longest


@pytest.mark.parametrize("limit", [None, 1, 3, 7, 99])
@pytest.mark.parametrize("count", [7, 11, 41, 44])
def test_side_by_side_they_are_the_windows_of_a_runs_evaluation(count: int, limit: int | None) -> None:
    found, expected = SlidingWindows(counted(count), 5, 5, 2, limit), EvalWindows(counted(count), 2, 5, limit)
    for (inputs, targets, new), known in zip(list(found), list(expected), strict=True):
        assert torch.equal(inputs, known[0])
        assert torch.equal(targets, known[1])
        assert torch.equal(new, targets != IGNORED)


def test_limited_windows_are_spread_evenly() -> None:
    windows = SlidingWindows(counted(101), window=10, stride=5, batch=4, limit=5)
    batches = list(windows)
    assert len(windows) == 5
    assert [start for inputs, _, _ in batches for start in inputs[:, 0].tolist()] == [0, 15, 35, 55, 75]
    assert [row.sum().item() for _, _, new in batches for row in new] == [10, 5, 5, 5, 5]
