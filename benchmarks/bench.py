"""What every section is given: the device, the sizes, a clock, and ways to tell how far it is and what was left out."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.passes import draw
from benchmarks.record import Target
from benchmarks.sizes import Sizes
from benchmarks.targets import TARGETS
from benchmarks.timing import Call, Clock, Patience
from benchmarks.variants import Scale, language_model, mixer
from diffmamba.mixers import Mixer
from diffmamba.models import LanguageModel

Cases = Mapping[str, Call]


@dataclass
class Bench:
    """One run of the benchmarks on one device."""

    device: torch.device
    sizes: Sizes
    started: float = field(default_factory=time.perf_counter)

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def tell(self, what: str) -> None:
        """A line of progress."""
        print(f"[{self.seconds:4.0f} s] {what}", file=sys.stderr, flush=True)

    def target(self, what: str) -> Target | None:
        """The target of a comparison on this device, if it has one."""
        return TARGETS[self.device.type].get(what)

    def mixer(self, name: str, scale: Scale | None = None) -> Mixer:
        """A variant's mixer on the device, at the size of a single mixer unless another one is given."""
        return mixer(name, scale or self.sizes.mixer, self.device)

    def network(self, name: str, scale: Scale) -> LanguageModel:
        """A variant's language model on the device."""
        return language_model(name, scale, self.device)

    def input(self, batch: int | None = None, length: int | None = None) -> Tensor:
        """What a single mixer is given, `(batch, length, d_model)`."""
        sizes = self.sizes
        return draw(batch or sizes.batch, length or sizes.length, sizes.mixer.d_model, device=self.device)

    def compare(self, what: str, cases: Cases, patience: Patience | None = None) -> dict[str, list[float]]:
        """Seconds of each case by round; says what it is at first."""
        self.tell(what)
        return self.clock.compare(cases, patience or self.sizes.patience)
