"""What the numbers were measured on: hardware, versions, revision, date."""

import datetime
import os
import re
from importlib import metadata

import torch

from benchmarks.child import ROOT
from diffmamba.ops import backend
from diffmamba.runs import provenance

PEERS = ("transformers", "mambapy", "mamba-ssm", "causal-conv1d", "triton")
BUSY = 0.3
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own switch


def load() -> str:
    """How busy the machine is; to be asked before there is any work of ours."""
    busy = os.getloadavg()[0]
    warning = "; others are at work, whose share grows with the number of threads" if busy > BUSY else ""
    return f"{busy:.2g} processes before the run{warning}"


def describe(device: torch.device, load: str) -> dict[str, str]:
    """Facts by name, in the order to print them; `load` as it was before the run."""
    hardware = provenance.hardware(device)
    host = f"{hardware['cpu']}, {hardware['cores']} cores, threads: {hardware['threads']}"
    facts = {"device": host, "load": load, "precision": "float32"}
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        name = f"{hardware['gpu']}, {memory:.0f} GiB, CUDA {torch.version.cuda}"
        facts |= {"device": name, "host": host, "precision": "bfloat16 autocast"}
    elif os.environ.get(HUGE_PAGES) == "1":
        facts["memory"] = f"large tensors in huge pages, {HUGE_PAGES}=1"
    facts["kernels"] = backend.describe(device)
    facts["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    git = provenance.git_state(ROOT)
    facts["revision"] = (git["revision"] or "unknown")[:7] + (", with changes" if git["dirty"] else "")
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return facts


def slug(device: torch.device) -> str:
    """The device's name in file names: `cpu`, or such as `nvidia-h100-80gb-hbm3`."""
    if device.type == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def _versions() -> dict[str, str]:
    """Of Python, PyTorch and this package, then of the peers that are installed."""
    found = {key: value for key, value in provenance.versions().items() if key in ("python", "torch", "diffmamba")}
    for package in PEERS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
