"""What each process of a local sweep has of the machine."""

import pytest
import torch

from diffmamba.runs import engine
from diffmamba.runs.processes import Devices


def shares(workers, runs, batch_size=16, accelerator="auto", **more):
    return engine.worker_shares(Devices(accelerator, batch_size=batch_size, **more), workers, runs)


@pytest.fixture
def machine(monkeypatch):
    def build(cores, gpus, visible=None):
        monkeypatch.setattr(engine, "_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return build


def gpus(given):
    return [share["CUDA_VISIBLE_DEVICES"] for share in given]


def test_cores_are_divided_where_there_is_no_gpu(machine):
    machine(cores=8, gpus=0)
    assert shares(0, 100) == [{"OMP_NUM_THREADS": "1"}] * 8
    assert shares(0, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert shares(2, 100) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert shares(0, 100, devices=4) == [{"OMP_NUM_THREADS": "4"}] * 2


def test_each_run_has_gpus_of_its_own(machine):
    machine(cores=64, gpus=4)
    assert gpus(shares(0, 100)) == ["0", "1", "2", "3"]
    assert gpus(shares(0, 2)) == ["0", "1"]
    assert gpus(shares(0, 100, devices=2)) == ["0,1", "2,3"]
    assert gpus(shares(0, 100, devices=3)) == ["0,1,2"]
    assert gpus(shares(0, 100, devices="auto")) == ["0,1,2,3"]
    assert gpus(shares(0, 100, batch_size=170, devices="auto")) == ["0,1", "2,3"]  # 4 do not divide 170
    assert gpus(shares(6, 100)) == ["0", "1", "2", "3", "0", "1"]
    assert "OMP_NUM_THREADS" in shares(0, 100, accelerator="cpu")[0]


def test_only_visible_gpus_count(machine):
    machine(cores=64, gpus=2, visible="5,GPU-abc")
    assert gpus(shares(0, 100)) == ["5", "GPU-abc"]
    assert Devices("auto", "auto", batch_size=16).here() == 2
