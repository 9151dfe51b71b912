"""Where a result comes from: code revision, package versions, hardware."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from diffmamba.configuration import CHECKOUT

SOURCES = "src"  # a result may depend on new files of it too
SETTINGS = ("conf", "experiments", "sweeps")  # what a new file of these sets is in the record
PACKAGES = (
    "diffmamba",
    "torch",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "wandb",
    "mamba-ssm",
    "causal-conv1d",
)


def git_state(directory: Path | None = CHECKOUT) -> dict[str, Any]:
    """The commit of our checkout and whether files differ from it. An installed package has no revision."""
    if directory is None:
        return {"revision": None, "dirty": False}

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    of_settings = git("status", "--porcelain", "--untracked-files=no", "--", *SETTINGS)
    changes = git("status", "--porcelain", "--", SOURCES) or of_settings
    return {"revision": git("rev-parse", "HEAD"), "dirty": bool(changes)}


def versions() -> dict[str, str]:
    """Installed versions of the packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine: CPU model, cores, threads in use, and the GPU's name where the run is on one."""
    described = {
        "device": device.type,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
