"""What each process of a local sweep has of the machine."""

from typing import Any

import pytest
import torch

from diffmamba import ranks, sweep


def config(batch_size: int = 16, **trainer: Any) -> dict[str, Any]:
    """A run's configuration, as far as it matters here."""
    chosen = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "accumulate_grad_batches": 1} | trainer
    return {"trainer": chosen, "data": {"batch_size": batch_size}}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def build(cores: int, gpus: int, visible: str | None = None) -> None:
        monkeypatch.setattr(sweep, "_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return build


def gpus(shares: list[dict[str, str]]) -> list[str]:
    return [share["CUDA_VISIBLE_DEVICES"] for share in shares]


def test_cores_are_divided_where_there_is_no_gpu(machine: Any) -> None:
    machine(cores=8, gpus=0)
    assert sweep.worker_shares(config(), 0, 100) == [{"OMP_NUM_THREADS": "1"}] * 8
    assert sweep.worker_shares(config(), 0, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert sweep.worker_shares(config(), 2, 100) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert sweep.worker_shares(config(devices=4), 0, 100) == [{"OMP_NUM_THREADS": "4"}] * 2


def test_each_run_has_gpus_of_its_own(machine: Any) -> None:
    machine(cores=64, gpus=4)
    assert gpus(sweep.worker_shares(config(), 0, 100)) == ["0", "1", "2", "3"]
    assert gpus(sweep.worker_shares(config(), 0, 2)) == ["0", "1"]
    assert gpus(sweep.worker_shares(config(devices=2), 0, 100)) == ["0,1", "2,3"]
    assert gpus(sweep.worker_shares(config(devices=3), 0, 100)) == ["0,1,2"]
    assert gpus(sweep.worker_shares(config(devices="auto"), 0, 100)) == ["0,1,2,3"]
    assert gpus(sweep.worker_shares(config(170, devices="auto"), 0, 100)) == ["0,1", "2,3"]  # 4 do not divide 170
    assert gpus(sweep.worker_shares(config(), 6, 100)) == ["0", "1", "2", "3", "0", "1"]
    assert "OMP_NUM_THREADS" in sweep.worker_shares(config(accelerator="cpu"), 0, 100)[0]


def test_only_visible_gpus_count(machine: Any) -> None:
    machine(cores=64, gpus=2, visible="5,GPU-abc")
    assert gpus(sweep.worker_shares(config(), 0, 100)) == ["5", "GPU-abc"]
    assert ranks.devices(config(devices="auto")) == 2
