"""What the numbers were measured on: hardware, versions, revision, date."""

import os
import re
from importlib import metadata

import torch

from benchmarks.child import ROOT
from diffmamba.ops import backend
from diffmamba.runs import provenance

PEERS = ("transformers", "mambapy", "mamba-ssm", "causal-conv1d", "triton")


def load() -> str:
    """How busy the machine is; to be asked before there is any work of ours."""
    return f"{os.getloadavg()[0]:.2g} processes before the run"


def describe(device: torch.device, load: str) -> dict[str, str]:
    """Facts by name, in the order to print them; `load` as it was before the run."""
    hardware, git, versions = provenance.hardware(device), provenance.git_state(ROOT), provenance.versions()
    host = f"{hardware['cpu']}, {hardware['cores']} cores, threads: {hardware['threads']}"
    facts = {"device": host, "load": load, "precision": "float32"}
    if device.type == "cuda":
        name = f"{hardware['gpu']}, CUDA {torch.version.cuda}"
        facts = {"device": name, "host": host, "load": load, "precision": "bfloat16 autocast"}
    ours = {name: versions[name] for name in ("python", "torch", "diffmamba") if name in versions}
    return facts | {
        "kernels": backend.describe(device),
        "date": provenance.now(),
        "revision": (git["revision"] or "unknown")[:7] + (", with changes" if git["dirty"] else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in (ours | _of_peers()).items()),
    }


def slug(device: torch.device) -> str:
    """The device's name in file names: `cpu`, or such as `nvidia-h100-80gb-hbm3`."""
    if device.type == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def _of_peers() -> dict[str, str]:
    installed = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    return {name: installed[name] for name in PEERS if name in installed}
