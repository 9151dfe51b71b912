"""What the numbers were measured on: hardware, versions, revision, date."""

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from diffmamba.ops import backend

PACKAGES = ("diffmamba", "transformers", "mambapy", "mamba-ssm", "causal-conv1d", "triton")
BUSY = 0.3
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own switch
ROOT = Path(__file__).resolve().parents[1]


def load() -> str:
    """How busy the machine is; to be asked before there is any work of ours."""
    try:
        busy = os.getloadavg()[0]
    except OSError:
        return "unknown"
    warning = "; others are at work, whose share grows with the number of threads" if busy > BUSY else ""
    return f"{busy:.2g} processes before the run{warning}"


def describe(device: torch.device, load: str) -> dict[str, str]:
    """Facts by name, in the order to print them; `load` as it was before the run."""
    cores = f"{_cpu_model()}, {os.cpu_count()} cores, threads: {torch.get_num_threads()}"
    facts = {"device": _gpu(device) if device.type == "cuda" else cores}
    if device.type == "cuda":
        facts["host"] = cores
    facts["load"] = load
    if device.type == "cpu" and os.environ.get(HUGE_PAGES) == "1":
        facts["memory"] = f"large tensors in huge pages, {HUGE_PAGES}=1"
    facts["precision"] = "bfloat16 autocast" if device.type == "cuda" else "float32"
    facts["kernels"] = backend.describe(device)
    facts["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts["revision"] = _revision()
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return facts


def slug(device: torch.device) -> str:
    """The device's name in file names: `cpu`, or such as `nvidia-h100-80gb-hbm3`."""
    if device.type == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def _gpu(device: torch.device) -> str:
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "torch": torch.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    revision = git("rev-parse", "--short", "HEAD")
    if revision is None:
        return "unknown"
    return f"{revision}, with changes" if git("status", "--porcelain", "--", "src", "benchmarks") else revision


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
