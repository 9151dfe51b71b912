"""What every section is given: the device, the sizes, the targets, and ways to measure and to tell how far it is."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.models import Scale, mixer
from benchmarks.passes import JUDGED, draw, in_a_child, peak
from benchmarks.record import Target
from benchmarks.timing import Call, Patience, compare
from diffmamba.mixers import Mixer

PARTS = {"mixer": Scale, "training": Scale, "smoke": Scale, "decoding": Scale}
PARTS |= {"patience": Patience, "patience_with_networks": Patience}


def sizes_of(name: str) -> SimpleNamespace:
    """One set of `sizes.yaml`, which says what each size is: "cpu", "cuda" or "quick"."""
    content = read("sizes.yaml", "every") | read("sizes.yaml", name)
    return SimpleNamespace(**content | {part: build(**content[part]) for part, build in PARTS.items()})


@cache
def read(file: str, part: str) -> dict[str, Any]:
    """A part of a YAML file beside this one."""
    return yaml.safe_load((Path(__file__).parent / file).read_text(encoding="utf-8"))[part]


@dataclass
class Bench:
    """One run of the benchmarks on one device."""

    device: torch.device
    sizes: SimpleNamespace
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def tell(self, what: str) -> None:
        """A line of progress."""
        print(f"[{self.seconds:4.0f} s] {what}", file=sys.stderr, flush=True)

    def target(self, what: str, mode: str = JUDGED) -> Target | None:
        """The target of a comparison on this device, if it has one; only one mode is judged."""
        targets = read("targets.yaml", "every") | read("targets.yaml", self.device.type)
        return Target(**targets[what]) if what in targets and mode == JUDGED else None

    def mixer(self, name: str) -> Mixer:
        """A variant's mixer on the device, at the size of a single mixer."""
        return mixer(name, self.sizes.mixer, self.device)

    def input(self, batch: int | None = None, length: int | None = None) -> Tensor:
        """What a single mixer is given, `(batch, length, d_model)`."""
        sizes = self.sizes
        return draw(batch or sizes.batch, length or sizes.length, sizes.mixer.d_model, device=self.device)

    def peak(self, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
        """Bytes at the peak of a variant's pass (see `passes.peak`); on a CPU in a child process. Says what it is."""
        self.tell(f"memory: {variant}, {mode}, batch {batch}, length {length}")
        case = {"variant": variant, "scale": scale, "batch": batch, "length": length, "mode": mode}
        return peak(self.device, **case) if self.device.type == "cuda" else in_a_child(peak, device=self.device, **case)

    def compare(self, what: str, cases: Mapping[str, Call], patience: Patience | None = None) -> dict[str, list[float]]:
        """Seconds of each case by round; says what it is at first."""
        self.tell(what)
        return compare(cases, patience or self.sizes.patience)
